"""What each act of marking changes, against time painted second by second."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.project import HlkitError
from hlkit.widgets.marks import (
    Change,
    Mark,
    apply_changes,
    check_marks,
    gaps,
    inverse,
    plan_fill,
    plan_mark,
    plan_removal,
)

SECONDS = 24


def ids():
    numbers = count()
    return lambda: f"new-{next(numbers)}"


def after(marks, *acts):
    """The spans, as (start, end, label), after marking one after the other."""
    new_id, state = ids(), {mark.id: mark for mark in marks}
    for mark in acts:
        state = apply_changes(state, plan_mark(state, mark, new_id))
    return sorted((mark.start, mark.end, mark.label) for mark in state.values())


def highlight(id, start, end):
    return Mark(id, start, end, "highlight")


def background(id, start, end):
    return Mark(id, start, end, "background")


def test_marks_of_one_class_that_overlap_become_one_and_neighbours_stay_two():
    assert after([highlight("a", 2, 6)], highlight("b", 5, 9)) == [(2, 9, "highlight")]
    assert after([highlight("a", 2, 6)], highlight("b", 6, 9)) == [(2, 6, "highlight"), (6, 9, "highlight")]


def test_chunks_passed_one_after_the_other_become_one_span_of_background():
    assert after([background("a", 0, 30)], background("b", 30, 60)) == [(0, 60, "background")]


def test_a_highlight_cuts_the_background_in_two_and_background_cuts_a_highlight():
    assert after([background("a", 0, 30)], highlight("b", 10, 20)) == [
        (0, 10, "background"),
        (10, 20, "highlight"),
        (20, 30, "background"),
    ]
    assert after([highlight("a", 0, 30)], background("b", 0, 20)) == [(0, 20, "background"), (20, 30, "highlight")]
    assert after([highlight("a", 3, 4)], background("b", 0, 20)) == [(0, 20, "background")]


def test_two_classes_of_highlights_may_overlap():
    spans = after([Mark("a", 0, 10, "kill")], Mark("b", 5, 15, "funny"))
    assert spans == [(0, 10, "kill"), (5, 15, "funny")]


def test_a_moved_mark_takes_the_place_of_its_former_self():
    marks = {"a": highlight("a", 2, 6)}
    assert plan_mark(marks, highlight("a", 3, 6), ids()) == [Change("a", marks["a"], highlight("a", 3, 6))]
    assert plan_mark(marks, highlight("a", 2, 6), ids()) == []


def test_a_sliver_that_shows_no_picture_is_not_left_over():
    assert after([background("a", 0, 10)], highlight("b", 0.01, 9.99)) == [(0.01, 9.99, "highlight")]


def test_gaps_are_what_no_span_covers():
    marks = [highlight("a", 2, 4), background("b", 3, 6), highlight("c", 9, 12)]
    assert gaps(marks, 0, 10) == [(0, 2), (6, 9)]
    assert gaps(marks, 2, 6) == []
    assert gaps([], 5, 8) == [(5, 8)]


def test_what_is_taken_back_over_a_newer_mark_is_refused():
    with pytest.raises(HlkitError, match=r"newer highlight where 0:00:05.0 to 0:00:09.0"):
        check_marks({"a": highlight("a", 2, 6), "b": highlight("b", 5, 9)})
    check_marks({"a": highlight("a", 2, 6), "b": highlight("b", 6, 9), "c": background("c", 0, 9)})


@pytest.mark.parametrize(("start", "end"), [(4, 4), (5, 4), (-1, 4), (0, float("nan")), (0, float("inf"))])
def test_a_mark_that_is_no_stretch_of_time_is_refused(start, end):
    with pytest.raises(HlkitError, match="is no stretch"):
        Mark("a", start, end, "highlight")


stretch = st.tuples(st.integers(0, SECONDS - 1), st.integers(1, SECONDS)).filter(lambda ends: ends[0] < ends[1])
act = st.one_of(
    st.tuples(st.sampled_from(["highlight", "background", "fill"]), stretch),
    st.tuples(st.just("remove"), st.integers(0, 99)),
)


@given(st.lists(act, max_size=12))
def test_marks_cover_what_was_painted_last_and_every_act_can_be_taken_back(acts):
    new_id, marks, painted = ids(), {}, [""] * SECONDS
    for kind, value in acts:
        if kind == "remove":
            chosen = sorted(marks)[value % len(marks)] if marks else "none"
            changes = plan_removal(marks, chosen)
            where = range(int(marks[chosen].start), int(marks[chosen].end)) if marks else range(0)
            painted = ["" if second in where else label for second, label in enumerate(painted)]
        elif kind == "fill":
            changes = plan_fill(marks, *value, lambda a, b: background(new_id(), a, b))
            where = range(*value)
            painted = [label or "background" * (second in where) for second, label in enumerate(painted)]
        else:
            changes = plan_mark(marks, Mark(new_id(), *value, kind), new_id)
            painted = [kind if second in range(*value) else label for second, label in enumerate(painted)]
        following = apply_changes(marks, changes)
        assert apply_changes(following, inverse(changes)) == marks
        marks = following
        check_marks(marks)
        found = [
            "".join(mark.label for mark in marks.values() if mark.start <= second < mark.end)
            for second in range(SECONDS)
        ]
        assert found == painted
