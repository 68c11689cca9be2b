"""The parts of a reel: which pictures of which cut can be copied, and which show something that has to be drawn.

The reel is its parts, one after another. Pictures are counted from the beginning of their cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Literal

from hlkit.project import HlkitError


@dataclass(frozen=True)
class ReelPart:
    """The pictures `[first, stop)` of the cut with the number `cut`, from 0.

    `kind`: nothing is drawn on a `plain` part unless all parts are encoded; a title on a `titled` one; a `fade` passes
    over into as many pictures from the beginning of the next cut.
    """

    cut: int
    first: int
    stop: int
    kind: Literal["plain", "titled", "fade"] = "plain"

    @property
    def count(self) -> int:
        """How many pictures it has."""
        return self.stop - self.first


def plan_parts(counts: Sequence[int], *, fade: int = 0, titled: int = 0) -> tuple[ReelPart, ...]:
    """The parts of a reel, in its order.

    Args:
        counts: how many pictures each cut has.
        fade: how many two neighbours share; each cut is longer than twice that (see `check_fade`).
        titled: how many of each cut's first pictures are a part of their own.

    Returns:
        Parts with a picture or more, together `sum(counts) - (len(counts) - 1) * fade`; each cut has one that is no
        fade.
    """
    parts = []
    for cut, count in enumerate(counts):
        is_last = cut == len(counts) - 1
        first, stop = fade if cut else 0, count - (0 if is_last else fade)
        middle = min(max(first, titled), stop)
        parts += [ReelPart(cut, first, middle, "titled"), ReelPart(cut, middle, stop)]
        if not is_last:
            parts.append(ReelPart(cut, stop, count, "fade"))
    return tuple(part for part in parts if part.count)


def reel_places(counts: Sequence[int], fade: int) -> list[int]:
    """The picture of the reel with which each cut begins."""
    return list(accumulate((count - fade for count in counts[:-1]), initial=0)) if counts else []


def check_fade(counts: Sequence[int], fade: int, rate: Fraction) -> None:
    """Refuse a fade for which a cut is too short.

    Raises:
        HlkitError: unless each of several cuts has more pictures than two fades.
    """
    if fade and len(counts) > 1 and min(counts) <= 2 * fade:
        number, most = counts.index(min(counts)) + 1, (min(counts) - 1) // 2
        length, longest = float(min(counts) / rate), int(most / rate * 100) / 100
        raise HlkitError(
            f"Cut {number} is {length:.2f} s long, which is not longer than two fades of {float(fade / rate):.2f} s. "
            f"Give a fade of at most {longest:g} s, or 0 for none."
        )
