"""Marks: the spans of one video while a person works on them, and what each act of marking changes (pure).

The latest mark counts. Marking a stretch as a class takes it from `background` (looked at and rejected), marking it as
background takes it from every class, and marking it as the same class again joins what it touches. Spans of two classes
that are not background may overlap, as in label files; spans of one label never do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from hlkit.labels import BACKGROUND, TIME_DECIMALS, TIME_TOLERANCE
from hlkit.project import HlkitError, format_time

# Two pictures of a 30 fps video lie further apart, so what is shorter than this shows one at most.
SHORTEST_SECONDS = 0.02


@dataclass(frozen=True)
class Mark:
    """One span of a video: `[start, end)` in seconds, its class, and who said so (`hand`, `review`, `import:...`)."""

    id: str
    start: float
    end: float
    label: str
    origin: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 <= self.start < self.end):
            raise HlkitError(
                f"A mark from {self.start} s to {self.end} s is no stretch; the end must be after the start."
            )
        object.__setattr__(self, "start", round(float(self.start), TIME_DECIMALS))
        object.__setattr__(self, "end", round(float(self.end), TIME_DECIMALS))

    def overlaps(self, other: Mark) -> bool:
        """Whether they share time; spans that touch do not."""
        return min(self.end, other.end) - max(self.start, other.start) > TIME_TOLERANCE


class Change(NamedTuple):
    """What becomes of one span: `before` is None for a new one, `after` for one that is taken away."""

    id: str
    before: Mark | None
    after: Mark | None


Marks = Mapping[str, Mark]


def apply_changes(marks: Marks, changes: Iterable[Change]) -> dict[str, Mark]:
    """The spans after the changes, by id."""
    after = dict(marks)
    for change in changes:
        if change.after is None:
            after.pop(change.id, None)
        else:
            after[change.id] = change.after
    return after


def inverse(changes: Iterable[Change]) -> list[Change]:
    """The changes that take these back."""
    return [Change(id, after, before) for id, before, after in reversed(list(changes))]


def plan_mark(marks: Marks, mark: Mark, new_id: Callable[[], str]) -> list[Change]:
    """What marking a stretch changes; a mark with the id of another one takes its place.

    Args:
        marks: the spans that are there, by id.
        mark: the stretch, inside the video.
        new_id: gives the second part of a span that the stretch cuts in two an id.
    """
    joined = [other for other in marks.values() if other.id != mark.id and _joins(other, mark)]
    whole = replace(
        mark,
        start=min([mark.start, *(other.start for other in joined)]),
        end=max([mark.end, *(other.end for other in joined)]),
    )
    changes = [Change(other.id, other, None) for other in joined]
    for other in marks.values():
        if other.id != mark.id and other.label != mark.label and BACKGROUND in (other.label, mark.label):
            changes += _without(other, mark, new_id)
    before = marks.get(mark.id)
    return changes if before == whole else [*changes, Change(mark.id, before, whole)]


def plan_fill(marks: Marks, start: float, end: float, mark: Callable[[float, float], Mark]) -> list[Change]:
    """What marking all time in `[start, end)` changes that no span covers yet; `mark` makes each new one."""
    changes: list[Change] = []
    for begin, stop in gaps(marks.values(), start, end):
        changes += plan_mark(apply_changes(marks, changes), mark(begin, stop), _no_new_id)
    return changes


def plan_removal(marks: Marks, id: str) -> list[Change]:
    """What taking a span away changes: nothing, when another tab was quicker."""
    return [Change(id, marks[id], None)] if id in marks else []


def gaps(marks: Iterable[Mark], start: float, end: float) -> list[tuple[float, float]]:
    """The stretches of `[start, end)` that no span covers, in order, without slivers of one picture at most."""
    found, reach = [], start
    for mark in sorted(marks, key=lambda mark: mark.start):
        if mark.end > start and mark.start < end:
            found.append((reach, mark.start))
            reach = max(reach, mark.end)
    found.append((reach, end))
    return [(begin, stop) for begin, stop in found if stop - begin >= SHORTEST_SECONDS]


def check_marks(marks: Marks) -> None:
    """An `HlkitError` when two spans of one label overlap."""
    reach: dict[str, Mark] = {}
    for mark in sorted(marks.values(), key=lambda mark: mark.start):
        other = reach.get(mark.label)
        if other is not None and mark.overlaps(other):
            shown = f"{format_time(mark.start, decimals=1)} to {format_time(mark.end, decimals=1)}"
            raise HlkitError(f"There is a newer {mark.label} where {shown} would come back. Take that away first.")
        if other is None or mark.end > other.end:
            reach[mark.label] = mark


def _joins(other: Mark, mark: Mark) -> bool:
    """Whether a span becomes one with the new mark.

    Chunks that were passed one after the other become one span of background; highlights side by side stay two.
    """
    touch = TIME_TOLERANCE if mark.label == BACKGROUND else -TIME_TOLERANCE
    return other.label == mark.label and min(mark.end, other.end) - max(mark.start, other.start) > -touch


def _without(other: Mark, mark: Mark, new_id: Callable[[], str]) -> list[Change]:
    """What is left of a span outside the mark; nothing changes where they share no time."""
    if not other.overlaps(mark):
        return []
    before, after = (other.start, mark.start), (mark.end, other.end)
    parts = [(start, end) for start, end in (before, after) if end - start >= SHORTEST_SECONDS]
    kept = [replace(other, start=start, end=end) for start, end in parts]
    changes = [Change(other.id, other, kept[0] if kept else None)]
    return changes + [Change(part.id, None, part) for part in (replace(part, id=new_id()) for part in kept[1:])]


def _no_new_id() -> str:
    raise AssertionError("what fills gaps cuts nothing in two")
