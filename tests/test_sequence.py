"""A signal whose meaning needs time: one column flashes, and the label is whether two flashes lie within 3 s."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hlkit.clips import find_runs
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import average_precision
from hlkit.sequence import SequenceConfig, SequenceModel, from_checkpoint, to_checkpoint
from hlkit.sequence_training import fit_sequence, fit_temperature, with_sure_background

FPS = 3


def make(video: str, seconds: int, seed: int) -> tuple[pl.DataFrame, dict[str, np.ndarray | None]]:
    rng = np.random.default_rng(seed)
    count = seconds * FPS
    flash = rng.random(count) < 0.02
    for first in range(30, count - 12, 120):
        flash[first] = flash[first + 7] = True
    near = np.convolve(flash, np.ones(10), "same") >= 2
    label = (np.convolve(near, np.ones(13), "same") > 0).astype(np.int8)
    sound = rng.normal(0, 0.3, (count, 6)).astype(np.float32)
    sound[:, 2] += 3 * flash
    table = pl.DataFrame({"video": [video] * count, "frame": range(count), "time": np.arange(count) / FPS})
    return table.with_columns(label=pl.Series(label)), {"sound": sound, "motion": rng.normal(size=(count, 4))}


@pytest.fixture(scope="module")
def fitted():
    frames, sources = make("a", 700, 0)
    return fit_sequence(frames, {"a": sources}, fps=FPS, members=4, steps=120, seed=3)


def test_it_learns_what_needs_time_and_says_how_well(fitted):
    frames, sources = make("b", 400, 1)
    ap = average_precision(frames["label"], fitted.model.probabilities(sources, frames)[:, 1])
    single = average_precision(frames["label"], sources["sound"][:, 2])
    assert ap > 0.8 > 2 * single
    assert fitted.metrics["val_ap"] == pytest.approx(ap, abs=0.12)
    assert fitted.metrics["val_base_rate"] == pytest.approx(fitted.held_out["label"].mean())
    assert fitted.metrics["val_loss_calibrated"] <= fitted.metrics["val_loss"] + 1e-6
    assert len(fitted.held_out) == 700 * FPS


def test_the_same_seed_gives_the_same_model(fitted):
    frames, sources = make("a", 700, 0)
    again = fit_sequence(frames, {"a": sources}, fps=FPS, members=4, steps=120, seed=3)
    for name, value in fitted.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)


def test_a_score_does_not_depend_on_the_stretch_that_was_asked_for(fitted):
    frames, sources = make("c", 900, 2)
    whole = fitted.model.probabilities(sources, frames)
    for wanted in (range(0, 40), range(1100, 1300), range(2690, 2700)):
        reach = fitted.model.reach(wanted, len(frames))
        part = {name: rows[reach.start : reach.stop] for name, rows in sources.items()}
        found = fitted.model.probabilities(part, frames[reach.start : reach.stop])
        inside = slice(wanted.start - reach.start, wanted.stop - reach.start)
        np.testing.assert_allclose(found[inside], whole[wanted.start : wanted.stop], atol=1e-6)


def test_a_gap_in_time_separates_what_lies_on_its_sides(fitted):
    frames, sources = make("d", 200, 4)
    kept = [*range(250), *range(350, 600)]
    some, other = ({name: rows[kept] for name, rows in sources.items()} for _ in range(2))
    before = fitted.model.logits(fitted.model.inputs(some, 500), *_grid(frames[kept]))
    other["sound"][250:] += 5
    after = fitted.model.logits(fitted.model.inputs(other, 500), *_grid(frames[kept]))
    torch.testing.assert_close(before[:250], after[:250], rtol=0, atol=0)
    assert not torch.allclose(before[250:], after[250:])


def _grid(frames):
    return frames["frame"].to_numpy(), find_runs(frames)


def test_a_missing_source_is_masked(fitted):
    frames, sources = make("e", 300, 5)
    without = fitted.model.probabilities(sources | {"motion": None}, frames)[:, 1]
    assert average_precision(frames["label"], without) > 0.7
    kept = fitted.model.config.widths["motion"][1]
    assert (fitted.model.inputs(sources | {"motion": None}, 900)[:, : kept + 1] == 0).all()


def test_a_source_of_another_width_is_refused(fitted):
    frames, sources = make("f", 60, 6)
    for wrong, shape in ((sources["sound"][:, :5], r"\(180, 5\)"), (sources["sound"][:, 0], r"\(180,\)")):
        with pytest.raises(HlkitError, match=rf"'sound' has the shape {shape}; allowed is \(180, 6\)\. .*signals"):
            fitted.model.probabilities(sources | {"sound": wrong}, frames)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_source_that_is_no_number_is_named_before_it_scores_or_teaches(fitted, value):
    frames, sources = make("f", 60, 6)
    sources["motion"][7, 3] = value
    with pytest.raises(HlkitError, match=r"The source 'motion' has no number in frame 7 of 180\. .* delete"):
        fitted.model.probabilities(sources, frames)
    with pytest.raises(HlkitError, match="The source 'motion' of f has no number in frame 7 of 180"):
        fit_sequence(frames, {"f": sources}, fps=FPS, members=2, steps=1)


def test_sources_that_do_not_fit_are_refused_with_the_video():
    (a, ours), (b, theirs) = make("a", 60, 0), make("b", 60, 1)
    frames = pl.concat([a, b])
    # Sources of a video without frames are none of its business.
    fit_sequence(b, {"b": {"sound": theirs["sound"]}, "a": ours}, fps=FPS, members=2, steps=1)
    wrong = {
        r"b: no sources": {"a": ours},
        r"'sound' of b has the shape \(180, 5\); allowed is \(180, 6\)": {
            "a": ours,
            "b": theirs | {"sound": theirs["sound"][:, :5]},
        },
        r"'motion' of a has the shape \(179, 4\)": {"a": ours | {"motion": ours["motion"][1:]}, "b": theirs},
        r"'motion' of a has the shape \(180,\)": {"a": ours | {"motion": np.zeros(180)}, "b": theirs},
    }
    for words, sources in wrong.items():
        with pytest.raises(HlkitError, match=words):
            fit_sequence(frames, sources, fps=FPS, members=2, steps=1)


def test_labels_and_steps_that_cannot_be_are_refused():
    frames, sources = make("a", 60, 0)
    with pytest.raises(HlkitError, match="the label 2; allowed are 0 to 1"):
        fit_sequence(frames.with_columns(label=pl.col("label") * 2), {"a": sources}, fps=FPS)
    with pytest.raises(HlkitError, match="steps is 0; give 1 or more"):
        fit_sequence(frames, {"a": sources}, fps=FPS, steps=0)


def test_labels_in_runs_shorter_than_a_window_are_learned_from():
    frames, sources = make("a", 300, 0)
    # The first 100 s were looked at, and lack every 60th frame; the rest was not, and is one long run.
    kept = [row for row in range(900) if row >= 300 or row % 60 != 59]
    labelled = frames[kept].with_columns(label=pl.when(pl.col("frame") < 300).then("label").otherwise(-1))
    some = {name: rows[kept] for name, rows in sources.items()}
    fit = fit_sequence(labelled, {"a": some}, fps=FPS, members=2, steps=5)
    assert fit.held_out.height == 295


def test_checkpoint_round_trip(fitted, tmp_path):
    torch.save(to_checkpoint(fitted.model), tmp_path / "s.ckpt")
    back = from_checkpoint(torch.load(tmp_path / "s.ckpt", weights_only=True))
    frames, sources = make("g", 100, 7)
    np.testing.assert_array_equal(back.probabilities(sources, frames), fitted.model.probabilities(sources, frames))
    content = to_checkpoint(fitted.model)
    for wrong in (
        {"config": {"rnn": "gru", "layers": 3}, "state_dict": {}},
        content | {"config": content["config"] | {"widths": {"sound": (6,), "motion": (4, 4)}}},
        content | {"config": content["config"] | {"widths": [6, 4]}},
        content | {"state_dict": 3},
    ):
        with pytest.raises(HlkitError, match="no sequence model"):
            from_checkpoint(wrong)


def test_one_highlight_still_trains_and_says_what_is_not_known():
    frames, sources = make("a", 120, 0)
    alone = frames.with_columns(label=pl.when(pl.col("frame").is_between(28, 45)).then(1).otherwise(0).cast(pl.Int8))
    with pytest.warns(HlkitWarning, match="stays unknown"):
        fit = fit_sequence(alone, {"a": sources}, fps=FPS, members=2, steps=5)
    assert fit.metrics == {}


@pytest.mark.parametrize(
    ("labels", "sources", "words"),
    [(0, True, "labelled highlight"), (1, True, "labelled background"), (None, False, "neither sound nor frames")],
)
def test_what_nothing_can_be_learned_from(labels, sources, words):
    frames, tables = make("a", 60, 0)
    if labels is not None:
        frames = frames.with_columns(label=pl.lit(labels, dtype=pl.Int8))
    with pytest.raises(HlkitError, match=words):
        fit_sequence(frames, {"a": tables if sources else {"sound": None}}, fps=FPS)


def test_frames_that_nobody_looked_at_have_no_say():
    frames, sources = make("a", 240, 0)
    hidden = frames.with_columns(label=pl.when(pl.col("frame") >= 600).then(-1).otherwise("label").cast(pl.Int8))
    ours = fit_sequence(hidden, {"a": sources}, fps=FPS, members=2, steps=5)
    assert ours.held_out["frame"].max() == 599
    assert 0 <= ours.metrics["val_base_rate"] <= 1


def test_only_what_a_member_is_sure_of_counts_as_background_where_nobody_looked(fitted):
    frames, sources = make("b", 400, 1)
    hidden = frames.with_columns(label=pl.when(pl.col("frame") < 300).then("label").otherwise(-1).cast(pl.Int8))
    inputs, run = fitted.model.inputs(sources, len(frames)), find_runs(frames)
    guessed = with_sure_background(fitted.model, 1, hidden, inputs, run)
    assert (guessed[:300] == hidden["label"].to_numpy()[:300]).all()
    assert set(guessed[300:]) == {-1, 0}
    truth = frames["label"].to_numpy()[300:]
    assert truth[guessed[300:] == 0].mean() < 0.05 < truth.mean() < truth[guessed[300:] == -1].mean()


def test_a_second_lesson_begins_where_the_first_one_did():
    frames, sources = make("a", 240, 0)
    hidden = frames.with_columns(label=pl.when(pl.col("frame") >= 600).then(-1).otherwise("label").cast(pl.Int8))
    one, two = (fit_sequence(hidden, {"a": sources}, fps=FPS, members=2, steps=5) for _ in range(2))
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], value, rtol=0, atol=0)


@given(st.floats(0.2, 5), st.integers(0, 2**31))
def test_the_temperature_undoes_a_known_one(temperature, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (4000, 2)))
    labels = torch.from_numpy((rng.random(4000) < logits.softmax(1)[:, 1].numpy()).astype(np.int64))
    assert float(fit_temperature(logits * temperature, labels)) == pytest.approx(temperature, rel=0.25)


def test_config_refuses_what_cannot_be():
    with pytest.raises(HlkitError, match="rnn is"):
        SequenceConfig(rnn="elman")
    with pytest.raises(HlkitError, match="at least 2 and 1"):
        SequenceConfig(members=1)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(HlkitError, match=f"smoothing_seconds is {seconds}; give 0 or more"):
            SequenceConfig(smoothing_seconds=seconds)
    for contrast in (-0.1, 1.1, float("nan")):
        with pytest.raises(HlkitError, match=f"contrast is {contrast}; give 0"):
            SequenceConfig(contrast=contrast)
    for kept in (0, 7):
        with pytest.raises(HlkitError, match=f"'sound' keeps {kept} components of 6 columns; give 1 to 6"):
            SequenceConfig(widths={"sound": (6, kept)})
    with pytest.raises(HlkitError, match="The model has no source"):
        SequenceModel(SequenceConfig())


def test_a_moment_is_set_off_against_its_surroundings():
    model = SequenceModel(SequenceConfig(widths={"sound": (1, 1)}, fps="1", contrast=0.5))
    model.usual.copy_(torch.tensor([0.0, -2.0]))
    frames = pl.DataFrame({"video": ["a"] * 4, "time": [0.0, 10.0, 20.0, 100.0]})
    logits = torch.tensor([[0.0, -2.0], [0.0, 4.0], [0.0, torch.nan], [0.0, 6.0]])
    # Within 15 s of each: -2 and 4, which is 1 on the mean and 3 more than usual; 4 alone; 6 alone.
    found = model.set_off(logits, frames)
    assert found[:, 0].tolist() == [0] * 4
    assert found[[0, 1, 3], 1].tolist() == [-2 - 1.5, 4 - 1.5, 6 - 4]
    assert found[2, 1].isnan()


def test_what_is_usual_is_learned_from_what_was_judged(fitted):
    frames, sources = make("a", 700, 0)
    own = fitted.model.logits(fitted.model.inputs(sources, len(frames)), *_grid(frames))
    torch.testing.assert_close(fitted.model.usual, own.mean(0), atol=0.15, rtol=0)


def test_lstm_and_one_direction_run():
    config = SequenceConfig(widths={"sound": (6, 4)}, rnn="lstm", bidirectional=False, members=2)
    _, sources = make("a", 30, 0)
    model = SequenceModel(config).eval()
    assert model.logits(model.inputs(sources, 90), np.arange(90), np.zeros(90, dtype=int)).shape == (90, 2)
