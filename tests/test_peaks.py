"""A model whose score of a frame is known: it hears the sound 2 frames before and sees nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from test_sequence import FPS, make

from hlkit.peaks import EVERYTHING, explain_peak, peak_chart
from hlkit.project import HlkitError
from hlkit.sequence_training import fit_sequence


@pytest.fixture(scope="module")
def fitted():
    frames, sources = make("a", 500, 0)
    return fit_sequence(frames, {"a": sources}, fps=FPS, members=2).model


def test_the_flashes_drove_the_peak_and_the_motion_did_not(fitted):
    frames, sources = make("b", 200, 9)
    sound = np.zeros_like(sources["sound"])
    sound[300, 2] = sound[307, 2] = 3.0
    found = explain_peak(fitted, {"sound": sound, "motion": np.zeros((600, 4))}, frames, 101.5)
    assert found.columns == ["start", "end", "source", "contribution"]
    by_source = {name: part for (name,), part in found.group_by(["source"])}
    assert set(by_source) == {"sound", "motion", EVERYTHING}
    sound_part = by_source["sound"].sort("contribution", descending=True)
    flashes = [
        row["start"] <= 100 < row["end"] or row["start"] <= 307 / 3 < row["end"]
        for row in sound_part.head(2).iter_rows(named=True)
    ]
    assert all(flashes)
    assert sound_part["contribution"][0] > 1
    assert by_source["motion"]["contribution"].abs().max() < 0.25 * sound_part["contribution"][0]
    width = (found["end"] - found["start"]).unique()
    assert width.to_list() == pytest.approx([1.0] * len(width))
    assert found["start"].min() == pytest.approx(86.33, abs=0.4)
    assert found["end"].max() == pytest.approx(117, abs=0.7)


def test_the_windowed_score_is_the_models_own(fitted):
    frames, sources = make("c", 100, 3)
    inputs = fitted.inputs(sources, 300)
    whole = fitted.logits(inputs, frames["frame"].to_numpy(), np.zeros(300, dtype=int))
    own = 1 - (whole / fitted.temperature).softmax(1)[:, 0]
    torch.testing.assert_close(fitted.score_windows(inputs[None])[0], own)


def test_a_time_without_a_frame_is_refused(fitted):
    frames, sources = make("d", 20, 3)
    with pytest.raises(HlkitError, match="no frame at 0:01:00"):
        explain_peak(fitted, sources, frames, 60)


def test_the_chart_has_a_row_a_source_and_marks_the_moment():
    rows = [(float(second), second + 1.0, name, 0.1) for second in range(3) for name in ("sound", EVERYTHING)]
    table = pl.DataFrame(rows, schema=["start", "end", "source", "contribution"], orient="row")
    figure = peak_chart(table, time=1.5, title="a $5 stream")
    assert [axis.get_ylabel() for axis in figure.axes] == ["sound", EVERYTHING]
    assert all(len(axis.patches) == 3 for axis in figure.axes)
    assert figure.axes[0].lines[1].get_xdata()[0] == 1.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": float("nan")}, "no frame at nan; the frames go from 0:00:00 to 0:00:20"),
        ({"time": float("inf")}, "no frame at inf"),
        ({"time": -1.0}, "no frame at -0:00:01"),
        ({"time": 5.0, "step_seconds": 0}, "step_seconds 0; give"),
        ({"time": 5.0, "step_seconds": float("nan")}, "step_seconds nan; give"),
        ({"time": 5.0, "reach_seconds": -1}, "reach_seconds is -1 and"),
    ],
)
def test_what_cannot_be_explained_is_refused(fitted, options, words):
    frames, sources = make("d", 20, 3)
    with pytest.raises(HlkitError, match=words):
        explain_peak(fitted, sources, frames, **options)


def test_no_frames_and_no_contributions_are_refused(fitted):
    frames, sources = make("d", 20, 3)
    with pytest.raises(HlkitError, match="no frames to explain"):
        explain_peak(fitted, {name: rows[:0] for name, rows in sources.items()}, frames.clear(), 1.0)
    table = explain_peak(fitted, sources, frames, 5.0, reach_seconds=0)
    assert table["start"].n_unique() == 1
    with pytest.raises(HlkitError, match="no contributions to draw"):
        peak_chart(table.clear(), time=1.0)


def test_a_time_in_a_gap_is_that_of_the_frame_before_it(fitted):
    frames, sources = make("d", 40, 3)
    kept = [*range(30), *range(90, 120)]
    some = {name: rows[kept] for name, rows in sources.items()}
    assert explain_peak(fitted, some, frames[kept], 20.0).equals(explain_peak(fitted, some, frames[kept], 29 / 3))
