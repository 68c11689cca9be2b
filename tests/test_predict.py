from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_numbered
from tiny_frames import make_frames
from torch import nn

from hlkit.dataset import ClipDataset, FrameDataset
from hlkit.device import autocast, pick_device
from hlkit.frames import stream_pictures
from hlkit.models import ModelConfig, build_model
from hlkit.predict import plan_frames, predict, predict_frames
from hlkit.project import HlkitError

BACKBONE = "mobilenet_v3_small"
SECONDS = 7


@pytest.fixture(autouse=True)
def one_thread():
    """On pictures this small a second thread waits more than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    make_numbered(path, seconds=SECONDS, fps=30)
    return path


def make_model(**values):
    """An untrained network whose batch normalisation has seen pictures, so that they make a difference."""
    config = ModelConfig(backbone=BACKBONE, size=32, fps="3", num_frames_per_clip=5, hidden_size=8, **values)
    torch.manual_seed(0)
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    shape = (16, 3, 32, 32) if config.kind == "frame" else (4, 4, 3, 32, 32)
    with torch.no_grad():
        model.train()(torch.rand(shape))
    return model.eval(), config


def predict_quietly(model, config, video, **values):
    options = {"video_id": "a", "batch_size": 8, "device": "cpu", "accelerator": "cpu", "progress": False}
    return predict(model, config, video, **options | values)


def test_a_model_of_a_part_of_the_picture_reads_that_part(video):
    model, config = make_model(box=(0.25, 0, 1, 0.5))
    table = predict_quietly(model, config, video)
    (pictures,) = stream_pictures(video, fps=3, size=32, box=(0.25, 0, 1, 0.5))
    with torch.inference_mode(), autocast(torch.device("cpu")):
        expected = model(torch.from_numpy(pictures).permute(0, 3, 1, 2)).float().softmax(1)[:, 1]
    np.testing.assert_allclose(table["score"], expected, atol=0.02)
    whole = predict_quietly(*make_model(), video)
    assert (table["score"] - whole["score"]).abs().max() > 0.02
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(HlkitError, match="The box is"):
        make_model(box=(0, 0, 2, 1))


def test_scores_are_the_models_for_each_picture(video):
    model, config = make_model()
    table = predict_quietly(model, config, video)
    assert table.schema == {"video": pl.String, "time": pl.Float64, "score": pl.Float32}
    assert table["video"].unique().to_list() == ["a"]
    assert table["time"].to_list() == [float(Fraction(frame, 3)) for frame in range(3 * SECONDS)]
    pictures = np.concatenate(list(stream_pictures(video, fps=3, size=32)))
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with torch.inference_mode(), autocast(torch.device("cpu")):
        expected = torch.cat([model(image[None]) for image in images]).float().softmax(1)[:, 1]
    # bfloat16 has three digits.
    assert table["score"].to_list() == pytest.approx(expected.tolist(), abs=0.02)
    assert np.ptp(table["score"].to_numpy()) > 0.1


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_a_stretch_has_the_scores_that_the_whole_has_there(video, kind):
    model, config = make_model(kind=kind)
    whole = predict_quietly(model, config, video)
    assert np.ptp(whole["score"].to_numpy()) > 0.01
    for start, end in ((0.0, 2.0), (1.0, 3.0), (1.1, 3.9), (4 / 3, 5.0), (5.5, None), (0.5, 6.8), (6.6, 99.0)):
        part = predict_quietly(model, config, video, start=start, end=end)
        wanted = whole.filter((pl.col("time") >= start) & (pl.col("time") < (end or 99)))
        assert part["time"].to_list() == wanted["time"].to_list()
        assert part["score"].to_list() == pytest.approx(wanted["score"].to_list(), abs=1e-6)
    by_duration = predict_quietly(model, config, video, start=1.0, duration=2.0)
    assert by_duration["time"].to_list() == [float(Fraction(frame, 3)) for frame in range(3, 9)]


def direct(model, config, data):
    """The scores of a dataset's items, each on its own."""
    with torch.inference_mode(), autocast(pick_device("cpu")):
        logits = torch.cat([model(data[index][0][None]) for index in range(len(data))])
    return logits.float().softmax(1)


@pytest.mark.parametrize("kind", ["frame", "clip"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_stored_frames_get_the_scores_of_their_clips(tmp_path, kind, batch_size):
    frames = pl.concat(
        [
            make_frames(tmp_path, "b", [0, 1, 0, 1, 1, 1, 0, 0], missing=[4]),
            make_frames(tmp_path, "a", [1, 0, 1], seed=1),
            make_frames(tmp_path, "c", [1], seed=2),
        ]
    )
    model, config = make_model(kind=kind)
    table = predict_frames(model, config, frames, tmp_path, batch_size=batch_size, device="cpu", progress=False)
    ordered = frames.sort("video", "time")
    assert table.select("video", "time").equals(ordered.select("video", "time"))
    data = ClipDataset(ordered, tmp_path, num_frames_per_clip=5) if kind == "clip" else FrameDataset(ordered, tmp_path)
    expected = direct(model, config, data)[:, 1]
    assert table["score"].to_list() == pytest.approx(expected.tolist(), abs=0.02)
    assert np.ptp(table["score"].to_numpy()) > 0.05
    split = ordered.with_columns(part=pl.Series(["train", "validation"] * 5 + ["purged"]))
    again = predict_frames(model, config, split, tmp_path, batch_size=batch_size, device="cpu", progress=False)
    assert again.equals(table)  # the parts of a split are no borders for scoring


def test_more_classes_have_a_column_each(tmp_path):
    frames = make_frames(tmp_path, "a", [0, 1, 0])
    model, config = make_model(classes=("background", "kill", "a win"))
    table = predict_frames(model, config, frames.drop("label"), tmp_path, device="cpu", progress=False)
    assert table.columns == ["video", "time", "score_kill", "score_a win"]
    expected = direct(model, config, FrameDataset(frames, tmp_path))[:, 1:]
    assert table.drop("video", "time").to_numpy() == pytest.approx(expected.numpy(), abs=0.02)


def test_a_clip_model_keeps_a_few_frames_only(video, monkeypatch):
    model, config = make_model(kind="clip")
    sizes = []
    cat = torch.cat

    def measured(tensors, *args):
        result = cat(tensors, *args)
        sizes.append(len(result))
        return result

    monkeypatch.setattr(torch, "cat", measured)
    predict_quietly(model, config, video, batch_size=2)
    assert max(sizes) <= 2 + config.num_frames_per_clip


def test_scoring_leaves_no_files_and_is_silent_or_shows_one_line(video, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, config = make_model()
    predict_quietly(model, config, video)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    predict_quietly(model, config, video, progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "a: 100%" in captured.err
    assert "21/21" in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": 8.0}, r"from 0:00:08.0 to 0:00:07.0 in a recording of 0:00:07.0"),
        ({"start": 3.0, "end": 3.0}, "No frame lies from 0:00:03.0"),
        ({"start": 5.0, "end": 3.0}, "No frame lies"),
        ({"start": 0.1, "end": 0.2}, "at 3 frames a second"),
        ({"start": -1.0}, "No frame lies from -0:00:01.0"),
        ({"start": 1.0, "end": 2.0, "duration": 1.0}, "give one of them"),
        ({"start": 1.0, "duration": 0.0}, "No frame lies"),
    ],
)
def test_stretches_without_a_frame_are_refused(video, values, message):
    model, config = make_model()
    with pytest.raises(HlkitError, match=message):
        predict_quietly(model, config, video, **values)


def test_bad_input_is_named(tmp_path):
    model, config = make_model()
    with pytest.raises(HlkitError, match=r"nowhere.mp4"):
        predict_quietly(model, config, tmp_path / "nowhere.mp4")
    frames = make_frames(tmp_path, "a", [0, 1])
    with pytest.raises(HlkitError, match="empty"):
        predict_frames(model, config, frames.clear(), tmp_path, device="cpu", progress=False)
    if not torch.cuda.is_available():
        with pytest.raises(HlkitError, match="sees no GPU"):
            predict_frames(model, config, frames, tmp_path, device="cuda", progress=False)
    with pytest.raises(HlkitError, match="'gpu' is no device"):
        predict_frames(model, config, frames, tmp_path, device="gpu", progress=False)


@given(
    st.sampled_from(["3", "1/2", "30000/1001", "24"]),
    st.integers(1, 400),
    st.integers(0, 400),
    st.integers(0, 400),
)
def test_the_plan_takes_every_grid_time_in_the_stretch(fps, frames, first, last):
    config = ModelConfig(fps=fps)
    rate = Fraction(fps)
    length = float(frames / rate)
    first, last = sorted((min(first, frames), min(last, frames)))
    if first == last:
        with pytest.raises(HlkitError):
            plan_frames(config, length, start=float(first / rate), end=float(last / rate))
        return
    assert plan_frames(config, length, start=float(first / rate), end=float(last / rate)) == range(first, last)
    if first + 1 < frames:
        inside = plan_frames(config, length, start=float((first + Fraction(1, 3)) / rate))
        assert inside == range(first + 1, frames)
