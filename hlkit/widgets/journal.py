"""The journal of marks: every act of marking is on disk before it is shown, and the label table follows from it.

One JSON object a line, only ever added to, each forced to the disk (fsync):

    {"op": "base", "marks": [[id, start, end, label, origin], ...]}     what the label table held
    {"op": "marks", "changes": [[id, before, after], ...]}              one act; null for no span
    {"op": "table", "digest": "..."}                                    the label table now holds all of the above

A process that is killed loses nothing: acts without a `table` line after them are put into the table when the journal
is next opened, and the half of a line that it was writing was never told as saved. A label table that was changed by
something else (an import, an editor) counts, and becomes the next `base`.

Several tabs and programs may write one journal. Each takes a lock, reads what the others have added, plans its own act
on that, and adds it: none is lost, and what is shown is what is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import polars as pl

from hlkit.labels import BACKGROUND, MARK_SCHEMA, ORIGIN, TIME_DECIMALS
from hlkit.locks import in_turn
from hlkit.project import HlkitError, HlkitWarning, format_time
from hlkit.widgets.marks import (
    Change,
    Mark,
    apply_changes,
    check_marks,
    inverse,
    plan_fill,
    plan_mark,
    plan_removal,
)

Stretches = Sequence[tuple[float, float]]


@contextmanager
def locked(journal: Path) -> Iterator[None]:
    """Let nobody else act on a video's marks for the length of the block. `journal` is made if it is not there."""
    with in_turn(journal, advice="label from one tab at a time"):
        yield


class Journal:
    """The marks of one video, shared by all who have its journal open.

    Args:
        path: the journal, one file a video.
        video: its id.
        duration: its length in seconds; no mark goes beyond.
        read: gives the label table as it is on disk, None when there is none.
        write: puts a label table there, in one step.

    Attributes:
        marks: the spans by id, as of the last call.

    Raises:
        HlkitError: by every method, when the label table can't be read or written; acts that were added before stay.
    """

    def __init__(
        self,
        path: Path,
        *,
        video: str,
        duration: float,
        read: Callable[[], pl.DataFrame | None],
        write: Callable[[pl.DataFrame], object],
    ) -> None:
        self.path, self.video, self.duration = Path(path), video, duration
        self.marks: dict[str, Mark] = {}
        self._read, self._write = read, write
        self._offset, self._lines, self._inode = 0, 0, -1
        self._written = ""  # the digest that the table had when it was last written
        self._unwritten: list[list[Change]] = []  # acts since then
        self._session, self._ids = secrets.token_hex(4), 0
        self._done: list[list[Change]] = []
        self._undone: list[list[Change]] = []
        self.sync()

    def sync(self) -> bool:
        """See what others have marked or written, and bring the table up to date; whether anything is new."""
        before = self.marks
        with locked(self.path):
            self._catch_up()
        return self.marks != before

    def mark(self, start: float, end: float, label: str, *, origin: str = "hand", asked: Stretches = ()) -> None:
        """Mark `[start, end)` as `label`; what becomes of the spans it meets says `hlkit.widgets.marks`.

        Of the stretches in `asked`, which a person was asked about one by one, those that the mark touches are decided
        by it, unless it is background itself: what is left of them, and not marked yet, is `background`.
        """
        mark = self._inside(Mark(self._new_id(), start, end, label, origin))
        self._act(lambda: self._with_rest(plan_mark(self.marks, mark, self._new_id), [mark], asked, origin))

    def move(self, id: str, start: float, end: float, *, origin: str = "hand", asked: Stretches = ()) -> None:
        """Give a span other ends; who did is its origin from then on.

        `asked` is as for `mark`, of the span as it was and as it becomes.

        Raises:
            HlkitError: when it is no longer there.
        """

        def plan() -> list[Change]:
            before = self._mark(id)
            moved = self._inside(replace(before, start=start, end=end, origin=origin))
            return self._with_rest(plan_mark(self.marks, moved, self._new_id), [before, moved], asked, origin)

        self._act(plan)

    def relabel(self, id: str, label: str, *, origin: str = "hand") -> None:
        """Give a span another class; origin and errors as for `move`."""
        self._act(lambda: plan_mark(self.marks, replace(self._mark(id), label=label, origin=origin), self._new_id))

    def remove(self, id: str) -> None:
        """Take a span away: its time then counts as never looked at."""
        self._act(lambda: plan_removal(self.marks, id))

    def fill(self, start: float, end: float, label: str, *, origin: str = "hand") -> None:
        """Mark as `label` what no span covers in `[start, end)`."""

        def one(begin: float, stop: float) -> Mark:
            return Mark(self._new_id(), begin, stop, label, origin)

        end = min(end, self.duration)
        self._act(lambda: plan_fill(self.marks, max(start, 0.0), end, one))

    def _with_rest(self, changes: list[Change], marks: Sequence[Mark], asked: Stretches, origin: str) -> list[Change]:
        """An act, and as part of it the background of what was asked and is left."""
        changes = list(changes)
        for start, end in asked if marks[0].label != BACKGROUND else ():
            end = min(end, self.duration)
            if any(mark.start < end and mark.end > start for mark in marks):
                after = apply_changes(self.marks, changes)
                changes += plan_fill(
                    after, start, end, lambda begin, stop: Mark(self._new_id(), begin, stop, BACKGROUND, origin)
                )
        return changes

    def undo(self) -> bool:
        """Take back this tab's last act; False when there is none.

        Raises:
            HlkitError: when another tab has changed the same spans since; nothing changes then.
        """
        return self._turn(self._done, self._undone)

    def redo(self) -> bool:
        """Do again what `undo` took back last; returns and raises as it does."""
        return self._turn(self._undone, self._done)

    def table(self) -> pl.DataFrame:
        """The label table: `SPAN_SCHEMA` and `origin` (null where nobody knows), in order of time."""
        rows = [(self.video, mark.start, mark.end, mark.label, mark.origin or None) for mark in self.marks.values()]
        return pl.DataFrame(rows, schema=MARK_SCHEMA, orient="row").sort("start", "end", "label")

    def _act(self, plan: Callable[[], list[Change]]) -> None:
        with locked(self.path):
            self._catch_up()
            if changes := plan():
                self._add(changes)
                self._done.append(changes)
                self._undone.clear()

    def _turn(self, source: list[list[Change]], target: list[list[Change]]) -> bool:
        with locked(self.path):
            self._catch_up()
            if not source:
                return False
            changes = inverse(source.pop())
            if any(self.marks.get(change.id) != change.before for change in changes):
                raise HlkitError("Another tab has changed these spans since, so the act stays as it is.")
            check_marks(apply_changes(self.marks, changes))
            self._add(changes)
            target.append(changes)
        return True

    def _add(self, changes: list[Change]) -> None:
        """Keep an act, then put it into the table."""
        rows = [[change.id, _row(change.before), _row(change.after)] for change in changes]
        self._append({"op": "marks", "changes": rows})
        self.marks = apply_changes(self.marks, changes)
        self._save_table()

    def _save_table(self) -> None:
        table = self.table()
        self._write(table)
        self._note_table(_digest(table))

    def _note_table(self, digest: str) -> None:
        self._append({"op": "table", "digest": digest})
        self._written, self._unwritten = digest, []

    def _catch_up(self) -> None:
        """Read what was added since, then hold the table on disk against it."""
        for number, line in self._new_lines():
            self._replay(number, line)
        table = self._read()
        found = "" if table is None else _digest(table)
        if found == _digest(self.table()):
            if self._unwritten:  # killed after the table was written, before that was noted
                self._note_table(found)
            return
        if table is None and not self.marks and not self._unwritten:
            return
        if found != self._written:
            # Something else wrote the table: it counts, and acts that it can't know of are laid over it.
            pending = self._unwritten
            marks = self._adopt(table)
            self._append({"op": "base", "marks": [_row(mark) for mark in marks.values()]})
            self.marks, self._written, self._unwritten = marks, found, []
            for changes in pending:
                self._lay_over(changes)
            if not pending:
                return
        self._save_table()

    def _lay_over(self, changes: Sequence[Change]) -> None:
        """Add an act again on other spans: what it took away goes by its id, what it made is marked anew."""
        again: list[Change] = []
        for id, _, after in changes:
            marks = apply_changes(self.marks, again)
            again += plan_removal(marks, id) if after is None else plan_mark(marks, after, self._new_id)
        if again:
            rows = [[change.id, _row(change.before), _row(change.after)] for change in again]
            self._append({"op": "marks", "changes": rows})
            self.marks = apply_changes(self.marks, again)

    def _adopt(self, table: pl.DataFrame | None) -> dict[str, Mark]:
        """The marks of a table; a span that is known keeps its id and its origin."""
        if table is None:
            return {}
        known = {(mark.start, mark.end, mark.label): mark for mark in self.marks.values()}
        marks = {}
        for row in table.iter_rows(named=True):
            mark = Mark(self._new_id(), row["start"], row["end"], row["label"], row.get(ORIGIN) or "")
            mark = known.get((mark.start, mark.end, mark.label), mark)
            marks[mark.id] = mark
        return marks

    def _replay(self, number: int, line: bytes) -> None:
        try:
            match json.loads(line):
                case {"op": "base", "marks": list(rows)}:
                    self.marks = {mark.id: mark for mark in map(_mark, rows) if mark is not None}
                    self._written, self._unwritten = _digest(self.table()), []
                case {"op": "marks", "changes": list(rows)}:
                    changes = [Change(str(id), _mark(before), _mark(after)) for id, before, after in rows]
                    self.marks = apply_changes(self.marks, changes)
                    self._unwritten.append(changes)
                case {"op": "table", "digest": str(digest)}:
                    self._written, self._unwritten = digest, []
                case other:
                    raise ValueError(f"it is {other!r:.80}")
        except (ValueError, TypeError, HlkitError) as error:
            reason = (
                f"{self.path}, line {number} is damaged ({error}) and is left out; look at the labels of that video"
            )
            warnings.warn(f"{reason}.", HlkitWarning, stacklevel=6)

    def _new_lines(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines that were added since, with their numbers; half a line of a killed process is cut off."""
        with self.path.open("rb+") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:
                # Another file, such as one that was pulled from a store: what it says counts.
                self._offset, self._lines, self._inode = 0, 0, found.st_ino
                self.marks, self._written, self._unwritten = {}, "", []
            file.seek(self._offset)
            added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            if len(whole) < len(added):
                file.truncate(self._offset)
        for line in whole.splitlines():
            self._lines += 1
            yield self._lines, line

    def _append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._offset += len(line)
        self._lines += 1

    def _mark(self, id: str) -> Mark:
        if id not in self.marks:
            raise HlkitError("That span is no longer there: another tab has taken it away or changed it.")
        return self.marks[id]

    def _inside(self, mark: Mark) -> Mark:
        if mark.start >= self.duration:
            length = format_time(self.duration, decimals=2)
            raise HlkitError(f"{format_time(mark.start, decimals=2)} lies behind the end of the video, {length}.")
        return replace(mark, end=min(mark.end, self.duration))

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._session}-{self._ids}"


def _row(mark: Mark | None) -> list[Any] | None:
    return None if mark is None else list(astuple(mark))


def _mark(row: Sequence[Any] | None) -> Mark | None:
    if row is None:
        return None
    id, start, end, label, origin = row
    return Mark(str(id), float(start), float(end), str(label), str(origin))


def _digest(table: pl.DataFrame) -> str:
    """A short name for the spans of a table, whatever their order and origin."""
    plain = table.select(pl.col("start", "end").round(TIME_DECIMALS), "label").sort("start", "end", "label")
    return hashlib.sha256(json.dumps(plain.rows()).encode()).hexdigest()[:16]
