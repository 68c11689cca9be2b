"""Rounds of review on a small project: what is asked, what the answers change, and what is kept of it."""

from __future__ import annotations

import polars as pl
import pytest
from conftest import HIGHLIGHTS

from hlkit import stages
from hlkit.labels import SPAN_SCHEMA
from hlkit.project import HlkitError
from hlkit.stages import tables
from hlkit.stages.sequences import read_rounds, rounds_file


def quiet(line):
    """Take a line and say nothing."""


def answer(project, queue, video):
    """What somebody who knows the truth says of the queued spans of one video, beside what is known already."""
    rows = []
    for start, end in queue.filter(pl.col("video") == video).select("start", "end").iter_rows():
        at = start
        for first, last in sorted(HIGHLIGHTS[video]):
            a, b = max(at, first), min(end, last)
            if a < b:
                rows += [(video, at, a, "background")] if a > at else []
                rows.append((video, a, b, "highlight"))
                at = b
        rows += [(video, at, end, "background")] if at < end else []
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


def test_without_scores_or_labels_the_loudest_come_first(copied):
    copied.labels("judge").unlink()
    said = []
    queue = stages.review(
        copied, videos=["judge"], run="none-yet", limit=4, span_seconds=4, progress=False, say=said.append
    )
    assert said[0] == "judge: not scored by 'none-yet' yet, so the loudest moments stand for likely ones."
    assert len(queue) == 4
    assert len(said) == 5
    first = queue.row(0, named=True)
    assert first["reason"] == "likely"
    assert any(a < first["end"] and first["start"] < b for a, b in HIGHLIGHTS["judge"])


def test_answers_are_learned_from_and_never_asked_again(copied):
    copied.labels("judge").unlink()
    before = (copied.model("first") / "model.ckpt").read_bytes()
    queue = stages.review(copied, limit=6, span_seconds=4, progress=False, say=quiet)
    assert set(queue["video"]) == {"judge"}
    said = answer(copied, queue, "judge")
    stages.label_spans(copied, said, video="judge", origin="review", say=quiet)
    metrics = stages.relearn(copied, progress=False, say=quiet)
    assert (copied.model("first") / "model.ckpt").read_bytes() == before
    rounds = read_rounds(rounds_file(copied, "first"))
    assert rounds["round"].to_list() == [1, 2]
    looked = float((said["end"] - said["start"]).sum()) / 60
    assert rounds["looked_minutes"][1] - rounds["looked_minutes"][0] == pytest.approx(looked, abs=0.02)
    assert rounds["val_ap"][1] == pytest.approx(metrics["val_ap"])
    again = stages.review(copied, videos=["judge"], limit=50, span_seconds=4, progress=False, say=quiet)
    for start, end in again.select("start", "end").iter_rows():
        assert not any(start < b - 1e-6 and end > a + 1e-6 for a, b in said.select("start", "end").iter_rows())
    figure = stages.review_chart(copied)
    assert list(figure.axes[0].lines[0].get_xdata()) == rounds["looked_minutes"].to_list()


def test_a_run_without_a_sequence_model_is_told(copied):
    with pytest.raises(HlkitError, match="'other' has no sequence model"):
        stages.train(copied, videos=["learn"], run="other", epochs=1, sequence="none", progress=False, say=quiet)
        stages.relearn(copied, run="other", progress=False, say=quiet)


def test_a_new_class_needs_a_new_training(copied):
    labels = tables.marks_of(copied, "learn").with_columns(label=pl.lit("boss"))
    stages.label_spans(copied, labels, video="learn", origin="hand", say=quiet)
    with pytest.raises(HlkitError, match="classes background, boss, but 'first' learned background, highlight"):
        stages.relearn(copied, progress=False, say=quiet)
