"""What is heard beside each picture: levels of sound, networks, datasets, training, scores, LIME and stages."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from recordings import SOUND_RATE, make_numbered
from tiny_frames import make_frames, with_parts
from torch import nn

from hlkit import stages
from hlkit.clips import clip_windows
from hlkit.dataset import ClipDataset, FrameDataModule, FrameDataset
from hlkit.explain import explain_frame
from hlkit.models import ModelConfig, ResNetClassifier, RNNClassifier, build_model
from hlkit.predict import predict, predict_frames
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sound import BANDS, LEVELS, SOFTEST_DB, log_mel, second_levels
from hlkit.stages.materials import with_sound
from hlkit.training import fit, load_model

BACKBONE = "mobilenet_v3_small"


@pytest.fixture(autouse=True)
def one_thread():
    """On pictures this small a second thread waits more than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- levels ---


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Two seconds of 1 kHz at -20 dBFS amplitude, two of silence, two of 1 kHz at -6.02 dBFS."""
    path = tmp_path_factory.mktemp("tones") / "tones.mp4"
    time = np.arange(2 * SOUND_RATE) / SOUND_RATE
    tone = np.sin(2 * np.pi * 1000 * time)
    make_numbered(path, seconds=6, sound=np.concatenate([0.1 * tone, 0 * tone, 0.5 * tone]))
    return path


@pytest.mark.parametrize("fps", ["3", "5", "30"])
def test_the_power_is_that_of_the_second_around_a_frame(tones, fps):
    count = int(6 * ModelConfig(fps=fps).frame_rate)
    levels = second_levels(log_mel(tones, fps=fps, count=count, progress=False), fps=fps, heard="power")[:, 0]
    times = np.arange(count) / float(ModelConfig(fps=fps).frame_rate)
    inside = {-20: (times >= 0.6) & (times < 1.4), -6.02: (times > 4.6) & (times < 5.4)}
    quiet = levels[(times > 2.6) & (times < 3.4)]
    assert np.ptp(levels[inside[-20]]) < 0.1
    assert levels[inside[-6.02]].mean() - levels[inside[-20]].mean() == pytest.approx(13.98, abs=0.2)
    assert (quiet == SOFTEST_DB).all()
    # At the border half of the second is silent, and half of the power is 3 dB less.
    before, at = np.interp([1.4, 2.0], times, levels)
    assert before - at == pytest.approx(3.01, abs=0.3)


spectra = st.integers(1, 30).flatmap(
    lambda count: st.integers(1, 9).flatmap(
        lambda slices: arrays(np.float16, (count, slices, 3), elements=st.integers(-100, 0).map(float))
    )
)


@given(spectra, st.sampled_from(["1/2", "1", "3", "5", "30000/1001"]))
def test_levels_are_plain_means_of_power_in_half_a_second_to_either_side(spectrum, fps):
    count, slices, bands = spectrum.shape
    rate = float(ModelConfig(fps=fps).frame_rate) * slices
    reach = max(1, round(rate / 2))
    power = 10 ** (spectrum.reshape(-1, bands).astype(np.float64) / 10)
    plain = [power[max(0, i * slices - reach) : i * slices + reach].mean(axis=0) for i in range(count)]
    wanted = 10 * np.log10(np.maximum(plain, 1e-8))
    np.testing.assert_allclose(second_levels(spectrum, fps=fps, heard="spectrum"), wanted, atol=1e-3)
    together = 10 * np.log10(np.maximum(np.sum(plain, axis=1), 1e-8))
    np.testing.assert_allclose(second_levels(spectrum, fps=fps, heard="power")[:, 0], together, atol=1e-3)


def test_no_level_depends_on_sound_that_is_further_away_than_half_a_second():
    dice = np.random.default_rng(0)
    spectrum = dice.uniform(-90, -10, (1200, 12, BANDS)).astype(np.float16)
    changed = spectrum.copy()
    changed[600] = 0  # the sound from 200 s to 200 1/3 s
    for heard in ("power", "spectrum"):
        one, other = (second_levels(each, fps=3, heard=heard) for each in (spectrum, changed))
        assert one.shape == (1200, LEVELS[heard])
        # The seconds around 199 2/3, 200, 200 1/3 and 200 2/3 s reach into it.
        assert np.flatnonzero((one != other).any(axis=1)).tolist() == [599, 600, 601, 602]
    np.testing.assert_array_equal(one[:590], second_levels(spectrum[:592], fps=3, heard="spectrum")[:590])


# --- networks ---


def network(kind="clip", sound="spectrum", **values):
    """An untrained network that has seen and heard a batch, and listens keenly, in double precision."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(kind=kind, backbone=BACKBONE, hidden_size=8, sound=sound, **values)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    joined = model.classifier.weight if isinstance(model, ResNetClassifier) else model.rnn.weight_ih_l0
    with torch.no_grad():
        joined[:, -LEVELS[sound] :] *= 30 if sound == "power" else 5
    clips, levels = inputs(8, LEVELS[sound])
    with torch.no_grad():
        model.train()(*((clips, levels) if kind == "clip" else (clips.flatten(0, 1), levels.flatten(0, 1))))
    return model.eval()


def inputs(count, width=BANDS):
    """Random clips `(count, 4, 3, 32, 32)` and levels `(count, 4, width)`."""
    dice = torch.Generator().manual_seed(1)
    clips = torch.rand(count, 4, 3, 32, 32, generator=dice).double()
    return clips, torch.rand(count, 4, width, generator=dice).double() * 60 - 80


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_logits_are_the_same_alone_and_in_any_batch_and_hear(kind):
    model, (clips, levels) = network(kind), inputs(5)
    if kind == "frame":
        clips, levels = clips[:, 0], levels[:, 0]
    with torch.inference_mode():
        together = model(clips, levels)
        alone = torch.cat([model(clip[None], level[None]) for clip, level in zip(clips, levels, strict=True)])
        other = model(clips, levels.flip(0))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)
    assert (together[[0, 1, 3, 4]] - other[[0, 1, 3, 4]]).abs().max(dim=1).values.min() > 1e-6
    torch.testing.assert_close(together[2], other[2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_unknown_sound_counts_as_the_mean_of_what_was_heard(kind):
    model, (clips, levels) = network(kind), inputs(8)
    mean = levels.flatten(0, 1).mean(dim=0).expand_as(levels)
    unknown = torch.full_like(levels, torch.nan)
    if kind == "frame":
        clips, mean, unknown = clips[:, 0], mean[:, 0], unknown[:, 0]
    with torch.inference_mode():
        silent, nothing, average = model(clips, unknown), model(clips), model(clips, mean)
    assert silent.isfinite().all()
    assert torch.equal(silent, nothing)
    torch.testing.assert_close(silent, average, rtol=0, atol=1e-9)


def test_a_deaf_networks_checkpoint_is_what_it_was():
    names = set(ResNetClassifier(BACKBONE).state_dict())
    assert not [name for name in names if name.startswith("sound")]
    heard = ResNetClassifier(BACKBONE, sound="power")
    assert set(heard.state_dict()) - names == {
        f"sound.scale.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert heard.num_inputs == heard.backbone.num_features + 1
    assert RNNClassifier(BACKBONE, sound="spectrum").rnn.input_size == heard.backbone.num_features + BANDS


def test_the_config_says_what_is_heard_and_nothing_where_nothing_is():
    assert "sound" not in ModelConfig().to_dict()
    config = ModelConfig(kind="clip", sound="spectrum", head=(5,))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(HlkitError, match="sound is 'loud'; none and power and spectrum are allowed"):
        ModelConfig(sound="loud")  # pyright: ignore[reportArgumentType]


# --- datasets ---


def heard_frames(root, labels, *, video="a", **options):
    """A frame table whose `sound` is the frame's number."""
    frames = make_frames(root, video, labels, **options)
    levels = frames["frame"].to_numpy().astype(np.float32)[:, None]
    return frames.with_columns(pl.Series("sound", levels, dtype=pl.Array(pl.Float32, 1)))


def test_each_picture_comes_with_its_own_sound(tmp_path):
    frames = heard_frames(tmp_path, [0, 1, 0, 1, 0, 0, 1, 1, 0, 1], missing=[4])
    numbers = frames["frame"].to_list()
    for dataset in (FrameDataset(frames, tmp_path), FrameDataset(frames[::-1], tmp_path)):
        order = dataset.frames["frame"].to_list()
        assert [dataset[index][1].item() for index in range(9)] == order
        assert [dataset[index][2] for index in range(9)] == dataset.frames["label"].to_list()
    clips = ClipDataset(frames, tmp_path, num_frames_per_clip=3)
    for index, window in enumerate(clip_windows(frames, 3)):
        clip, sound, label = clips[index]
        assert clip.shape == (3, 3, 32, 32)
        assert sound[:, 0].tolist() == [numbers[place] for place in window]
        assert label == frames["label"][index]


@pytest.mark.parametrize("length", [None, 3])
def test_batches_keep_picture_sound_and_label_together(tmp_path, length):
    frames = with_parts(heard_frames(tmp_path, [frame % 3 % 2 for frame in range(30)]))
    data = FrameDataModule(frames, tmp_path, batch_size=5, num_frames_per_clip=length, positive_share=0.5)
    labels = dict(frames.select("frame", "label").iter_rows())
    seen = 0
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        _, sound, truth = data.on_after_batch_transfer(batch, 0)
        centre = sound[:, 0] if length is None else sound[:, 1, 0]
        assert [labels[int(number)] for number in centre.flatten()] == truth.tolist()
        seen += len(truth)
    assert seen >= 25


# --- training and scores ---


def audible_frames(root, video, count=60, *, seed=0):
    """Pictures that show nothing; in every second five frames it is loud, and these are the highlights."""
    frames = make_frames(root, video, [0] * count, size=16, seed=seed)
    label = np.arange(count) // 5 % 2
    levels = (np.random.default_rng(seed).normal(-40, 3, count) + 15 * label).astype(np.float32)[:, None]
    return frames.with_columns(
        pl.Series("label", label, dtype=pl.Int8), pl.Series("sound", levels, dtype=pl.Array(pl.Float32, 1))
    )


@pytest.fixture(scope="module", params=["frame", "clip"])
def listener(request, tmp_path_factory):
    """A model that learned by its ears alone: its folder, and the table it learned from."""
    root = tmp_path_factory.mktemp("listener")
    frames = with_parts(audible_frames(root, "a"))
    config = ModelConfig(
        kind=request.param, backbone="measures", size=16, num_frames_per_clip=3, hidden_size=8, sound="power"
    )
    options = {"epochs": 12, "batch_size": 12, "learning_rate": 0.05, "accelerator": "cpu", "progress": False}
    return root, fit(frames, root, root / "run", config=config, **options)


def test_a_network_learns_from_sound_what_no_picture_shows(listener):
    root, checkpoint = listener
    assert pl.read_csv(root / "run" / "metrics.csv")["val_ap"].max() > 0.95
    assert "it hears the sound's power" in (root / "run" / "card.md").read_text()
    model, config = load_model(checkpoint, device="cpu")
    assert config.sound == "power"
    other = audible_frames(root, f"b{config.kind}", seed=1)
    quiet = {"device": "cpu", "progress": False}
    scores = predict_frames(model, config, other, root, **quiet)["score"].to_numpy()
    truth = other["label"].to_numpy() == 1
    assert scores[truth].mean() > scores[~truth].mean() + 0.5
    swapped = other.with_columns(pl.Series("sound", other["sound"].to_numpy()[::-1], dtype=other.schema["sound"]))
    assert abs(predict_frames(model, config, swapped, root, **quiet)["score"].to_numpy() - scores).max() > 0.5
    with pytest.raises(HlkitError, match=r"hears the sound's power, .* no column 'sound'"):
        predict_frames(model, config, other.drop("sound"), root, **quiet)


def test_stored_frames_are_scored_as_the_dataset_shows_them(listener):
    root, checkpoint = listener
    model, config = load_model(checkpoint, device="cpu")
    frames = audible_frames(root, f"c{config.kind}", 20, seed=2)
    data = ClipDataset(frames, root, num_frames_per_clip=3) if config.kind == "clip" else FrameDataset(frames, root)
    with torch.inference_mode():
        logits = torch.cat([model(data[index][0][None], data[index][1][None]) for index in range(20)])
    found = predict_frames(model, config, frames, root, batch_size=3, device="cpu", progress=False)["score"]
    assert found.to_list() == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=0.02)


def test_training_says_whose_sound_is_missing(tmp_path):
    frames = with_parts(audible_frames(tmp_path, "a"))
    config = ModelConfig(backbone="measures", size=16, sound="power")
    for table, message in (
        (frames.drop("sound"), "no column 'sound'"),
        (frames.with_columns(sound=pl.lit([0.0] * 2, dtype=pl.Array(pl.Float32, 2))), "no column 'sound' .1 f32"),
        (frames.with_columns(sound=pl.lit([np.nan], dtype=pl.Array(pl.Float32, 1))), "a: no sound to learn from"),
    ):
        with pytest.raises(HlkitError, match=message):
            fit(table, tmp_path, tmp_path / "run", config=config, progress=False)


def test_other_sound_is_learned_anew(tmp_path):
    frames = with_parts(audible_frames(tmp_path, "a"))
    config = ModelConfig(backbone="measures", size=16, sound="power")
    options = {"config": config, "epochs": 1, "accelerator": "cpu", "progress": False}
    file = fit(frames, tmp_path, tmp_path / "run", **options)
    first = file.read_bytes()
    assert fit(frames, tmp_path, tmp_path / "run", **options).read_bytes() == first
    louder = frames.with_columns(pl.Series("sound", frames["sound"].to_numpy() + 1, dtype=frames.schema["sound"]))
    assert fit(louder, tmp_path, tmp_path / "run", **options).read_bytes() != first


def score(model, config, video, **values):
    options = {"video_id": "a", "batch_size": 8, "device": "cpu", "accelerator": "cpu", "progress": False}
    return predict(model, config, video, **options | values)["score"].to_numpy()


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_a_stretch_of_a_recording_sounds_as_it_does_in_the_whole(tones, kind):
    config = ModelConfig(kind=kind, size=32, num_frames_per_clip=4, sound="power")
    model = network(kind, "power").float()
    whole = score(model, config, tones)
    assert len(whole) == 18
    assert np.ptp(whole) > 0.01
    for start, end in ((0, 2), (1.1, 3.9), (2, 5), (4.5, 6)):
        first, stop = int(np.ceil(start * 3)), int(np.ceil(end * 3))
        np.testing.assert_allclose(score(model, config, tones, start=start, end=end), whole[first:stop], atol=1e-6)


def test_a_recording_without_sound_is_scored_aloud(tmp_path, tones):
    make_numbered(tmp_path / "mute.mp4", seconds=2)
    model, config = network("frame", "power").float(), ModelConfig(size=32, sound="power")
    with pytest.warns(HlkitWarning, match=r"mute\.mp4 has no sound"):
        found = score(model, config, tmp_path / "mute.mp4")
    deaf = score(model, config, tones, end=2)
    assert len(found) == 6
    assert np.isfinite(found).all()
    assert abs(found - deaf).max() > 1e-3


# --- LIME ---


@pytest.mark.parametrize(("kind", "levels"), [("frame", (BANDS,)), ("clip", (BANDS,)), ("clip", (4, BANDS))])
def test_lime_hears_what_the_model_heard(kind, levels):
    model, dice = network(kind).float(), np.random.default_rng(0)
    config = ModelConfig(kind=kind, size=32, num_frames_per_clip=4, sound="spectrum")
    clip = dice.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    sound = (dice.random(levels) * 60 - 80).astype(np.float32)
    moving = clip if len(levels) == 2 else None
    options = {"clip": moving, "num_samples": 100, "num_segments": 4}
    found = explain_frame(model, config, clip[2], sound=sound, **options)
    pictures = torch.from_numpy(clip if moving is not None else np.stack([clip[2]] * 4)).permute(0, 3, 1, 2)
    heard = torch.from_numpy(np.broadcast_to(sound, (4, BANDS)).copy())
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(pictures[2:3], heard[2:3]) if kind == "frame" else model(pictures[None], heard[None])
    assert found.score == pytest.approx(logits.float().softmax(1)[0, 1].item(), abs=0.02)
    assert found.score != explain_frame(model, config, clip[2], **options).score


# --- stages ---


def test_a_run_that_hears_is_trained_scored_and_explained(copied, monkeypatch):
    said = []
    options = {"backbone": "measures", "num_frames_per_clip": 4, "rnn": "lstm", "sound": "power", "sequence": "none"}
    options |= {"epochs": 2, "learning_rate": 0.03, "progress": False}
    checkpoint = stages.train(copied, videos=["learn"], run="ears", **options, say=said.append)
    model, config = load_model(checkpoint, device="cpu")
    assert (config.sound, config.rnn, config.kind) == ("power", "lstm", "clip")
    assert isinstance(model.rnn, nn.LSTM)
    stages.infer(copied, run="ears", progress=False, say=said.append)
    stored = pl.read_parquet(copied.scores("ears", "judge"))
    from_file = predict(model, config, copied.video("judge"), video_id="judge", device="cpu", progress=False)
    # The stored pictures went through JPEG.
    np.testing.assert_allclose(stored["score"], from_file["score"], atol=0.05)
    heard = []

    def listening(*args, sound=None, **options):
        heard.append(sound)
        return explain_frame(*args, sound=sound, num_samples=100, **options)

    monkeypatch.setattr("hlkit.explain.explain_frame", listening)
    stages.explain(copied, run="ears", say=said.append)
    best = stored.sort("score", descending=True)["time"][0]
    table = with_sound(copied, pl.read_parquet(copied.index("judge")), fps="3", heard="power", progress=False)
    assert heard[0].tolist() == table.filter(pl.col("time") == best)["sound"][0].to_list()
    assert copied.scores("ears", "judge").with_name("judge-lime.png").is_file()
    stages.train(copied, videos=["learn"], run="ears", **options, say=said.append)
    assert said[-1] == "ears: train already done."
    stages.train(copied, videos=["learn"], run="ears", **options | {"sound": "spectrum"}, say=said.append)
    assert load_model(checkpoint)[1].sound == "spectrum"


def test_sound_is_taken_from_the_projects_signals_and_unknown_without(copied):
    index = pl.read_parquet(copied.index("judge"))
    before = with_sound(copied, index, fps="3", heard="power", progress=False)
    assert before["sound"].to_numpy().max() > before["sound"].to_numpy().min() + 15
    copied.video("judge").unlink()
    assert with_sound(copied, index, fps="3", heard="power", progress=False).equals(before)
    for file in copied.signals("judge").glob("sound-*"):
        file.unlink()
    assert np.isnan(with_sound(copied, index, fps="3", heard="spectrum", progress=False)["sound"].to_numpy()).all()
    stages.train(
        copied,
        videos=["learn"],
        run="ears",
        backbone="measures",
        sound="power",
        sequence="none",
        epochs=1,
        progress=False,
        say=lambda line: None,
    )
    with pytest.warns(HlkitWarning, match="judge has no sound, which the model hears"):
        stages.infer(copied, run="ears", videos=["judge"], progress=False, say=lambda line: None)
