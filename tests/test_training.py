import importlib.util
import itertools
import json
import math
import random
import signal
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from dying import fit_in_process, start
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from tiny_frames import make_frames, with_parts

import hlkit.module
from hlkit.backbones import load_file
from hlkit.callbacks import WholeCheckpoints, best_epoch
from hlkit.dataset import ClipDataset, FrameDataset
from hlkit.models import ModelConfig
from hlkit.module import BODY_RATE, PROBE_SHARE, body_rate_at, rate_at, validation_metrics
from hlkit.project import HlkitError, HlkitWarning
from hlkit.training import HighlightModule, check_table, fit, load_model

# Small, and with the dropout whose random numbers a resumed run must continue.
BACKBONE = "mobilenet_v3_small"


@pytest.fixture(autouse=True)
def one_thread():
    """On pictures this small a second thread waits more than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def frames(root):
    return with_parts(make_frames(root, "a", [int(frame % 10 > 6) for frame in range(40)], size=16))


def config(**values):
    return ModelConfig(backbone=BACKBONE, size=32, num_frames_per_clip=3, hidden_size=8, **values)


def arguments(frames, root, folder, **values):
    known = {"config": config(), "epochs": 2, "batch_size": 8, "accelerator": "cpu", "progress": False}
    return {"frames": frames, "root": root, "folder": folder} | known | values


def result_of(folder):
    """What must be the same however often a run was interrupted."""
    state = load_file(folder / "model.ckpt")["state_dict"]
    assert sorted(path.name for path in folder.iterdir()) == ["card.md", "config.json", "metrics.csv", "model.ckpt"]
    return (folder / "metrics.csv").read_text(), (folder / "card.md").read_text(), state


def assert_same_result(one, other):
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])


def run_until_done(given, moments):
    """Kill a run at one moment after another, then let it end; returns how often it was killed."""
    for killed, moment in enumerate(moments):
        status = fit_in_process(given, die_at=moment)
        if status == 0:
            return killed
        assert status == -signal.SIGKILL
    assert fit_in_process(given) == 0
    return len(moments)


def test_killed_at_random_moments_it_ends_like_an_unbroken_run(frames, root, tmp_path):
    given = arguments(frames, root, tmp_path / "run", epochs=3)
    assert fit_in_process(given | {"folder": tmp_path / "clean" / "run"}) == 0
    dice = random.Random(2)
    # The first three moments lie in the first epoch, in the second, and in writing the second down.
    assert run_until_done(given, [2, 9, 5, dice.randint(2, 14)]) >= 3
    clean = result_of(tmp_path / "clean" / "run")
    assert pl.read_csv(clean[0].encode())["epoch"].to_list() == [0, 1, 2]
    assert_same_result(result_of(tmp_path / "run"), clean)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_killed_at_any_moment_it_ends_like_an_unbroken_run(frames, root, tmp_path, kind):
    given = arguments(frames, root, tmp_path / "clean" / "run", config=config(kind=kind))
    assert fit_in_process(given) == 0
    clean = result_of(tmp_path / "clean" / "run")
    for moment in range(1, 100):
        folder = tmp_path / str(moment) / "run"
        if run_until_done(given | {"folder": folder}, [moment]) == 0:
            break
        assert_same_result(result_of(folder), clean)
    assert 15 < moment < 99


@pytest.mark.slow
def test_killed_by_the_clock_it_ends_like_an_unbroken_run(frames, root, tmp_path):
    given = arguments(frames, root, tmp_path / "run", epochs=6)
    assert fit_in_process(given | {"folder": tmp_path / "clean" / "run"}) == 0
    dice = random.Random(1)
    for _ in range(8):
        process = start(given)
        process.join(timeout=dice.uniform(0.2, 3))
        process.kill()
        process.join()
    assert fit_in_process(given) == 0
    assert_same_result(result_of(tmp_path / "run"), result_of(tmp_path / "clean" / "run"))


def test_each_epoch_is_told_when_its_checkpoints_are_written(frames, root, tmp_path):
    folder, seen = tmp_path / "run", []
    fit(
        **arguments(frames, root, folder),
        on_epoch=lambda: seen.append(
            (len(pl.read_csv(folder / "metrics.csv")), len(load_file(folder / "last.ckpt")["hlkit"]["history"]))
        ),
    )
    assert seen == [(1, 1), (2, 2)]


@pytest.mark.parametrize("reading", [{}, {"cache": "none", "num_workers": 1}], ids=["cached", "worker"])
def test_ctrl_c_ends_the_training_and_not_the_process_and_the_run_goes_on(frames, root, tmp_path, monkeypatch, reading):
    given = arguments(frames, root, tmp_path / "run", **reading)
    step, calls = HighlightModule.training_step, []

    def interrupted(module, batch, batch_idx):
        calls.append((module.current_epoch, batch_idx))
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(HighlightModule, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(**given)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "run" / "model.ckpt").exists()
    assert pl.read_csv(tmp_path / "run" / "metrics.csv")["epoch"].to_list() == [0]
    fit(**given)
    assert calls == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 0), (1, 1), (1, 2)]
    fit(**given | {"folder": tmp_path / "clean" / "run"})
    assert_same_result(result_of(tmp_path / "run"), result_of(tmp_path / "clean" / "run"))


def test_a_finished_run_is_not_trained_again_and_a_changed_one_is(frames, root, tmp_path, monkeypatch):
    given = arguments(frames, root, tmp_path / "run", epochs=1)
    model = fit(**given)
    assert model == tmp_path / "run" / "model.ckpt"
    trained = []
    monkeypatch.setattr(HighlightModule, "on_train_start", lambda module: trained.append(module.learning_rate))
    before = model.stat().st_mtime_ns
    assert fit(**given) == model
    assert (trained, model.stat().st_mtime_ns) == ([], before)
    fit(**given | {"learning_rate": 2e-3})
    assert trained == [2e-3]
    label = pl.when(pl.col("frame") == 0).then(pl.lit(1, pl.Int8)).otherwise("label").alias("label")
    fit(**given | {"frames": frames.with_columns(label)})
    assert trained == [2e-3, 1e-3]


def test_a_damaged_checkpoint_starts_the_run_over(frames, root, tmp_path):
    given = arguments(frames, root, tmp_path / "run", epochs=1)
    clean = fit(**given).read_bytes()
    for name in ("model.ckpt", "last.ckpt"):
        (tmp_path / "run" / "model.ckpt").unlink()
        (tmp_path / "run" / name).write_bytes(clean[: len(clean) // 2])
        with pytest.warns(HlkitWarning, match=rf"{name} is damaged.*starts over"):
            fit(**given)
        assert len(pl.read_csv(tmp_path / "run" / "metrics.csv")) == 1
        assert not (tmp_path / "run" / "last.ckpt").exists()


def test_evaluation_sees_the_stored_pictures_in_order_and_training_never_the_same_batch(
    frames, root, tmp_path, monkeypatch
):
    seen = {"training_step": [], "validation_step": []}
    for name, batches in seen.items():
        step = getattr(HighlightModule, name)

        def recorded(module, batch, batch_idx, step=step, batches=batches):
            batches.append((module.current_epoch, batch[0].clone(), batch[1]))
            return step(module, batch, batch_idx)

        monkeypatch.setattr(HighlightModule, name, recorded)
    for kind in ("frame", "clip"):
        for batches in seen.values():
            batches.clear()
        fit(**arguments(frames, root, tmp_path / kind, config=config(kind=kind)))
        validation = frames.filter(pl.col("part") == "validation")
        data = FrameDataset(validation, root, size=32)
        data = data if kind == "frame" else ClipDataset(validation, root, num_frames_per_clip=3, size=32)
        for epoch in (0, 1):
            pictures = torch.cat([images for number, images, _ in seen["validation_step"] if number == epoch])
            assert torch.equal(pictures, torch.stack([data[index][0] for index in range(len(data))]))
            labels = torch.cat([labels for number, _, labels in seen["validation_step"] if number == epoch])
            assert labels.tolist() == validation["label"].to_list()
        batches = [images for _, images, _ in seen["training_step"]]
        # 28 training pictures: three batches of 8 an epoch, or four of two clips with 3 pictures each.
        shapes = [(8, 3, 32, 32)] * 6 if kind == "frame" else [(2, 3, 3, 32, 32)] * 8
        assert [tuple(images.shape) for images in batches] == shapes
        assert all(images.dtype == torch.float32 for images in batches)
        assert len({images.sum().item() for images in batches}) == len(batches) >= 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: frames.clear(), "frame table is empty"),
        (lambda frames: frames.drop("label"), r"lacks \['label'\]"),
        (lambda frames: frames.with_columns(label=pl.lit(0)), "No training frame is labelled 'highlight'"),
        (lambda frames: frames.with_columns(label=pl.lit(1)), "No training frame is labelled 'background'"),
        (lambda frames: frames.with_columns(label=pl.lit(2)), r"labels \[2\].*'background', 'highlight'"),
        (lambda frames: frames.filter(pl.col("part") == "train"), "validation part has no background"),
        (
            lambda frames: frames.filter((pl.col("part") == "train") | (pl.col("label") == 0)),
            "validation part has no highlight .*chunk_seconds",
        ),
    ],
)
def test_tables_that_nothing_can_be_learned_from_are_refused_before_anything_is_written(
    frames, root, tmp_path, change, message
):
    with pytest.raises(HlkitError, match=message):
        fit(**arguments(change(frames), root, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_every_class_must_be_in_training(frames):
    with pytest.raises(HlkitError, match="No training frame is labelled 'win'"):
        check_table(frames, ModelConfig(classes=("background", "highlight", "win")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"monitor": "val_auc"}, "monitor is 'val_auc'; val_ap, val_precision"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"accelerator": "tpu9"}, "'tpu9' is no device"),
        ({"positive_share": 1.5}, "positive_share=1.5"),
        ({"logger": "tensorboard"}, "csv, mlflow, wandb are allowed"),
        ({"weights": "/nowhere.pt"}, "There is no file /nowhere.pt"),
        ({"config": ModelConfig(backbone="resnet19")}, "no backbone 'resnet19'"),
    ],
)
def test_arguments_that_are_not_allowed_say_what_is(frames, root, tmp_path, values, message):
    with pytest.raises(HlkitError, match=message):
        fit(**arguments(frames, root, tmp_path / "run", **values))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_says_how_to_install_it(frames, root, tmp_path, monkeypatch, name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(HlkitError, match=f"pip install {name}"):
        fit(**arguments(frames, root, tmp_path / "run", logger=name))


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_earlier_model(frames, root, tmp_path):
    given = arguments(frames, root, tmp_path / "run", epochs=1)
    before = fit(**given).read_bytes()
    with pytest.raises(HlkitError, match=r"loss became (nan|inf) in epoch \d.*learning_rate below 1e\+20"):
        fit(**given | {"learning_rate": 1e20})
    with pytest.raises(HlkitError, match=r"loss became nan in epoch 1.*class_weights"):
        fit(**given | {"class_weights": [math.nan, 1.0]})
    assert (tmp_path / "run" / "model.ckpt").read_bytes() == before


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    target = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, target)

    def fails(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(HlkitError, match=r"last.ckpt could not be written, with [\d,]+ MB free .*goes on"):
        WholeCheckpoints().save_checkpoint({"epoch": 2}, target)
    assert load_file(target) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_silence_and_one_line_of_progress(frames, root, tmp_path, monkeypatch, capfd, recwarn):
    monkeypatch.chdir(tmp_path)
    fit(**arguments(frames, root, tmp_path / "a"))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    fit(**arguments(frames, root, tmp_path / "b", progress=True))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    last = captured.err.rstrip("\n").rpartition("\r")[2]
    # 24 training pictures in batches of 8 and 12 of validation: 5 batches an epoch.
    assert "training: 100%" in last
    assert "10/10" in last
    assert "epoch=2/2" in last
    assert [str(warning.message) for warning in recwarn] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_checkpoint_gives_the_model_back(frames, root, tmp_path):
    for kind in ("frame", "clip"):
        wanted = config(kind=kind, rnn="lstm", bidirectional=False, fps="5/2")
        path = fit(**arguments(frames, root, tmp_path / kind, config=wanted))
        model, found = load_model(path, device="cpu")
        assert found == wanted
        assert not model.training
        images = torch.rand(2, 3, 3, 32, 32) if kind == "clip" else torch.rand(2, 3, 32, 32)
        module = HighlightModule.load_from_checkpoint(path, map_location="cpu").eval()
        with torch.inference_mode():
            assert torch.equal(module(images), model(images))
    assert json.loads((tmp_path / "clip" / "config.json").read_text())["model"] == wanted.to_dict()


def test_what_is_no_checkpoint_of_hlkit_is_refused(frames, root, tmp_path):
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.ckpt")
    with pytest.raises(HlkitError, match=r"other.ckpt is a checkpoint of something else"):
        load_model(tmp_path / "other.ckpt")
    path = fit(**arguments(frames, root, tmp_path / "run", epochs=1))
    content = load_file(path)
    torch.save(content | {"hyper_parameters": {"config": config(kind="clip").to_dict()}}, tmp_path / "odd.ckpt")
    with pytest.raises(HlkitError, match=r"odd.ckpt do not fit its mobilenet_v3_small"):
        load_model(tmp_path / "odd.ckpt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HlkitError, match="damaged"):
        load_model(path)
    with pytest.raises(HlkitError, match="train first"):
        load_model(tmp_path / "nothing.ckpt")


def test_the_card_and_the_metrics_tell_what_was_done(root, tmp_path):
    labels = [frame % 3 for frame in range(30)]
    frames = with_parts(make_frames(root, "three", labels, size=16))
    classes = ("background", "kill", "a|b")
    path = fit(**arguments(frames, root, tmp_path / "run", config=config(classes=classes), epochs=1))
    metrics = pl.read_csv(tmp_path / "run" / "metrics.csv")
    names = ["accuracy", "ap", "base_rate", "f1", "loss", "precision", "recall"]
    assert metrics.columns == ["epoch", "train_loss", *(f"val_{name}" for name in names)]
    assert metrics["val_base_rate"].to_list() == pytest.approx([1 / 3], abs=1e-6)
    card = (tmp_path / "run" / "card.md").read_text()
    assert "# Model card: run" in card
    assert "| three | 0:00:10 | 30 |" in card
    assert r"| part | background | kill | a\|b |" in card
    assert "| train | 7 | 7 | 7 |" in card
    assert "| validation | 3 | 3 | 3 |" in card
    assert f"| val_ap | {metrics['val_ap'][0]:.3f} |" in card
    assert f"| torch | {torch.__version__.partition('+')[0]}" in card
    assert "at 3 frames a second" in card
    assert load_model(path, device="cpu")[1].classes == classes


def test_the_best_epoch_is_kept(frames, root, tmp_path, monkeypatch):
    ranks = iter([0.2, 0.9, 0.5])

    def ranked(*args):
        return validation_metrics(*args) | {"val_precision": next(ranks)}

    monkeypatch.setattr(hlkit.module, "validation_metrics", ranked)
    path = fit(**arguments(frames, root, tmp_path / "run", epochs=3, monitor="val_precision"))
    assert [row["epoch"] for row in load_file(path)["hlkit"]["history"]] == [0, 1]
    assert "Epoch 2 of 3 was kept: the best by `val_precision`" in (tmp_path / "run" / "card.md").read_text()


def test_best_epoch_by_each_monitor():
    rows = [(0.5, 0.9, 0.7), (0.8, 0.9, 0.5), (0.8, 0.4, 0.6), (0.1, 0.9, 0.5)]
    history = [
        {"epoch": epoch, "val_ap": ap, "val_precision": precision, "val_loss": loss}
        for epoch, (ap, precision, loss) in enumerate(rows)
    ]
    assert best_epoch(history, "val_ap") == 1
    assert best_epoch(history, "val_precision") == 1
    assert best_epoch(history, "val_loss") == 1
    assert best_epoch(history[2:], "val_ap") == 2


def test_metrics_by_hand():
    probabilities = torch.tensor([[0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8], [0.9, 0.1]])
    metrics = validation_metrics(probabilities, torch.tensor([1, 0, 1, 1, 0]))
    # In order of score: 1 1 0 1 0, so precision at the hits is 1, 1, 3/4. Called highlights: 3, of which 2 are.
    expected = {"val_ap": (1 + 1 + 0.75) / 3, "val_precision": 2 / 3, "val_recall": 2 / 3, "val_f1": 2 / 3}
    assert metrics == pytest.approx(expected | {"val_base_rate": 0.6, "val_accuracy": 0.6})
    never = validation_metrics(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    assert (never["val_precision"], never["val_recall"], never["val_f1"], never["val_accuracy"]) == (0, 0, 0, 0.5)
    assert math.isnan(validation_metrics(probabilities, torch.zeros(5, dtype=torch.long))["val_ap"])


@given(st.integers(2, 4), st.integers(4, 40), st.integers(0, 10_000))
def test_metrics_agree_with_scikit_learn(classes, count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    labels[0] = 1
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(classes), count)).float()
    metrics = validation_metrics(probabilities, torch.from_numpy(labels))
    decided, present = probabilities.argmax(1).numpy(), sorted(set(labels.tolist()) - {0})
    ap = [average_precision_score(labels == index, probabilities[:, index].numpy()) for index in present]
    assert metrics["val_ap"] == pytest.approx(np.mean(ap), abs=1e-5)
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert metrics["val_precision"] == pytest.approx(precision_score(labels, decided, **options))
    assert metrics["val_recall"] == pytest.approx(recall_score(labels, decided, **options))
    assert metrics["val_f1"] == pytest.approx(f1_score(labels, decided, **options))
    assert metrics["val_accuracy"] == pytest.approx((labels == decided).mean())
    assert metrics["val_base_rate"] == pytest.approx(np.mean([(labels == index).mean() for index in present]))


def test_the_rate_climbs_then_falls_to_nothing():
    rates = [rate_at(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert all(before >= after for before, after in itertools.pairwise(rates[9:]))
    assert 0 < rate_at(0, 1) <= 1


def test_training_leaves_the_callers_random_numbers_alone(frames, root, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(**arguments(frames, root, tmp_path / "run", epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_pretrained_body_waits_and_then_learns_slowly():
    rates = [body_rate_at(step, 100) for step in range(101)]
    waits = round(100 * PROBE_SHARE)
    assert rates[:waits] == [0] * waits
    assert rates[waits:] == [BODY_RATE * rate_at(step, 100) for step in range(waits, 101)]


def test_only_given_weights_are_held_back(tmp_path):
    config = ModelConfig(size=32)
    torch.save(HighlightModule(config, seed=9).model.backbone.network.state_dict() | _HEAD, tmp_path / "weights.pt")
    for weights, rates in ((None, [1.0, 1.0]), (tmp_path / "weights.pt", [1.0, 1.0, 0.0, 0.0])):
        module = HighlightModule(config, weights=weights)
        assert module.is_pretrained == (weights is not None)
        module._trainer = SimpleNamespace(estimated_stepping_batches=100)
        schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
        assert [round(rate / module.learning_rate, 6) for rate in schedule.get_last_lr()] == [
            0.1 * rate for rate in rates
        ]
        held = sum(len(group["params"]) for group in schedule.optimizer.param_groups)
        assert held == len(list(module.parameters()))


_HEAD = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
