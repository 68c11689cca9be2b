"""Recordings of one frame a second whose telling moments are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.labels import SPAN_SCHEMA
from hlkit.project import HlkitError
from hlkit.review import SHORTEST_SECONDS, review_queue


def scored(values, video="a"):
    values = np.asarray(values, dtype=np.float32)
    return pl.DataFrame({"video": [video] * len(values), "time": np.arange(float(len(values))), "score": values})


def spans(*rows):
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


def places(queue):
    return [row[:3] for row in queue.iter_rows()]


def test_the_highest_the_most_doubtful_and_the_strangest_come_in_turns():
    scores = np.zeros(300)
    scores[100:110], scores[200:210] = 1.0, 0.5
    features = np.zeros((300, 2))
    features[40:50, 1] = 3.0
    queue = review_queue(scored(scores), spans(), limit=3, features=features)
    assert queue["reason"].to_list() == ["likely", "uncertain", "new"]
    # The windowed mean over 10 s, ends included, is highest in the middle: rows 99 to 109 hold ten ones.
    assert [(start, end) for _, start, end in places(queue)] == [(99, 109), (199, 209), (39, 49)]
    assert queue["score"].to_list() == pytest.approx([0.9, 0.45, 0])


def test_nothing_that_was_looked_at_comes_again_whether_kept_or_rejected():
    scores = np.zeros(100)
    scores[40:60] = 1.0
    looked = spans(("a", 38.0, 50.0, "highlight"), ("a", 50.0, 55.0, "background"))
    queue = review_queue(scored(scores), looked, limit=1, reasons=["likely"])
    assert places(queue) == [("a", 55.0, 65.0)]


def test_the_rest_of_a_stretch_that_is_too_short_to_judge_goes_along():
    looked = spans(("a", 0.0, 30.0, "background"), ("a", 41.5, 60.0, "highlight"))
    scores = np.zeros(60)
    scores[36] = 1.0
    assert places(review_queue(scored(scores), looked)) == [("a", 30.0, 41.5)]
    short = spans(("a", 0.0, 30.0, "background"), ("a", 31.5, 60.0, "highlight"))
    assert review_queue(scored(scores), short).is_empty()


def test_videos_are_kept_apart():
    table = pl.concat([scored(np.zeros(30), "b"), scored(np.linspace(0, 1, 30), "a")])
    queue = review_queue(table, spans(("b", 0.0, 30.0, "background")), limit=9, reasons=["likely"])
    assert places(queue) == [("a", 20.0, 30.0), ("a", 10.0, 20.0), ("a", 0.0, 10.0)]


def test_what_was_queued_is_no_longer_new():
    features = np.zeros((120, 1))
    features[20:31], features[80:91] = 5.0, 5.0
    features[50:61] = -2.0
    queue = review_queue(scored(np.zeros(120)), spans(), limit=2, features=features, reasons=["new"])
    assert places(queue)[0] in (("a", 20.0, 30.0), ("a", 80.0, 90.0))
    assert places(queue)[1] == ("a", 50.0, 60.0)


def test_the_order_of_the_rows_does_not_count():
    rng = np.random.default_rng(0)
    table, features = scored(rng.random(200)), rng.normal(size=(200, 3))
    mixed = rng.permutation(200)
    again = review_queue(table[mixed.tolist()], spans(), features=features[mixed])
    assert again.equals(review_queue(table, spans(), features=features))


@given(st.integers(0, 2**31), st.floats(2, 40), st.integers(1, 30))
def test_spans_are_new_apart_and_inside(seed, seconds, limit):
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(200, 4, replace=False)).astype(float)
    looked = spans(*(("a", start, start + float(rng.uniform(0.5, 20)), "background") for start in starts))
    table = scored(rng.random(220))
    queue = review_queue(table, looked, span_seconds=seconds, limit=limit, features=rng.normal(size=(220, 2)))
    taken = sorted(zip(queue["start"], queue["end"], strict=True))
    assert len(queue) <= limit
    assert all(0 <= start < end <= 220 and end - start >= SHORTEST_SECONDS - 1e-6 for start, end in taken)
    assert all(end - start < seconds + 2 * SHORTEST_SECONDS for start, end in taken)
    assert all(first[1] <= second[0] + 1e-6 for first, second in pairwise(taken))
    for _, begin, end, _ in looked.iter_rows():
        assert not any(start < end - 1e-6 and stop > begin + 1e-6 for start, stop in taken)


def test_in_the_end_all_was_looked_at():
    queue = review_queue(scored(np.random.default_rng(1).random(100)), spans(), limit=1000)
    assert float((queue["end"] - queue["start"]).sum()) == pytest.approx(100)
    assert review_queue(scored(np.zeros(100)), queue.select("video", "start", "end", label=pl.lit("x"))).is_empty()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"span_seconds": 1.0}, "span_seconds 1.0; give 1 span or more, of 2 s"),
        ({"span_seconds": float("nan")}, "span_seconds nan"),
        ({"reasons": ["loud"]}, r"reasons are \['loud'\]; allowed are likely, uncertain, new"),
        ({"reasons": []}, "one at least"),
        ({"features": np.zeros((3, 2))}, "features of 3 rows for 50 scores"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(HlkitError, match=words):
        review_queue(scored(np.zeros(50)), spans(), **options)


@pytest.mark.parametrize("value", [None, np.nan])
def test_unknown_scores_are_refused(value):
    table = scored(np.zeros(50)).with_columns(
        score=pl.when(pl.col("time") == 7).then(pl.lit(value, dtype=pl.Float32)).otherwise("score")
    )
    with pytest.raises(HlkitError, match="Some scores are unknown"):
        review_queue(table, spans())
