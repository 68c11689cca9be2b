"""Which pictures of a cut can be copied as they are coded, and which must be encoded anew. No video is touched.

A *GOP* is a keyframe and what is coded after it up to the next; it is *closed* when nothing in it needs a picture from
before its keyframe, and nothing after it one of its own. Whole closed GOPs can be copied, and so can the beginning of
one, as far as its pictures are coded in a row: no picture needs one that is coded after it. What lies before the first
keyframe of the cut has to be encoded, and at its end the few pictures that are coded after one which is shown later.

Pictures are numbered by when they are shown: 0 is the cut's first, at its rate; those before it have negative numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

# How the cuts' pictures come into the reel.
CutMode = Literal["smart", "keyframe", "encode"]
# A picture that comes further than this part of its length from its place is not at a steady rate. Containers that
# round to a millisecond stay below it up to 240 pictures a second.
STEADY = 0.25

OPEN = "its GOPs are open: pictures after a keyframe need some from before it"
UNSTEADY = "its pictures do not come at a steady rate"
CHANGED = "the parameters of its pictures change"
LATE = "no picture is there yet when it begins"
UNTIMED = "some of its pictures have no time"


class Coded(NamedTuple):
    """One coded picture: when it is shown, in pictures from the cut's first, and what it is.

    `is_idr`: decoding can begin with it; `is_keyframe`: the container says so; `is_same`: it brings no parameter sets
    that differ from the reel's.
    """

    time: float
    is_idr: bool
    is_keyframe: bool
    is_same: bool = True

    @property
    def number(self) -> int:
        """The picture's number."""
        return round(self.time)


@dataclass(frozen=True)
class CutPlan:
    """What becomes of the pictures `[0, count)` of a cut: `[copied, encoded)` are copied, those around it encoded.

    Attributes:
        count: how many pictures.
        copied: the first that is copied, which is a keyframe; equal to `count` when none is.
        encoded: the first after those, `copied` or above.
        decoded: the keyframe from which the pictures before `copied` are decoded, 0 or below.
        last: the last keyframe before `encoded`, from which those after it are decoded.
        reorder: how many pictures are coded ahead of one that is shown before them, at most.
        reason: why nothing is copied where that has to be said, else None.
    """

    count: int
    copied: int
    encoded: int
    decoded: int = 0
    last: int = 0
    reorder: int = 0
    reason: str | None = None

    @property
    def is_copied(self) -> bool:
        """Whether anything is."""
        return self.copied < self.encoded


def encode_all(count: int, reason: str | None = None) -> CutPlan:
    """The plan that copies nothing."""
    return CutPlan(count, count, count, reason=reason)


def plan_cut(pictures: Sequence[Coded], count: int) -> CutPlan:
    """Copy as much of `[0, count)` as can be.

    Args:
        pictures: in the order in which they are coded, from a keyframe at or before picture 0 on, as far as pictures
            below `count` may come.
        count: pictures of the cut, 1 or more.

    Returns:
        A plan; where it copies nothing because that would not be safe, with the reason.
    """
    fault = _fault(pictures, count)
    if fault is not None:
        return encode_all(count, fault)
    entries = [place for place, picture in enumerate(pictures) if picture.is_idr]
    begin = next((place for place in entries if pictures[place].number >= 0), None)
    if begin is None or pictures[begin].number >= count:
        unsafe = any(picture.is_keyframe and 0 <= picture.number < count for picture in pictures)
        return encode_all(count, OPEN if unsafe else None)
    copied = encoded = pictures[begin].number
    highest, reorder = copied - 1, 0
    for place in range(begin, len(pictures)):
        number, shown = pictures[place].number, copied + place - begin
        highest = max(highest, number)
        if number >= count:
            break
        reorder = max(reorder, shown - number)
        if highest == shown:
            encoded = shown + 1
    before = [pictures[place].number for place in entries if pictures[place].number <= 0]
    inside = [pictures[place].number for place in entries if pictures[place].number < encoded]
    if copied > 0 and not before:
        return encode_all(count, OPEN)
    return CutPlan(count, copied, encoded, before[-1] if before else 0, inside[-1], reorder)


def _fault(pictures: Sequence[Coded], count: int) -> str | None:
    """Why a cut's pictures can't be told apart by their times, or not joined with others; None where they can."""
    if not all(picture.is_same for picture in pictures):
        return CHANGED
    shown = sorted(picture.number for picture in pictures if 0 <= picture.number < count)
    if shown != list(range(count)):
        return UNSTEADY
    inside = [picture for picture in pictures if 0 <= picture.number < count]
    if any(abs(picture.time - picture.number) > STEADY for picture in inside):
        return UNSTEADY
    # After a picture with which decoding can begin, only later ones may come, and before it only earlier ones.
    lowest = None
    for picture in reversed(pictures):
        lowest = picture.number if lowest is None else min(lowest, picture.number)
        if picture.is_idr and lowest < picture.number:
            return OPEN
    highest = None
    for picture in pictures:
        if picture.is_idr and highest is not None and highest > picture.number:
            return OPEN
        highest = picture.number if highest is None else max(highest, picture.number)
    return None


def snap_outward(pictures: Sequence[Coded], count: int, *, to_end: bool) -> tuple[int, int] | None:
    """The pictures `[first, stop)` from the keyframe at or before picture 0 to that at or after picture `count`.

    Args:
        pictures: as for `plan_cut`, and on to the next keyframe; numbers below 0 as well.
        count: pictures of the cut.
        to_end: whether `pictures` go on to the end of the recording, where a cut may end as well.

    Returns:
        None when there is no such keyframe.
    """
    entries = [picture.number for picture in pictures if picture.is_idr]
    before = [number for number in entries if number <= 0]
    after = [number for number in entries if number >= count]
    if not after and to_end:
        after = [max(picture.number for picture in pictures) + 1]
    return (before[-1], after[0]) if before and after else None
