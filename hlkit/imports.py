"""Imports: how the labels of a file join those that a video has, so that taking a file again loses nothing (pure).

- A file replaces what the same file gave before, and nothing else. What was marked by hand, in a review, by another
  file or by a match stays as it is and comes first.
- A span that stands in the file as it did the last time is left as it is now: whoever has changed it or taken it away
  since meant it.
- A new span that is marked as the same class already, by half of it or more, is the same moment and is left out. Else
  what is free of it is taken.
- Where the file and what is there contradict each other (one says a class, the other `background`), what is there
  stays, and it is told. Background that a match wrote gives way: nobody has said it of that moment.
- Spans of two classes that are not background may share time, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from hlkit.entries import plain_name
from hlkit.labels import BACKGROUND, MARK_SCHEMA, ORIGIN, TIME_DECIMALS, TIME_TOLERANCE
from hlkit.project import format_time

IMPORT = "import"
"""What the origin of a file's spans begins with; its name follows."""
MATCHES = ("reel", "reels", "clip", "clips")
"""What the origins of matched spans begin with (`hlkit.stages.match`): those of one reel or clip, and of several."""

# From here on a span of the file and what is marked are one moment, as an event counts as found.
SAME_SHARE = 0.5
# What is left over of a span beside marks of its class and is shorter is where two people ended it differently.
SHORTEST_SECONDS = 1.0
_SHOWN = 3

Row = tuple[float, float, str, str | None]
"""(start, end, label, origin)."""


class Record(NamedTuple):
    """What a file said when it was last taken, and which of a video's labels it gave: rows, to the microsecond."""

    said: list[Row]
    gave: list[Row]


class Contradiction(NamedTuple):
    """A span of the file, and a mark that says the opposite about a part of it."""

    start: float
    end: float
    label: str
    marked: str
    origin: str | None

    def __str__(self) -> str:
        by = f" ({self.origin})" if self.origin else ""
        where = f"{format_time(self.start)} to {format_time(self.end)}"
        return f"{where} is {self.label} in the file and marked {self.marked}{by}"


class Joined(NamedTuple):
    """What becomes of a video's labels."""

    labels: pl.DataFrame
    """Columns of `SPAN_SCHEMA` and `origin`, by start."""
    record: Record
    """To be given back when the same file is taken again."""
    known: int
    """How many new spans of the file were marked already."""
    contradictions: list[Contradiction]

    def told(self, name: str) -> Iterator[str]:
        """What a person should know of it, a sentence each; `name` is the file's."""
        if self.known:
            yield f"{self.known} of the spans in {name} {'was' if self.known == 1 else 'were'} marked already."
        if self.contradictions:
            shown = "; ".join(map(str, self.contradictions[:_SHOWN]))
            more = len(self.contradictions) - _SHOWN
            rest = f"; and {more} more" if more > 0 else ""
            yield (
                f"What is marked stays where {name} contradicts it: {shown}{rest}. "
                f"To have the file's labels and no others, replace them (--replace)."
            )


def import_origin(name: str) -> str:
    """The origin of the spans of a file, by its name without folders; files of one name count as one."""
    return f"{IMPORT}:{plain_name(name)}"


def join_import(labels: pl.DataFrame, spans: pl.DataFrame, *, name: str, before: Record | None = None) -> Joined:
    """Let the spans of a file join the labels of a video.

    Args:
        labels: what is there: columns of `SPAN_SCHEMA` and `origin`, of one video; spans of one label disjoint.
        spans: the file's, of the same video and in the same form.
        name: of the file, without folders.
        before: what was returned when the file was last taken; None when that is not known, and then whatever has the
            origin of the file is from it.
    """
    said = _rows(spans)
    again = {row[:3] for row in before.said} if before else set()
    mine, others, rests = _sorted_out(_rows(labels), name, set(before.gave) if before else set())
    unchanged = _Places([row for row in said if row[:3] in again])
    gave = [row for row in mine if any(_inside(row, span) for span in unchanged.near(row))]
    there, contradictions, found, known = _Places(others), [], [], 0
    for row in said:
        if row[:3] in again:
            continue
        start, end, label, origin = row
        near = there.near(row)
        same = [mark for mark in near if mark[2] == label]
        if label != BACKGROUND and sum(_shared(mark, row) for mark in same) >= SAME_SHARE * (end - start):
            known += 1
            continue
        against = [mark for mark in near if mark[2] != label and BACKGROUND in (mark[2], label)]
        contradictions += [Contradiction(max(start, mark[0]), min(end, mark[1]), label, *mark[2:]) for mark in against]
        least = SHORTEST_SECONDS if label != BACKGROUND and near else TIME_TOLERANCE
        free = _free(row, [*same, *against])
        found += [(*piece, label, origin) for piece in free if piece[1] - piece[0] >= least]
    taken = _Places(found)
    rests = [(*piece, *row[2:]) for row in rests for piece in _free(row, taken.near(row))]
    video = pl.concat([labels["video"], spans["video"]]).head(1).to_list()
    rows = sorted([*others, *gave, *rests, *found], key=lambda row: row[:3])
    table = pl.DataFrame([(*video, *row) for row in rows], schema=MARK_SCHEMA, orient="row")
    return Joined(table, Record(said, [*gave, *found]), known, contradictions)


class _Places:
    """Rows, and those of them that share time with another."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.starts, self.ends = (np.array([row[edge] for row in rows], dtype=np.float64) for edge in (0, 1))

    def near(self, row: Row) -> list[Row]:
        shared = np.minimum(self.ends, row[1]) - np.maximum(self.starts, row[0])
        return [self.rows[place] for place in np.flatnonzero(shared > TIME_TOLERANCE)]


def _sorted_out(rows: Sequence[Row], name: str, gave: set[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """The rows that the file gave, the marks of others, and the rests of matches."""
    mine, others, rests = [], [], []
    for row in rows:
        is_rest = row[2] == BACKGROUND and (row[3] or "").partition(":")[0] in MATCHES
        (mine if row[3] == import_origin(name) or row in gave else rests if is_rest else others).append(row)
    return mine, others, rests


def _rows(spans: pl.DataFrame) -> list[Row]:
    return spans.select(pl.col("start", "end").round(TIME_DECIMALS), "label", ORIGIN).rows()


def _inside(row: Row, span: Row) -> bool:
    return row[2] == span[2] and row[0] >= span[0] - TIME_TOLERANCE and row[1] <= span[1] + TIME_TOLERANCE


def _shared(one: Row, other: Row) -> float:
    return min(one[1], other[1]) - max(one[0], other[0])


def _free(row: Row, covers: Sequence[Row]) -> list[tuple[float, float]]:
    """The parts of a span, in order, that none of the others covers."""
    parts, at = [], row[0]
    for start, end, *_ in sorted(covers, key=lambda cover: cover[:2]):
        if start > at + TIME_TOLERANCE:
            parts.append((at, start))
        at = max(at, end)
    return [*parts, (at, row[1])] if row[1] > at + TIME_TOLERANCE else parts
