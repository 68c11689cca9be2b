import math

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from spans_and_frames import recording, spans

from hlkit.events import (
    add_peaks,
    event_scores,
    events_hit,
    events_in_top_seconds,
    hit_at_k,
    precision_at_seconds,
    row_seconds,
    spans_of,
    spotting_scores,
    top_seconds,
    total_seconds,
)
from hlkit.project import HlkitError

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)

# Halves, so that sums are exact and touching spans occur.
times = st.integers(0, 200).map(lambda halves: halves / 2)
some_spans = st.lists(st.tuples(times, st.integers(1, 40).map(lambda halves: halves / 2)), max_size=12).map(
    lambda rows: spans(*((start, start + length) for start, length in rows))
)


def picks(*rows, video="a"):
    """(start, end, score) as a span table with scores."""
    return spans(*(row[:2] for row in rows), video=video).with_columns(
        pl.Series("score", [row[2] for row in rows], dtype=pl.Float64)
    )


def row_table(*times, video="a"):
    return pl.DataFrame({"video": [video] * len(times), "time": [float(time) for time in times]})


def test_event_scores_by_hand():
    true = spans((0, 10), (20, 30), (40, 50))
    assert event_scores(true, true) == (1, 1, 1)
    assert event_scores(spans(), true) == (0, 0, 0)
    assert event_scores(true, spans()) == (0, 0, 0)
    assert event_scores(spans(), spans()) == (0, 0, 0)
    # tIoU 5 / 10, 4 / 16 and none.
    predicted = spans((0, 5), (26, 36), (60, 70), (80, 90))
    assert event_scores(predicted, true) == pytest.approx((1 / 4, 1 / 3, 2 / 7))
    assert event_scores(predicted, true, tiou=0.25) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert event_scores(predicted, true.with_columns(video=pl.lit("b"))) == (0, 0, 0)


def test_an_event_is_matched_once_and_the_best_pair_first():
    # Both predictions overlap the one event; and one prediction may not find two events.
    assert event_scores(spans((0, 6), (4, 10)), spans((0, 10))) == pytest.approx((0.5, 1, 2 / 3))
    assert event_scores(spans((0, 10)), spans((0, 5), (5, 10)), tiou=0.5) == pytest.approx((1, 0.5, 2 / 3))
    # (2, 12) fits (2, 10) best with 8 / 10; (0, 10) is then left with (0, 9).
    assert event_scores(spans((2, 12), (0, 9)), spans((0, 10), (2, 10)), tiou=0.8) == (1, 1, 1)


def test_half_of_an_event_with_rounded_times_counts():
    # 0.1 * 3 - 0.1 is 0.20000000000000004, and 0.1 * 2 - 0.1 is a little less than half of that.
    true = spans((0.1, 0.1 * 3))
    assert event_scores(spans((0.1, 0.1 * 2)), true) == (1, 1, 1)
    assert events_hit(spans((0.1, 0.1 * 2)), true) == (1, 1)


def test_events_hit_by_hand():
    true = spans((0, 10), (20, 30), (40, 50))
    assert events_hit(spans((5, 22)), true) == (1, 3)
    assert events_hit(spans((5.1, 22)), true) == (0, 3)
    # Two pieces together, overlapping ones not twice.
    assert events_hit(spans((0, 3), (7, 10), (20, 24), (21, 24)), true) == (1, 3)
    assert events_hit(spans((0, 100)), true) == (3, 3)
    assert events_hit(spans((5, 22)), true, share=0.2) == (2, 3)
    assert events_hit(spans(), true) == (0, 3)
    assert events_hit(true, spans()) == (0, 0)
    assert events_hit(true, pl.concat([true, spans((0, 10), video="b")])) == (3, 4)
    assert events_hit(spans((0, 100)), true).hit == 3
    for wrong in (0, 1.1):
        with pytest.raises(HlkitError, match="is not allowed; give a share above 0 and at most 1"):
            events_hit(true, true, share=wrong)
        with pytest.raises(HlkitError, match="tiou="):
            event_scores(true, true, tiou=wrong)


def test_spotting_by_hand():
    true = spans((10, 20), (40, 50))
    assert spotting_scores(true, true) == (1, 1, 1)
    assert spotting_scores(spans(), true) == spotting_scores(true, spans()) == spotting_scores(spans(), spans())
    assert spotting_scores(spans(), true) == (0, 0, 0)
    # Centres 5, 25 and 56: on the edge of 5 s, on it after the end of the first event, and 6 s after the second.
    assert spotting_scores(spans((4, 6)), true) == pytest.approx((1, 1 / 2, 2 / 3))
    assert spotting_scores(spans((24, 26)), true) == pytest.approx((1, 1 / 2, 2 / 3))
    assert spotting_scores(spans((55, 57)), true) == (0, 0, 0)
    assert spotting_scores(spans((55, 57)), true, tolerance_seconds=6) == pytest.approx((1, 1 / 2, 2 / 3))
    # Two picks for one event: one of them is wrong. One pick in reach of two events hits one.
    assert spotting_scores(spans((12, 14), (15, 17)), true) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert spotting_scores(spans((25, 35)), true, tolerance_seconds=20) == pytest.approx((1, 1 / 2, 2 / 3))
    assert spotting_scores(spans((12, 14), video="b"), true) == (0, 0, 0)
    # 0.3 + 0.6 is a little less than 0.9 in floating point.
    pick = spans((0.0, 2.0)).with_columns(peak=0.9)
    assert spotting_scores(pick, spans((0.0, 0.3)), tolerance_seconds=0.6) == (1, 1, 1)
    with pytest.raises(HlkitError, match="tolerance_seconds=-1 is not allowed; give 0 or more seconds"):
        spotting_scores(true, true, tolerance_seconds=-1)


def test_a_peak_is_the_moment_where_there_is_one():
    true, pick = spans((10, 20)), spans((0, 60), (0, 60))
    assert spotting_scores(pick, true) == (0, 0, 0)
    assert spotting_scores(pick.with_columns(peak=pl.Series([None, 15.0])), true) == pytest.approx((1 / 2, 1, 2 / 3))


def test_spotting_makes_as_many_pairs_as_can_be():
    # The nearest pair first, 20 and [20, 30), would leave 26 alone, since [0, 16) is out of its reach.
    assert spotting_scores(spans((19, 21), (25, 27)), spans((0, 16), (20, 30))) == (1, 1, 1)


@unhurried
@given(some_spans, some_spans, st.integers(0, 10))
def test_spotting_agrees_with_scipys_maximum_matching(predicted, true, tolerance):
    moments = predicted.select((pl.col("start") + pl.col("end")) / 2).to_series().to_numpy()[:, None]
    starts, ends = (true[name].to_numpy()[None, :] for name in ("start", "end"))
    near = (moments >= starts - tolerance) & (moments <= ends + tolerance)
    pairs = int((maximum_bipartite_matching(csr_array(near)) >= 0).sum()) if near.size else 0
    expected = pairs / max(len(predicted), 1), pairs / max(len(true), 1)
    assert spotting_scores(predicted, true, tolerance_seconds=tolerance)[:2] == pytest.approx(expected)


@unhurried
@given(some_spans, some_spans)
def test_event_measures_are_proportions_and_grow_with_patience(predicted, true):
    loose, tight = (event_scores(predicted, true, tiou=tiou) for tiou in (0.3, 0.5))
    assert all(0 <= low <= high <= 1 for low, high in zip(tight, loose, strict=True))
    far, near = (spotting_scores(predicted, true, tolerance_seconds=seconds) for seconds in (9, 2))
    assert all(0 <= low <= high <= 1 for low, high in zip(near, far, strict=True))
    swapped = event_scores(true, predicted)
    assert (swapped.recall, swapped.precision) == (tight.precision, tight.recall)


@unhurried
@given(some_spans)
def test_the_truth_finds_itself(true):
    assume(true.height)
    assert event_scores(true, true) == spotting_scores(true, true, tolerance_seconds=0) == (1, 1, 1)
    assert events_hit(true, true, share=1) == (len(true), len(true))
    ranked = true.with_columns(score=pl.col("start"))
    assert hit_at_k(ranked, true, k=3) == (min(3, len(true)),) * 2


def test_hit_at_k_by_hand():
    true = spans((10, 20), (40, 50))
    ranked = picks((60, 62, 0.9), (12, 14, 0.8), (15, 17, 0.7), (44, 46, 0.6))
    assert [hit_at_k(ranked, true, k=k) for k in (1, 2, 3, 4, 5)] == [(0, 1), (1, 2), (1, 3), (2, 4), (2, 4)]
    assert hit_at_k(ranked.reverse(), true, k=2) == (1, 2)
    assert hit_at_k(picks(), true, k=1) == (0, 0)
    assert hit_at_k(ranked, spans(), k=2) == (0, 2)
    # The best of each video, and of equal scores the earlier one.
    both = pl.concat([picks((12, 14, 0.5), (90, 92, 0.5)), picks((0, 2, 0.1), video="b")])
    assert hit_at_k(both, pl.concat([true, spans((0, 2), video="b")]), k=1) == (2, 2)
    # Without a score last.
    unscored = picks((12, 14, None), (14, 16, math.nan), (60, 62, -5.0))
    assert hit_at_k(unscored, true, k=1) == (0, 1)
    with pytest.raises(HlkitError, match="give a whole k from 1"):
        hit_at_k(ranked, true, k=0)
    with pytest.raises(HlkitError, match=r"picks with a 'score' \(`add_peaks` adds it\)"):
        hit_at_k(true, true, k=1)


def test_peaks_by_hand():
    timeline = row_table(0, 1, 2, 3, 4, 5).with_columns(intensity=pl.Series([9.0, 1.0, 3.0, 3.0, math.nan, 8.0]))
    found = add_peaks(spans((1, 4), (4, 5), (3, 6), (0, 1), (7, 8)), timeline.sample(fraction=1, shuffle=True, seed=0))
    assert found["peak"].to_list() == [2.0, None, 5.0, 0.0, None]
    assert found["score"].to_list() == [3.0, None, 8.0, 9.0, None]
    assert add_peaks(spans((0, 9), video="b"), timeline)["peak"].to_list() == [None]
    assert add_peaks(spans(), timeline).columns == ["video", "start", "end", "label", "peak", "score"]


def test_what_time_a_row_stands_for():
    assert row_seconds(row_table(0, 0.5, 1, 1.5)).tolist() == [0.5] * 4
    # A gap belongs to nobody, and order doesn't matter.
    assert row_seconds(row_table(7, 1, 0, 2, 8)).tolist() == [1.0] * 5
    # Rows nearer than a step share no time.
    assert row_seconds(row_table(0, 1, 1.25, 2.25, 3.25)).tolist() == [1, 0.25, 1, 1, 1]
    two = pl.concat([row_table(0, 1), row_table(5, 7, video="b"), row_table(3, video="c")])
    assert row_seconds(two).tolist() == [1, 1, 2, 2, 0]
    assert row_seconds(row_table()).tolist() == []


def test_top_seconds_by_hand():
    frames = row_table(0, 1, 2, 3)
    assert top_seconds(frames, [4, 1, 3, 2], seconds=2).tolist() == [1, 0, 1, 0]
    assert top_seconds(frames, [4, 1, 3, 2], seconds=1.5).tolist() == [1, 0, 0.5, 0]
    # What doesn't fit of equal scores is taken alike.
    assert top_seconds(frames, [4, 1, 1, 1], seconds=2.5).tolist() == [1, 0.5, 0.5, 0.5]
    assert top_seconds(frames, [4, 1, 3, 2], seconds=100).tolist() == [1, 1, 1, 1]
    # Rows of two videos compete, each for the time that it stands for.
    both = pl.concat([row_table(0, 1), row_table(0, 5, video="b")])
    assert top_seconds(both, [1, 2, 4, 3], seconds=7.5).tolist() == [0, 0, 1, 0.5]
    for seconds in (0, -1, math.inf, math.nan):
        with pytest.raises(HlkitError, match="is not possible; give a length above 0"):
            top_seconds(frames, [4, 1, 3, 2], seconds=seconds)
    with pytest.raises(HlkitError, match="must be two rows of one length"):
        top_seconds(frames, [4, 1, 3], seconds=1)
    with pytest.raises(HlkitError, match="missing or infinite"):
        top_seconds(frames, [4, 1, 3, math.nan], seconds=1)


def test_precision_at_seconds_by_hand():
    frames = row_table(0, 1, 2, 3).with_columns(label=pl.Series([1, 0, 0, 2]))
    assert precision_at_seconds(frames, [4, 1, 3, 2], seconds=1) == 1
    assert precision_at_seconds(frames, [4, 1, 3, 2], seconds=2) == 0.5
    assert precision_at_seconds(frames, [4, 1, 3, 2], seconds=1.5) == pytest.approx(2 / 3)
    assert precision_at_seconds(frames, [4, 1, 3, 2], seconds=60) == 0.5
    assert precision_at_seconds(frames.head(1), [4], seconds=60) == 0
    # A row of a video with a longer step weighs more.
    both = pl.concat([frames, row_table(0, 6, video="b").with_columns(label=pl.Series([0, 0]))])
    assert precision_at_seconds(both, [9, 0, 0, 9, 9, 0], seconds=8) == 2 / 8


def test_events_in_top_seconds_by_hand():
    frames, true = row_table(*range(10)), spans((1, 4), (6, 8))
    first = [0.0, 9, 8, 0.1, 0, 0, 7, 0, 0, 6]
    assert events_in_top_seconds(frames, first, true, seconds=2) == (1, 2)
    assert events_in_top_seconds(frames, first, true, seconds=3) == (2, 2)
    assert events_in_top_seconds(frames, first, true, seconds=3, share=0.6) == (1, 2)
    assert events_in_top_seconds(frames, first, true) == (2, 2)
    assert events_in_top_seconds(frames, first, true.head(1)) == (1, 1)
    # A row covers its second alone: half of [4.5, 6.5) is 5.5 to 6 and 6 to 6.5 at the least.
    assert events_in_top_seconds(frames, [0, 0, 0, 0, 9, 9, 0, 0, 0, 0], spans((4.5, 6.5)), seconds=2) == (1, 1)
    assert events_in_top_seconds(frames, [0, 0, 0, 0, 9, 0, 9, 0, 0, 0], spans((4.75, 6.25)), seconds=2) == (0, 1)
    assert events_in_top_seconds(frames, first, spans()) == (0, 0)
    assert events_in_top_seconds(frames, first, spans((0, 9), video="b")) == (0, 1)
    shuffled = frames.with_columns(score=pl.Series(first, dtype=pl.Float64)).sample(fraction=1, shuffle=True, seed=3)
    assert events_in_top_seconds(shuffled, shuffled["score"], true, seconds=3) == (2, 2)
    with pytest.raises(HlkitError, match="share=0 is not allowed"):
        events_in_top_seconds(frames, first, true, share=0)


signals = st.lists(st.integers(0, 5), min_size=4, max_size=40)


@unhurried
@given(signals, st.data())
def test_top_seconds_fill_the_time_and_depend_on_the_order_of_scores_alone(scores, data):
    seconds = data.draw(st.floats(0.1, len(scores) + 5))
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores)))
    frames = row_table(*range(len(scores))).with_columns(label=pl.Series(labels))
    taken = top_seconds(frames, scores, seconds=seconds)
    assert taken.sum() == pytest.approx(min(seconds, len(scores)))
    assert ((taken >= 0) & (taken <= 1)).all()
    assert top_seconds(frames, np.exp(scores), seconds=seconds) == pytest.approx(taken)
    assert (np.diff(taken[np.argsort(scores, kind="stable")]) >= 0).all()
    for blind in (scores, [7] * len(scores)):
        length = len(scores) if blind is scores else seconds
        assert precision_at_seconds(frames, blind, seconds=length) == pytest.approx(np.mean(labels))
    true = spans_of(frames)
    found = [events_in_top_seconds(frames, scores, true, seconds=length).hit for length in (seconds, 2 * seconds)]
    assert found[0] <= found[1] <= len(true)
    if sum(labels):
        assert precision_at_seconds(frames, labels, seconds=total_seconds(true)) == 1
        assert events_in_top_seconds(frames, labels, true, share=1) == (len(true), len(true))


def test_events_of_labelled_frames():
    frames, _ = recording(seconds=100)
    assert spans_of(frames).rows() == [("a", 0.0, pytest.approx(10), ""), ("a", 50.0, pytest.approx(60), "")]
    assert total_seconds(spans_of(frames)) == pytest.approx(20)
    # A frame that is missing inside a highlight parts it; times that jitter do not.
    parted = frames.filter(~pl.col("time").is_between(4.9, 5.1))
    assert len(spans_of(parted)) == 3
    jitter = frames.with_columns(time=pl.col("time") + pl.Series(np.tile([0, 0.02, 0.05], 100)))
    assert len(spans_of(jitter)) == 2
    assert spans_of(frames.with_columns(label=pl.lit(0))).is_empty()
    assert total_seconds(spans((0, 10), (5, 12), (20, 21))) == 13


@pytest.mark.parametrize("k", [0, 1.5, -1])
def test_a_k_that_counts_nothing_is_refused(k):
    picks = spans((0, 1)).with_columns(score=pl.lit(1.0))
    assert hit_at_k(picks, spans((0, 1)), k=np.int64(1)).hit == 1
    with pytest.raises(HlkitError, match="give a whole k from 1"):
        hit_at_k(picks, spans((0, 1)), k=k)
