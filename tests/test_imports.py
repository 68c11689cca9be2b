"""How the labels of a file join those that are there: by hand, and against time painted second by second."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.imports import Record, import_origin, join_import
from hlkit.labels import MARK_SCHEMA, merge_spans, read_labels, write_labels

SECONDS = 30
FILE = import_origin("f.csv")


def table(*rows):
    """A span table from (start, end, label, origin)."""
    return pl.DataFrame([("a", *row) for row in rows], schema=MARK_SCHEMA, orient="row")


def join(there, said, **options):
    """What is there and what the file says, both as (start, end, label[, origin]); returns rows and the result."""
    said = table(*((*row, FILE)[:4] for row in said))
    joined = join_import(table(*there), said, name="f.csv", **options)
    return joined.labels.drop("video").rows(), joined


def test_into_nothing_a_file_goes_as_it_is():
    said = [(0, 9, "background"), (2, 2.5, "highlight"), (4, 6, "win"), (5, 7, "highlight", "brother")]
    rows, joined = join([], said)
    assert rows == [(*row, FILE)[:4] for row in said]
    assert joined.record == Record([(*row, FILE)[:4] for row in said], [(*row, FILE)[:4] for row in said])
    assert list(joined.told("f.csv")) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # By half or more it is the same moment; a second before it is another way to end it.
        ((5, 15, "highlight"), []),
        ((1, 14, "highlight"), [(1, 10)]),
        ((9.5, 31, "highlight"), [(20, 31)]),
        # Another class may share its time; background may not.
        ((5, 15, "win"), [(5, 15)]),
        ((5, 15, "background"), [(5, 10)]),
        ((11, 12, "background"), []),
    ],
)
def test_a_mark_by_hand_comes_first(said, expected):
    rows, joined = join([(10, 20, "highlight", "hand")], [said])
    assert (10, 20, "highlight", "hand") in rows
    assert [row[:2] for row in rows if row[3] == FILE] == expected
    assert len(joined.contradictions) == (said[2] == "background")


def test_the_rest_of_a_match_gives_way_and_background_by_hand_does_not():
    there = [(0, 10, "background", "reel:best"), (10, 20, "background", "hand"), (20, 30, "background", "clips")]
    rows, joined = join(there, [(5, 12, "highlight"), (22, 24, "highlight")])
    assert rows == [
        (0, 5, "background", "reel:best"),
        (5, 10, "highlight", FILE),
        (10, 20, "background", "hand"),
        (20, 22, "background", "clips"),
        (22, 24, "highlight", FILE),
        (24, 30, "background", "clips"),
    ]
    assert [tuple(each) for each in joined.contradictions] == [(10, 12, "highlight", "background", "hand")]


def test_many_contradictions_are_counted_and_some_are_shown():
    there = [(start, start + 1, "background", None) for start in range(0, 20, 2)]
    _, joined = join(there, [(0, 20, "highlight")])
    (line,) = joined.told("f.csv")
    assert line.count("is highlight in the file and marked background") == 3
    assert "; and 7 more. To have" in line


marks = st.lists(
    st.tuples(st.integers(0, SECONDS - 2), st.integers(1, 6), st.sampled_from(["highlight", "background"])), max_size=6
)


def painted(rows, label):
    return {second for start, end, kind, *_ in rows for second in range(int(start), int(end)) if kind == label}


def plain(rows, origin):
    """Disjoint spans of each label, whole seconds, of one origin."""
    spans = table(*((start, min(start + length, SECONDS), label, origin) for start, length, label in rows))
    return merge_spans(spans).drop("video").sort("start", "end", "label").rows()


@given(marks, marks, marks)
def test_whatever_a_file_says_in_turn_marks_by_hand_stay_and_the_file_is_where_they_are_not(by_hand, first, second):
    by_hand, first, second = (
        plain(rows, origin) for rows, origin in ((by_hand, "hand"), (first, FILE), (second, FILE))
    )
    rows, joined = join(by_hand, first)
    for said in (second, first, first):
        rows, joined = join(rows, said, before=joined.record)
        assert [row for row in rows if row[3] == "hand"] == by_hand
        gave = [row for row in rows if row[3] == FILE]
        assert sorted(gave) == sorted(joined.record.gave)
        for label, other in (("highlight", "background"), ("background", "highlight")):
            left_out = painted(said, label) - painted(gave, label)
            assert painted(gave, label) == painted(said, label) - left_out
            assert not painted(gave, label) & (painted(by_hand, label) | painted(by_hand, other))
            mostly = [
                row for row in said if len(painted([row], label) & painted(by_hand, label)) * 2 >= row[1] - row[0]
            ]
            known = painted(mostly, label) if label == "highlight" else set()
            assert left_out == painted(said, label) & (
                painted(by_hand, label) | painted(by_hand, other) | (known if label == "highlight" else set())
            )
    assert rows == join(rows, first, before=joined.record)[0] == join(by_hand, first)[0]


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("best  of\nmay.csv", "import:best of may.csv"),
        ("caf\udce9\x01.csv", "import:caf__.csv"),
        ("суббота 😀.csv", "import:суббота 😀.csv"),
    ],
)
def test_an_origin_is_what_a_label_file_gives_back(tmp_path, name, origin):
    assert import_origin(name) == origin
    write_labels(table((1, 2, "highlight", origin)), tmp_path / "a.csv")
    assert read_labels(tmp_path / "a.csv")["origin"].to_list() == [origin]
