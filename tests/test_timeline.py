import math
import warnings
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hlkit.timeline
from hlkit.labels import SPAN_SCHEMA
from hlkit.project import HlkitError, HlkitWarning
from hlkit.timeline import PickRules, add_intensity, find_threshold, pick_highlights

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)

PLAIN = {"release": 1.0, "merge_gap_seconds": 0.0, "min_seconds": 0.0, "pad_seconds": 0.0}


def table(values, fps=1.0, video="a", column="score", first=0):
    """Rows at `fps` from frame number `first`."""
    times = (np.arange(len(values)) + first) / fps
    return pl.DataFrame({"video": [video] * len(values), "time": times, column: np.asarray(values, np.float32)})


@st.composite
def timelines(draw):
    """One to three videos of any rate, with gaps; few distinct values, so that plateaus and ties are common."""
    parts = []
    for video in draw(st.sampled_from(["a", "ba", "cab"])):
        fps, first = draw(st.sampled_from([0.5, 1.0, 3.0, 29.97])), draw(st.integers(0, 5))
        for _ in range(draw(st.integers(1, 2))):
            values = draw(st.lists(st.integers(-1, 8).map(lambda v: v / 8), min_size=1, max_size=40))
            parts.append(table(values, fps, video, "intensity", first))
            first += len(values) + draw(st.integers(1, 9))
    return pl.concat(parts)


rules = st.fixed_dictionaries(
    {
        "release": st.sampled_from([0.3, 0.8, 1.0]),
        "merge_gap_seconds": st.sampled_from([0.0, 1.0, 4.5]),
        "min_seconds": st.sampled_from([0.0, 2.0]),
        "pad_seconds": st.sampled_from([0.0, 1.0, 3.3]),
    }
)


def quietly_pick(timeline, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HlkitWarning)
        return pick_highlights(timeline, **options)


def total(highlights):
    return (highlights["end"] - highlights["start"]).sum()


def rows(timeline, **options):
    return [row[:3] for row in pick_highlights(timeline, **{**PLAIN, **options}).rows()]


def test_centred_and_trailing_means_by_hand():
    scores = table([0, 0, 6, 0, 0, 3])
    centred = add_intensity(scores, window_seconds=2)
    assert centred["intensity"].to_list() == [0, 2, 2, 2, 1, 1.5]
    assert centred["intensity"].dtype == pl.Float32
    assert centred.drop("intensity").equals(scores)
    assert add_intensity(scores, window_seconds=3, align="trailing")["intensity"].to_list() == [0, 0, 2, 2, 2, 1]


def test_trailing_mean_times_window_is_the_rolling_sum():
    values = np.random.default_rng(0).random(300).astype(np.float32)
    trailing = add_intensity(table(values, fps=10), window_seconds=3, align="trailing")["intensity"].to_numpy()
    rolling = np.convolve(values, np.ones(30))[29:300]
    np.testing.assert_allclose(trailing[29:] * 30, rolling, rtol=1e-5)


def test_centred_peak_stands_where_the_score_peaks_and_trailing_lags_by_half():
    scores = table(np.exp(-(((np.arange(600) / 3 - 100) / 5) ** 2)), fps=3)
    peak = {
        align: scores["time"][add_intensity(scores, window_seconds=30, align=align)["intensity"].arg_max()]
        for align in ("centre", "trailing")
    }
    assert peak["centre"] == 100
    assert peak["trailing"] == pytest.approx(115, abs=1 / 3)


def test_windows_stay_in_their_video_reach_over_gaps_and_leave_out_missing_values():
    scores = pl.concat([table([1, 1]), table([5, 5], video="b"), table([4], first=10)])
    assert add_intensity(scores, window_seconds=30)["intensity"].to_list() == [2, 2, 5, 5, 2]
    assert add_intensity(scores, window_seconds=4)["intensity"].to_list() == [1, 1, 5, 5, 4]
    holes = pl.DataFrame({"video": ["a"] * 4, "time": [0.0, 1.0, 2.0, 30.0], "score": [1.0, None, math.nan, None]})
    assert add_intensity(holes, window_seconds=2)["intensity"].to_list() == [1, 1, None, None]
    assert add_intensity(table([]))["intensity"].to_list() == []


@unhurried
@given(timelines(), st.sampled_from([0.1, 1.0, 6.0, 1000.0]), st.sampled_from(["centre", "trailing"]), st.randoms())
def test_intensity_is_the_mean_over_the_window_in_any_order_of_rows(timeline, window, align, random):
    order = list(range(timeline.height))
    random.shuffle(order)
    got = add_intensity(timeline.rename({"intensity": "score"})[order], window_seconds=window, align=align)
    video, time, score = (got[name].to_numpy() for name in ("video", "time", "score"))
    low, high = (-window / 2 - 1e-6, window / 2 + 1e-6) if align == "centre" else (-window + 1e-6, 1e-6)
    for row in range(got.height):
        distance = time - time[row]
        expected = score[(video == video[row]) & (distance >= low) & (distance <= high)].mean(dtype=np.float64)
        assert got["intensity"][row] == pytest.approx(expected, abs=1e-6)


def test_threshold_by_hand():
    timeline = table([0, 9, 9, 0, 0, 9, 0, 5, 9], column="intensity")
    assert rows(timeline, threshold=9) == [("a", 1, 3), ("a", 5, 6), ("a", 8, 9)]
    assert rows(timeline, threshold=9, release=0.5) == [("a", 1, 3), ("a", 5, 6), ("a", 7, 9)]
    assert rows(timeline, threshold=9, merge_gap_seconds=2) == [("a", 1, 9)]
    assert rows(timeline, threshold=9, min_seconds=2) == [("a", 1, 3)]
    assert rows(timeline, threshold=9, pad_seconds=1) == [("a", 0, 9)]
    assert rows(timeline, threshold=9, min_seconds=2, pad_seconds=1.5) == [("a", 0, 4.5)]
    assert rows(timeline, threshold=9, pad_seconds=2, durations={"a": 9.5}) == [("a", 0, 9.5)]
    assert rows(timeline, threshold=9, durations={"a": 5.5, "other": 1.0}) == [("a", 1, 3), ("a", 5, 5.5)]
    assert rows(timeline, threshold=10) == []


def test_defaults_are_hysteresis_merging_shortest_length_and_padding():
    values = [0, 0, 10, 8, 0, 0, 0, 0, 10, 7, 0, 0, 0, 0, 0, 10] + [0] * 4
    spans = pick_highlights(table(values, column="intensity"), threshold=10)
    assert spans.rows() == [("a", 1.0, 10.0, "highlight")]
    assert spans.schema == SPAN_SCHEMA


def test_stretches_end_at_gaps_and_at_the_end_of_a_video():
    timeline = pl.concat(
        [table([1, 1, 1], 2.0), table([1, 1], 2.0, first=4), table([1], 2.0, "b"), table([0, 1], 4.0, "c")]
    )
    picked = rows(timeline, threshold=1, column="score")
    # The lone frame of "b" has no length, since nothing says how long it lasts.
    assert picked == [("a", 0, 1.5), ("a", 2, 3), ("c", 0.25, 0.5)]
    assert rows(timeline, threshold=1, column="score", merge_gap_seconds=0.5) == [("a", 0, 3), ("c", 0.25, 0.5)]


def test_values_below_zero_have_no_hysteresis_and_missing_ones_are_low():
    timeline = pl.DataFrame(
        {"video": ["a"] * 5, "time": [0.0, 1.0, 2.0, 3.0, 4.0], "loudness": [-30.0, -20.0, -19.0, None, math.nan]}
    )
    assert rows(timeline, threshold=-20, column="loudness", release=0.5) == [("a", 1, 3)]


@settings(unhurried, max_examples=60)
@given(timelines(), rules, st.one_of(st.floats(0.5, 60), st.integers(1, 60)), st.floats(0, 30), st.booleans())
def test_picked_highlights_fit_and_a_longer_target_never_gives_less(timeline, options, target, more, given_lengths):
    last = dict(timeline.group_by("video").agg(pl.col("time").max()).iter_rows())
    durations = {video: time + 0.7 for video, time in last.items()} if given_lengths else None
    picked = quietly_pick(timeline, target_seconds=target, durations=durations, label="win", **options)
    assert picked.schema == SPAN_SCHEMA
    assert set(picked["label"]) <= {"win"}
    assert picked.equals(picked.sort("video", "start"))
    assert total(picked) <= target + 1e-6
    assert (picked["start"] < picked["end"]).all()
    for (video,), part in picked.group_by("video", maintain_order=True):
        assert (part["start"][1:] > part["end"][:-1]).all()
        steps = timeline.filter(video=video)["time"].diff().drop_nulls()
        length = durations[video] if durations else last[video] + (steps.median() if len(steps) else 0)
        assert part["start"].min() >= 0
        assert part["end"].max() <= length + 1e-9
    longer = quietly_pick(timeline, target_seconds=target + more, durations=durations, **options)
    assert total(longer) >= total(picked) - 1e-6


@settings(unhurried, max_examples=30)
@given(timelines(), rules, st.floats(0.5, 60))
def test_no_threshold_comes_nearer_to_the_target(timeline, options, target):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picked = pick_highlights(timeline, target_seconds=target, **options)
    used = {**options, "release": 1.0} if caught else options
    values = set(timeline["intensity"])
    candidates = sorted(values | {value / used["release"] for value in values if value > 0} | {-2, 0.4, 0.55, 0.9})
    totals = [total(pick_highlights(timeline, threshold=threshold, **used)) for threshold in candidates]
    # `find_threshold` halves the list, which is right only because a lower threshold never takes time away.
    assert all(earlier >= later - 1e-9 for earlier, later in pairwise(totals))
    assert total(picked) == pytest.approx(max([length for length in totals if length <= target + 1e-6], default=0))


def test_target_by_hand():
    timeline = table([0, 3, 3, 0, 9, 0, 5, 5, 5], column="intensity")
    assert rows(timeline, target_seconds=5.9) == [("a", 4, 5), ("a", 6, 9)]
    assert rows(timeline, target_seconds=6) == [("a", 1, 3), ("a", 4, 5), ("a", 6, 9)]
    assert rows(timeline, target_seconds=3) == [("a", 4, 5)]
    assert rows(timeline, target_seconds=100) == [("a", 0, 9)]


def test_target_also_tries_thresholds_between_the_values():
    timeline = table([0, 10, 7, 0, 7, 7, 7], column="intensity")
    # At 10 the highlight is the peak alone, at 7 it is all five; at 8.75 the peak keeps the 7 behind it.
    assert rows(timeline, target_seconds=4, release=0.8) == [("a", 1, 3)]
    assert find_threshold(timeline, 4, rules=PickRules(0.8, 0, 0, 0)) == (8.75, 0.8)


def test_find_threshold_is_what_pick_highlights_uses():
    timeline = add_intensity(table(np.random.default_rng(1).random(900) ** 4, fps=3), window_seconds=5)
    level = find_threshold(timeline, 60, rules=PickRules(pad_seconds=2))
    by_threshold = pick_highlights(timeline, threshold=level.threshold, release=level.release, pad_seconds=2)
    assert by_threshold.equals(pick_highlights(timeline, target_seconds=60, pad_seconds=2))
    assert 50 < total(by_threshold) <= 60


def test_six_hours_take_few_steps(monkeypatch):
    timeline = table(np.random.default_rng(0).random(64_800), fps=3, column="intensity")
    calls = []
    pick = hlkit.timeline._pick
    monkeypatch.setattr(hlkit.timeline, "_pick", lambda *arguments: calls.append(1) or pick(*arguments))
    picked = pick_highlights(timeline, target_seconds=600)
    assert 590 < total(picked) <= 600
    assert len(calls) <= 21


def test_hysteresis_gives_way_to_a_short_target_and_says_so():
    timeline = table([5] * 30 + [6] * 4 + [5] * 30, column="intensity")
    with pytest.warns(HlkitWarning, match="With release=0.8 no highlight fits into 10 s; picking without hysteresis"):
        assert pick_highlights(timeline, target_seconds=10).rows() == [("a", 29.0, 35.0, "highlight")]
    with pytest.warns(HlkitWarning, match="without hysteresis"):
        assert find_threshold(timeline, 10) == (6, 1)


def test_nothing_short_enough_says_what_would_be():
    timeline = table([0] * 5 + [1] * 20, column="intensity")
    with pytest.warns(
        HlkitWarning, match=r"No highlight fits into 10 s: the shortest choice lasts 21\.0 s\. Ask for more"
    ):
        assert pick_highlights(timeline, target_seconds=10).height == 0
    with pytest.warns(HlkitWarning, match="shortest choice"):
        assert find_threshold(timeline, 10) == (math.inf, 0.8)
    assert pick_highlights(timeline, threshold=math.inf).height == 0
    with pytest.warns(HlkitWarning, match=r"nothing lasts min_seconds=60\. Set a smaller one"):
        pick_highlights(timeline, target_seconds=10, min_seconds=60)
    with pytest.warns(HlkitWarning, match="nothing lasts"):
        assert pick_highlights(timeline.clear(), target_seconds=10).schema == SPAN_SCHEMA


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "Give either a threshold or a wanted length"),
        ({"threshold": 0.5, "target_seconds": 60}, "Give either a threshold or a wanted length"),
        ({"target_seconds": 0}, "A reel of 0 s is not possible"),
        ({"target_seconds": math.nan}, "A reel of nan s is not possible"),
        ({"threshold": 0.5, "release": 0}, "release=0 is not allowed"),
        ({"threshold": 0.5, "pad_seconds": -1}, "pad_seconds=-1 is not allowed"),
        ({"threshold": 0.5, "min_seconds": math.inf}, "min_seconds=inf is not allowed"),
        ({"threshold": 0.5, "column": "chat"}, r"lacks the column chat\. It has: video, time, intensity\."),
    ],
)
def test_what_cannot_be_picked_says_why(options, reason):
    with pytest.raises(HlkitError, match=reason):
        pick_highlights(table([0, 1], column="intensity"), **options)


def test_what_cannot_be_smoothed_says_why():
    with pytest.raises(HlkitError, match="window_seconds=0 is not allowed"):
        add_intensity(table([0, 1]), window_seconds=0)
    with pytest.raises(HlkitError, match="'score' has infinite values"):
        add_intensity(table([0, -math.inf]))
    with pytest.raises(HlkitError, match="lacks the column score"):
        add_intensity(table([0, 1]).drop("score"))
