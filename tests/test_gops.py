"""What is copied of a cut, and what encoded, from the order and kind of its pictures alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.gops import CHANGED, OPEN, UNSTEADY, Coded, plan_cut, snap_outward


def coded(text: str, first: int = 0, keyframes: bool = True) -> list[Coded]:
    """Pictures in the order in which they are coded: numbers, with `!` after those with which decoding can begin."""
    return [
        Coded(int(word.rstrip("!")) + first, word.endswith("!"), keyframes and word.endswith("!"))
        for word in text.split()
    ]


def ends(plan) -> tuple[int, int]:
    return plan.copied, plan.encoded


def test_whole_gops_are_copied_and_the_edges_encoded():
    pictures = coded("0! 3 1 2 4! 7 5 6 8! 11 9 10 12! 15 13 14", first=-2)
    # -2 to 13: GOPs begin at -2, 2, 6 and 10.
    plan = plan_cut(pictures, 12)
    assert ends(plan) == (2, 11)
    assert (plan.decoded, plan.last, plan.reorder, plan.reason) == (-2, 10, 1, None)


@pytest.mark.parametrize(("count", "encoded"), [(4, 4), (5, 5), (6, 5), (7, 5), (8, 8)])
def test_of_the_last_gop_what_is_coded_in_a_row_is_copied(count, encoded):
    plan = plan_cut(coded("0! 3 1 2 4! 7 5 6 8! 11 9 10"), count)
    assert ends(plan) == (0, encoded)


def test_within_one_gop_nothing_is_copied_and_nothing_said():
    plan = plan_cut(coded("0! 1 2 3 4 5 6 7 8!", first=-2), 4)
    assert not plan.is_copied
    assert plan.reason is None


def test_a_gop_that_needs_pictures_from_before_its_keyframe_is_not_copied():
    # 4 is the keyframe, but 2 and 3 are coded after it and shown before it.
    assert plan_cut(coded("0! 1 4! 2 3 7 5 6 8!", first=-1), 7).reason == OPEN
    # The container calls it a keyframe, and decoding can't begin with it.
    pictures = coded("0! 1 2 3 4 5 6 7", first=-1)
    pictures[4] = Coded(3, False, True)
    assert plan_cut(pictures, 6).reason == OPEN


def test_a_picture_that_is_shown_after_the_next_keyframe_is_not_safe():
    assert plan_cut(coded("0! 5 1 2 3 4! 6 7"), 8).reason == OPEN


@pytest.mark.parametrize("text", ["0! 1 3 4! 5 6 7", "0! 1 2 2 3 4! 5 6 7", "0! 1 2 3 4! 5 6"])
def test_missing_and_double_pictures_are_not_steady(text):
    assert plan_cut(coded(text), 8).reason == UNSTEADY


@pytest.mark.parametrize(("late", "reason"), [(0.24, None), (0.26, UNSTEADY), (-0.26, UNSTEADY)])
def test_times_may_differ_by_a_rounding(late, reason):
    pictures = coded("0! 1 2 3 4! 5 6 7")
    pictures[2] = Coded(2 + late, False, False)
    assert plan_cut(pictures, 8).reason == reason


def test_other_parameters_are_not_joined():
    pictures = coded("0! 1 2 3 4! 5 6 7")
    pictures[4] = pictures[4]._replace(is_same=False)
    assert plan_cut(pictures, 8).reason == CHANGED


@st.composite
def recordings(draw):
    """Closed GOPs of any lengths with B-frames at any places, some before picture 0, and a number of pictures."""
    pictures, place = [], 0
    for length in draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)):
        order, rest = [0], list(range(1, length))
        while rest:
            ahead = draw(st.integers(0, min(3, len(rest) - 1)))
            order += [rest[ahead], *draw(st.permutations(rest[:ahead]))]
            rest = rest[ahead + 1 :]
        pictures += [(place + number, number == 0) for number in order]
        place += length
    first = draw(st.integers(0, place - 1))
    return [Coded(number - first, idr, idr) for number, idr in pictures], draw(st.integers(1, place - first))


@given(recordings())
def test_copied_and_encoded_tile_the_cut_and_nothing_needs_what_is_not_there(recording):
    pictures, count = recording
    plan = plan_cut(pictures, count)
    assert plan.reason is None
    assert 0 <= plan.copied <= plan.encoded <= count == plan.count
    taken = [place for place, picture in enumerate(pictures) if plan.copied <= picture.number < plan.encoded]
    if not taken:
        entries = [picture.number for picture in pictures if picture.is_idr and 0 <= picture.number < count]
        assert entries == []
        return
    # In a row as they are coded, from a keyframe on: each has all that is coded before it in its GOP.
    assert taken == list(range(taken[0], taken[-1] + 1))
    assert pictures[taken[0]].is_idr
    assert sorted(pictures[place].number for place in taken) == list(range(plan.copied, plan.encoded))
    # Nothing more could have been: no earlier keyframe, and no further row that shows no gap.
    assert not any(picture.is_idr and 0 <= picture.number < plan.copied for picture in pictures)
    for stop in range(plan.encoded + 1, count + 1):
        row = pictures[taken[0] : taken[0] + stop - plan.copied]
        assert sorted(picture.number for picture in row) != list(range(plan.copied, stop))
    # Decoded in time: with so much delay, and with no less.
    ahead = [row + plan.copied - pictures[place].number for row, place in enumerate(taken)]
    assert plan.reorder == max(ahead)
    for edge, entry in ((0, plan.decoded), (plan.encoded, plan.last)):
        if edge < plan.copied or plan.encoded < count:
            assert entry <= edge
            assert any(picture.is_idr and picture.number == entry for picture in pictures)


def test_cuts_snap_outward_to_keyframes():
    pictures = coded("0! 1 2 3 4! 5 6 7 8! 9 10 11 12!", first=-5)
    assert snap_outward(pictures, 2, to_end=False) == (-1, 3)
    assert snap_outward(pictures, 3, to_end=False) == (-1, 3)
    assert snap_outward(pictures, 4, to_end=False) == (-1, 7)
    assert snap_outward(pictures, 8, to_end=False) is None
    assert snap_outward(pictures, 8, to_end=True) == (-1, 8)
    assert snap_outward(pictures[9:], 2, to_end=True) is None
