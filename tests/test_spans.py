"""Whole tables of spans: clipped, mapped to classes, background made explicit, two people compared."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from hlkit.agreement import agreement, cohen_kappa
from hlkit.labels import SPAN_SCHEMA, add_background, clip_spans, covered, map_labels, merge_spans
from hlkit.picture_folders import read_picture_folder
from hlkit.project import HlkitError


def spans(*rows):
    """A span table from (video, start, end[, label])."""
    return pl.DataFrame([(*row, "highlight")[:4] for row in rows], schema=SPAN_SCHEMA, orient="row")


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 30), st.sampled_from(["x", "background"])),
    max_size=8,
).map(lambda rows: [(video, start / 2, (start + length) / 2, label) for video, start, length, label in rows])


def moments(video, stop=50):
    return pl.DataFrame({"video": video, "time": np.arange(0, stop, 0.25)})


def test_clip_cuts_at_both_ends_and_drops_what_lies_outside():
    table = spans(("a", -5, 3), ("a", 8, 12), ("a", 10, 11), ("a", -2, 0), ("b", 1, 2)).with_columns(note=pl.lit("n"))
    assert clip_spans(table, {"a": 10.0}).rows() == [("a", 0, 3, "highlight", "n"), ("a", 8, 10, "highlight", "n")]


def test_labels_are_mapped_dropped_and_joined():
    table = spans(("a", 0, 5, "Kill"), ("a", 4, 8, "Win"), ("a", 9, 10, "Menu"), ("a", 11, 12, "Start"))
    classes = {"Kill": "highlight", "Win": "highlight", "Start": ""}
    assert map_labels(table, classes).rows() == [("a", 0, 8, "highlight"), ("a", 9, 10, "Menu")]
    assert map_labels(table, classes | {"*": "background"}).rows() == [
        ("a", 0, 8, "highlight"),
        ("a", 9, 10, "background"),
    ]
    assert map_labels(table, {"*": "x"})["label"].unique().to_list() == ["x"]
    assert map_labels(table, {"*": ""}).is_empty()
    assert map_labels(table, {}).height == 4


def test_background_is_what_was_looked_at_and_not_marked():
    table = spans(("a", 2, 4), ("a", 3, 5, "win"), ("a", 9, 20), ("b", 1, 2)).with_columns(origin=pl.lit("hand"))
    made = add_background(table, spans(("a", 0, 6), ("a", 6, 10), ("c", 1, 2)))
    assert made.filter(pl.col("label") == "background").rows() == [
        ("a", 0, 2, "background", None),
        ("a", 5, 9, "background", None),
        ("c", 1, 2, "background", None),
    ]
    assert made.filter(pl.col("label") != "background").equals(merge_spans(table))
    whole = add_background(table, {"b": 10.0})
    assert whole.filter(pl.col("label") == "background").select("video", "start", "end").rows() == [
        ("b", 0, 1),
        ("b", 2, 10),
    ]


@given(rows, rows)
@settings(max_examples=40)
def test_made_background_fills_exactly_what_was_looked_at(marked, seen):
    marked, seen = spans(*marked), spans(*seen)
    made = add_background(marked, seen)
    for video in "ab":
        grid = moments(video)
        assert (covered(grid, made) == (covered(grid, marked) | covered(grid, seen))).all()
        background = covered(grid, made.filter(pl.col("label") == "background"))
        was = covered(grid, marked.filter(pl.col("label") == "background"))
        assert (background == (was | (covered(grid, seen) & ~covered(grid, marked)))).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs):
    one, other = np.array(pairs).T
    if len(np.union1d(one, other)) == 1:
        assert cohen_kappa(one, other) == 1.0  # scikit-learn gives NaN
    else:
        assert cohen_kappa(one, other) == pytest.approx(cohen_kappa_score(one, other))


def test_kappa_of_cohen_s_hand_worked_case():
    # 20 both yes, 15 both no, 5 and 10 mixed: observed 0.7, by chance 0.5 (Wikipedia's example of grant reviewers).
    one = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    other = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    for wrong in (other[1:], other[:0]):
        with pytest.raises(HlkitError, match="labels can't be compared"):
            cohen_kappa(one[: len(wrong) and 50], wrong)


def test_two_labellers_are_compared_over_time_and_by_span():
    mine, theirs = spans(("a", 10, 20), ("a", 50, 60)), spans(("a", 10, 20), ("a", 80, 90))
    found = agreement(mine, theirs, durations={"a": 100.0})
    # 10 s both, 20 s one of them, 70 s none: 0.8 the same, 0.2 * 0.2 + 0.8 * 0.8 = 0.68 by chance.
    assert found.same == pytest.approx(0.8)
    assert found.kappa == pytest.approx((0.8 - 0.68) / (1 - 0.68))
    assert found.event_f1 == pytest.approx(0.5)
    assert found.seconds == 100.0
    assert agreement(mine, mine, durations={"a": 100.0})[:3] == (1.0, 1.0, 1.0)
    assert agreement(mine, theirs, durations={"a": 100.0}) == agreement(theirs, mine, durations={"a": 100.0})


def test_a_span_of_another_class_is_no_agreement():
    found = agreement(spans(("a", 0, 50, "win")), spans(("a", 0, 50, "kill")), durations={"a": 50.0})
    assert (found.same, found.event_f1) == (0.0, 0.0)
    assert found.kappa == pytest.approx(0.0)


def test_only_what_both_looked_at_counts():
    mine = spans(("a", 0, 10), ("a", 10, 40, "background"))
    theirs = spans(("a", 0, 10), ("a", 60, 90))
    found = agreement(mine, theirs, durations={"a": 100.0})
    assert (found.seconds, found.same, found.kappa) == (40.0, 1.0, 1.0)
    with pytest.raises(HlkitError, match="There is no moment that both looked at"):
        agreement(mine, spans(("a", 50, 60, "background")), durations={"a": 100.0})
    with pytest.raises(HlkitError, match="There is no moment that both looked at"):
        agreement(mine, theirs, durations={})
    with pytest.raises(HlkitError, match="step_seconds=0 is not allowed"):
        agreement(mine, theirs, durations={"a": 100.0}, step_seconds=0)


def test_nothing_marked_by_both_is_full_agreement():
    assert agreement(spans(), spans(), durations={"a": 9.5})[:3] == (1.0, 1.0, 1.0)


def test_picture_folders_give_pictures_and_classes(tmp_path):
    for name in (
        "win/2.JPG",
        "win/1.png",
        "win/deep/3.webp",
        "menu/1.jpg",
        "menu/notes.txt",
        "menu/.hidden.png",
        ".git/x.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    table = read_picture_folder(tmp_path)
    assert table["label"].to_list() == ["menu", "win", "win", "win"]
    expected = ["menu/1.jpg", "win/1.png", "win/2.JPG", "win/deep/3.webp"]
    assert table["path"].to_list() == [str(tmp_path / name) for name in expected]
    (tmp_path / "loose.png").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        HlkitError, match=r"'loose.png' lies in no folder; the folder 'empty' has no picture. Allowed are"
    ):
        read_picture_folder(tmp_path)
    with pytest.raises(HlkitError, match="there is no folder in it"):
        read_picture_folder(tmp_path / "empty")
    with pytest.raises(HlkitError, match="There is no folder"):
        read_picture_folder(tmp_path / "none")
