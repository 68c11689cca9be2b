import warnings
from fractions import Fraction
from math import floor

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hlkit.project import HlkitError, HlkitWarning
from hlkit.split import assign_chunks, chunk_splitter, fold_frames, rebalance, split_frames

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)

RATES = [Fraction(1, 2), Fraction(1), Fraction(3), Fraction(10), Fraction(24000, 1001)]


@st.composite
def tables(draw):
    """A frame table with its times as exact fractions: several videos, odd rates, gaps in time, labels in runs."""
    rows = []
    for video in draw(st.sampled_from(["a", "ba", "cab"])):
        fps = draw(st.sampled_from(RATES))
        number = draw(st.integers(0, 50))
        for _ in range(draw(st.integers(1, 3))):
            label = draw(st.integers(0, 2))
            count = draw(st.integers(1, 80))
            rows += [(video, Fraction(frame) / fps, label) for frame in range(number, number + count)]
            number += count + draw(st.integers(0, 200))
    exact = [time for _, time, _ in rows]
    table = pl.DataFrame([(v, float(t), y) for v, t, y in rows], schema=["video", "time", "label"], orient="row")
    return table.with_columns(pl.col("label").cast(pl.Int8)), exact


@unhurried
@given(st.integers(0, 500), st.integers(1, 60), st.floats(0.05, 0.95), st.integers(0, 5))
def test_chunk_splitter_keeps_every_row_and_whole_chunks(total, size, split, seed):
    mask = chunk_splitter(total, size, split, seed=seed)
    assert mask.shape == (total,)
    assert mask.dtype == bool
    assert np.array_equal(mask, chunk_splitter(total, size, split, seed=seed))
    chunks = [mask[start : start + size] for start in range(0, total, size)]
    assert all(chunk.all() or not chunk.any() for chunk in chunks)
    if len(chunks) > 1:
        assert sum(chunk.all() for chunk in chunks) == min(max(round(split * len(chunks)), 1), len(chunks) - 1)


def test_chunk_splitter_known_counts():
    assert chunk_splitter(100, 10).sum() == 80
    assert chunk_splitter(0, 10).tolist() == []
    assert chunk_splitter(7, 10, 0.1).tolist() == [True] * 7
    assert len({chunk_splitter(100, 10, seed=seed).tobytes() for seed in range(9)}) > 1
    # The last part-chunk goes to either side, and is never dropped.
    assert {bool(chunk_splitter(25, 10, 0.5, seed=seed)[-1]) for seed in range(9)} == {True, False}


@pytest.mark.parametrize("arguments", [(-1, 10), (10, 0), (10, 2, 0.0), (10, 2, 1.0), (10, 2, 80)])
def test_chunk_splitter_refuses_what_makes_no_sense(arguments):
    with pytest.raises(HlkitError, match="give"):
        chunk_splitter(*arguments)


@pytest.mark.parametrize(
    "times", [np.arange(900) * 0.1, np.arange(900) / 10, np.cumsum(np.full(900, 0.1)) - 0.1, np.arange(900) * (1 / 10)]
)
def test_a_frame_at_30_seconds_is_in_the_second_chunk(times):
    table = pl.DataFrame({"video": ["a"] * 900, "time": times})
    chunk = assign_chunks(table)["chunk"]
    assert chunk.dtype == pl.Int64
    assert chunk.to_list() == [frame // 300 for frame in range(900)]
    # Added up, ten times 0.1 s come to a little less than 1 s.
    assert assign_chunks(table, chunk_seconds=1)["chunk"].to_list() == [frame // 10 for frame in range(900)]


def test_chunks_are_numbered_by_video_and_time_without_holes():
    table = pl.DataFrame({"video": ["b", "a", "b", "a", "a"], "time": [0.0, 95.0, 29.9, 0.0, 10.0]})
    assert assign_chunks(table)["chunk"].to_list() == [2, 1, 2, 0, 0]


@settings(unhurried, max_examples=150)
@given(
    tables(),
    st.sampled_from([Fraction(3, 2), Fraction(7), Fraction(30)]),
    st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(5)]),
    st.floats(0.1, 0.6),
    st.integers(0, 3),
)
def test_nothing_leaks_from_validation_into_training(table_and_times, chunk_seconds, purge, share, seed):
    table, exact = table_and_times
    options = {"chunk_seconds": float(chunk_seconds), "purge_seconds": float(purge), "validation_share": share}
    try:
        split = split_frames(table, **options, seed=seed)
    except HlkitError:
        assume(False)
    assert split.select(table.columns).equals(table)
    assert split.equals(split_frames(table, **options, seed=seed))

    videos, parts = table["video"].to_list(), split["part"].to_list()
    blocks = [(video, floor(time / chunk_seconds)) for video, time in zip(videos, exact, strict=True)]
    chunk_of = dict(zip(blocks, split["chunk"], strict=True))
    assert split["chunk"].to_list() == [chunk_of[block] for block in blocks]
    assert sorted(chunk_of.values()) == list(range(len(chunk_of)))

    validation = {block for block, part in zip(blocks, parts, strict=True) if part == "validation"}

    def expected(video, time, block):
        if block in validation:
            return "validation"
        spans = [
            (number * chunk_seconds, (number + 1) * chunk_seconds) for other, number in validation if other == video
        ]
        return "purged" if any(start - purge <= time < end + purge for start, end in spans) else "train"

    assert parts == [expected(*row) for row in zip(videos, exact, blocks, strict=True)]
    assert {"train", "validation"} <= set(parts)

    with_positives = {block for block, label in zip(blocks, table["label"], strict=True) if label}
    if len(with_positives) > 1:
        assert with_positives & validation
        assert split.filter((pl.col("part") == "train") & (pl.col("label") > 0)).height
    # Class by class the draw may add chunks: never more than one for each of the two classes and for both together.
    assert len(validation) <= min(max(round(share * len(chunk_of)), 1), len(chunk_of) - 1) + 3


@settings(unhurried, max_examples=40)
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(table_and_times, random):
    table = table_and_times[0].with_row_index("row")
    order = list(range(table.height))
    random.shuffle(order)
    try:
        split = split_frames(table, chunk_seconds=7, purge_seconds=1)
    except HlkitError:
        assume(False)
    assert split_frames(table[order], chunk_seconds=7, purge_seconds=1).sort("row").equals(split)


def seconds(count, positive=(), video="a"):
    """One frame a second, labelled where `positive` says."""
    labels = [int(second in positive) for second in range(count)]
    return pl.DataFrame({"video": [video] * count, "time": [float(t) for t in range(count)], "label": labels})


def test_purge_gap_by_hand():
    split = split_frames(seconds(90), validation_share=0.34, purge_seconds=5)
    parts = split.group_by("chunk").agg("part").sort("chunk")["part"].to_list()
    validating = next(number for number, part in enumerate(parts) if part[0] == "validation")
    by_hand = {
        0: [["validation"] * 30, ["purged"] * 5 + ["train"] * 25, ["train"] * 30],
        # The frame at 25 s is exactly 5 s from the first instant of validation, the one at 65 s more than that from its
        # last.
        1: [["train"] * 25 + ["purged"] * 5, ["validation"] * 30, ["purged"] * 5 + ["train"] * 25],
        2: [["train"] * 30, ["train"] * 25 + ["purged"] * 5, ["validation"] * 30],
    }
    assert [list(part) for part in parts] == by_hand[validating]


def test_another_video_is_never_purged():
    split = split_frames(pl.concat([seconds(30), seconds(30, video="b")]), purge_seconds=5, validation_share=0.5)
    assert split.group_by("part").len().sort("part").rows() == [("train", 30), ("validation", 30)]


@given(st.lists(st.floats(5, 29), min_size=2, max_size=9), st.integers(0, 99))
def test_clips_that_are_shorter_than_a_chunk_are_held_back_whole(lengths, seed):
    clips = [pl.DataFrame({"video": f"clip{n}", "time": np.arange(0, length, 0.5)}) for n, length in enumerate(lengths)]
    for chunk_seconds in (30, 1e9):
        split = split_frames(pl.concat(clips), chunk_seconds=chunk_seconds, seed=seed)
        sides = split.group_by("video").agg(pl.col("part").unique())
        assert sides["part"].list.len().to_list() == [1] * len(lengths)
        assert set(split["part"]) == {"train", "validation"}


def test_share_is_of_all_chunks_and_of_those_with_highlights():
    table = seconds(3000, positive=set(range(0, 1500, 30)))
    split = split_frames(table, validation_share=0.2, purge_seconds=0)
    chunks = split.group_by("chunk").agg(pl.first("part"), pl.max("label"))
    assert chunks.filter(part="validation").height == 20
    assert chunks.filter(part="validation", label=1).height == 10


def test_single_chunk_of_highlights_stays_in_training():
    for seed in range(20):
        split = split_frames(seconds(120, positive={35}), validation_share=0.5, purge_seconds=0, seed=seed)
        assert split.filter(label=1)["part"].to_list() == ["train"]


def test_draw_is_repeated_when_the_purge_gap_would_take_the_last_highlights():
    # Of the chunks with highlights, only validating the second leaves the first one's frame at 2 s.
    table = seconds(120, positive={2, 31})
    for seed in range(20):
        split = split_frames(table, purge_seconds=5, seed=seed)
        assert split.filter(label=1)["part"].to_list() == ["train", "validation"]


@pytest.mark.parametrize(
    ("table", "options", "reason"),
    [
        (seconds(30), {}, "fill 1 chunk of 30 s and a split needs at least 2. Add more video"),
        (seconds(0), {}, "fill 0 chunk"),
        (seconds(60), {"purge_seconds": 30}, "leaves training no frames or no highlights"),
        (seconds(60, {29, 30}), {}, "leaves training no frames or no highlights"),
        (seconds(60), {"chunk_seconds": 0}, "chunk_seconds=0 is not allowed"),
        (seconds(60), {"purge_seconds": -1}, "purge_seconds=-1 is not allowed"),
        (seconds(60), {"validation_share": 1}, "validation_share=1 is not allowed"),
        (seconds(60).with_columns(time=pl.lit(None, pl.Float64)), {}, "times that are missing"),
        (seconds(60).with_columns(pl.col("time") - 1), {}, "before 0"),
    ],
)
def test_what_cannot_be_split_says_why(table, options, reason):
    with pytest.raises(HlkitError, match=reason):
        split_frames(table, **options)


def test_frames_without_labels_are_split():
    split = split_frames(seconds(300).drop("label"), purge_seconds=0)
    assert (split["part"] == "validation").sum() == 60
    assert split.columns == ["video", "time", "chunk", "part"]


@unhurried
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_rebalance_gives_positives_their_share(labels, share):
    labels = np.array(labels, dtype=np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HlkitWarning)
        weights = rebalance(labels, share)
    assert weights.shape == labels.shape
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)
    if 0 < (labels > 0).sum() < labels.size:
        assert weights[labels > 0].sum() == pytest.approx(share)
        assert len(set(weights[labels > 0])) == len(set(weights[labels == 0])) == 1


def test_rebalance_by_hand_and_at_its_edges():
    assert rebalance(pl.Series([0, 1, 0, 0])).tolist() == pytest.approx([0.7 / 3, 0.3, 0.7 / 3, 0.7 / 3])
    assert rebalance(np.array([0, 1]), None).tolist() == [0.5, 0.5]
    with pytest.warns(HlkitWarning, match="All 3 frames are background"):
        assert rebalance(np.zeros(3)).tolist() == [1 / 3] * 3
    with pytest.warns(HlkitWarning, match="All 2 frames are highlights"):
        rebalance(np.ones(2))
    with pytest.raises(HlkitError, match="no training frames"):
        rebalance(np.zeros(0))
    with pytest.raises(HlkitError, match="positive_share=30 is not allowed"):
        rebalance(np.array([0, 1]), 30)


def test_a_fold_that_would_leave_nothing_to_learn_from_is_left_out():
    # Two highlights over the border of two chunks: whichever chunk is held back, the purge takes the other's share.
    frames = pl.DataFrame({"video": "a", "time": np.arange(360) / 3, "frame": range(360)})
    frames = frames.with_columns(label=pl.col("time").is_between(27, 33, closed="left").cast(pl.Int8))
    assert fold_frames(frames, 8) == []
    assert len(fold_frames(frames, 8, purge_seconds=0)) == 2


@given(
    st.lists(st.tuples(st.floats(0, 290), st.floats(1, 60)), min_size=1, max_size=5),
    st.integers(2, 8),
    st.integers(0, 3),
)
def test_every_fold_has_both_classes_to_learn_from(spans, folds, seed):
    time = np.arange(900) / 3
    label = np.zeros(900, dtype=np.int8)
    for start, length in spans:
        label[(time >= start) & (time < start + length)] = 1
    frames = pl.DataFrame({"video": "a", "time": time, "frame": range(900), "label": label})
    parts = fold_frames(frames, folds, seed=seed)
    assert len(parts) != 1
    for learned, back in parts:
        assert set(label[learned]) == {0, 1}
        assert not (learned & back).any()
