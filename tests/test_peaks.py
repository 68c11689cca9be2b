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
    return fit_sequence(frames, {"a": sources}, fps=FPS, rnn="gru", members=2, steps=120).model


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
