"""The tables of an MP4 that say where each sample lies and when it is shown, read a block at a time.

An MP4 of six hours has two million samples, and libav keeps the tables of all of them in memory. Here they are read
where they lie, so a recording may be of any length. After ISO/IEC 14496-12 (the sample table box, `stbl`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import BinaryIO, NamedTuple

import numpy as np

# So many entries of a table are read at once.
BLOCK = 8192
# Chunks of some so many samples make a block: of pictures hundreds, of sound without compression a few.
BLOCK_SAMPLES = 1 << 16
# A file with more samples in one chunk is not interleaved, and a block of it would be as large as it.
CHUNK_SAMPLES = BLOCK_SAMPLES


class Box(NamedTuple):
    """A box of the file: its type, where it begins, where what is in it begins, and where it ends, in bytes."""

    kind: bytes
    begin: int
    inside: int
    end: int


def read_bytes(file: BinaryIO, begin: int, count: int) -> bytes:
    """So many bytes from a place on.

    Raises:
        ValueError: when there are fewer.
    """
    file.seek(begin)
    data = file.read(count)
    if len(data) < count:
        raise ValueError(f"the file ends at byte {begin + len(data)}")
    return data


def read_boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    """The boxes that lie one behind the other between two places of the file.

    Raises:
        ValueError: when what is there is no whole box.
    """
    while begin < end:
        size, kind = struct.unpack(">I4s", read_bytes(file, begin, 8))
        inside = begin + 8
        if size == 1:
            (size,) = struct.unpack(">Q", read_bytes(file, inside, 8))
            inside += 8
        stop = end if size == 0 else begin + size
        if not inside <= stop <= end:
            raise ValueError(f"the box {kind!r} at byte {begin} is {size} bytes long")
        yield Box(kind, begin, inside, stop)
        begin = stop


def read_timescale(file: BinaryIO, header: Box) -> int:
    """Ticks a second, as an `mvhd` or an `mdhd` says.

    Raises:
        ValueError: when it says none.
    """
    version = read_bytes(file, header.inside, 1)[0]
    (timescale,) = struct.unpack(">I", read_bytes(file, header.inside + (20 if version else 12), 4))
    if timescale == 0:
        raise ValueError("there is no clock")
    return int(timescale)


@dataclass(frozen=True)
class Samples:
    """Samples that follow each other in a track; arrays of one length.

    Attributes:
        dts, pts: when a sample is decoded and shown, in ticks of its track, whatever its edit list says.
        duration: in ticks.
        size, offset: in bytes, of the sample in the file.
        is_sync: whether decoding can begin with it.
    """

    dts: np.ndarray
    pts: np.ndarray
    duration: np.ndarray
    size: np.ndarray
    offset: np.ndarray
    is_sync: np.ndarray

    def __len__(self) -> int:
        return len(self.dts)

    def __getitem__(self, part: slice | np.ndarray) -> Samples:
        return Samples(*(column[part] for column in self._columns()))

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """One behind the other; at least one part."""
        return cls(*map(np.concatenate, zip(*(part._columns() for part in parts), strict=True)))

    def _columns(self) -> list[np.ndarray]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Track:
    """A track and where its sample tables are.

    Attributes:
        box: the track's, `trak`.
        kind: what it holds: `vide`, `soun`, `text`, ...
        timescale: ticks a second.
        edits: duration (in ticks of the movie) and media time (in ticks of the track; -1: nothing is shown) of each
            edit; empty without an edit list.
        tables: the boxes in its `stbl`, by type.
    """

    box: Box
    kind: bytes
    timescale: int
    edits: tuple[tuple[int, int], ...]
    tables: dict[bytes, Box]

    @classmethod
    def read(cls, file: BinaryIO, box: Box) -> Track:
        """What a `trak` says.

        Raises:
            ValueError: when a box is missing, or something rare would be needed to understand it.
        """
        inside = _named(file, box)
        media = _named(file, _need(inside, b"mdia"))
        tables = _named(file, _need(_named(file, _need(media, b"minf")), b"stbl"))
        (kind,) = struct.unpack(">4s", read_bytes(file, _need(media, b"hdlr").inside + 8, 4))
        timescale = read_timescale(file, _need(media, b"mdhd"))
        edits = _edits(file, _need(_named(file, inside[b"edts"]), b"elst")) if b"edts" in inside else ()
        for table in (b"stsd", b"stts", b"stsc", b"stsz"):
            _need(tables, table)
        if _entry_count(file, tables[b"stsd"]) != 1:
            raise ValueError("the track has several descriptions of its samples")
        if kind == b"vide" and (rare := {b"stps", b"sbgp"} & tables.keys()):
            raise ValueError(f"the track says in {rare} where decoding can begin")
        return cls(box, kind, timescale, edits, tables)

    def samples(self, file: BinaryIO) -> Iterator[Samples]:
        """All samples, a block at a time.

        Raises:
            ValueError: when the tables do not agree.
        """
        place, dts = 0, 0
        steps = _Runs(_entries(file, self.tables[b"stts"], ">u4", 2))
        shifts = _Runs(_entries(file, self.tables[b"ctts"], ">i4", 2)) if b"ctts" in self.tables else None
        each, count = struct.unpack(">II", read_bytes(file, self.tables[b"stsz"].inside + 4, 8))
        sync = self._sync(file)
        for begins, held in self._chunks(file):
            total = int(held.sum())
            if place + total > count:
                raise ValueError("chunks hold more samples than there are")
            size = np.full(total, each, np.int64)
            if not each:
                first = self.tables[b"stsz"].inside + 12 + 4 * place
                size = np.frombuffer(read_bytes(file, first, 4 * total), ">u4").astype(np.int64)
            before = np.cumsum(size) - size
            offset = np.repeat(begins - before[np.cumsum(held) - held], held) + before
            duration = steps.take(total)
            times = dts + np.cumsum(duration) - duration
            pts = times if shifts is None else times + shifts.take(total)
            is_sync = np.full(total, sync is None)
            if sync is not None:
                is_sync[sync[(sync > place) & (sync <= place + total)] - place - 1] = True
            yield Samples(times, pts, duration, size, offset, is_sync)
            place, dts = place + total, dts + int(duration.sum())
        if place != count or not steps.is_empty() or (shifts is not None and not shifts.is_empty()):
            raise ValueError("tables are about different numbers of samples")

    def ticks(self, file: BinaryIO) -> int:
        """How long all samples last together."""
        return sum(int((rows[:, 0] * rows[:, 1]).sum()) for rows in _entries(file, self.tables[b"stts"], ">u4", 2))

    def _chunks(self, file: BinaryIO) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where chunks begin in the file and how many samples each holds, for a block of samples at a time."""
        wide = b"co64" in self.tables
        places = _need(self.tables, b"co64" if wide else b"stco")
        counts = _Runs(_chunk_runs(file, self.tables[b"stsc"], _entry_count(file, places)))
        for begins in _entries(file, places, ">u8" if wide else ">u4", 1):
            held = counts.take(len(begins))
            if not 1 <= held.min() <= held.max() <= CHUNK_SAMPLES:
                raise ValueError("sound and pictures do not take turns, or a chunk is empty")
            blocks = np.flatnonzero(np.diff(np.cumsum(held) // BLOCK_SAMPLES)) + 1
            yield from zip(np.split(begins[:, 0], blocks), np.split(held, blocks), strict=True)

    def _sync(self, file: BinaryIO) -> np.ndarray | None:
        """The numbers, from 1 on, of the samples with which decoding can begin; None: with all."""
        if b"stss" not in self.tables:
            return None
        return np.concatenate(
            [np.empty(0, np.int64), *(b[:, 0] for b in _entries(file, self.tables[b"stss"], ">u4", 1))]
        )


class _Runs:
    """Values of a run-length table, one after the other."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        """From blocks of rows: how often, and which value."""
        self._blocks = blocks
        self._left = np.empty((0, 2), np.int64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` values; a `ValueError` when there are fewer."""
        taken = [np.empty(0, np.int64)]
        while count:
            if not len(self._left):
                self._load()
                continue
            ends = np.cumsum(self._left[:, 0])
            got = min(count, int(ends[-1]))
            last = int(np.searchsorted(ends, got))  # the run in which the last of them lies
            runs, over = self._left[: last + 1].copy(), ends[last] - got
            runs[-1, 0] -= over
            taken.append(np.repeat(runs[:, 1], runs[:, 0]))
            self._left = self._left[last:]
            self._left[0, 0] = over
            self._left = self._left[int(over == 0) :]
            count -= got
        return np.concatenate(taken)

    def is_empty(self) -> bool:
        """Whether nothing is left; only runs of no length may be."""
        return not len(self._left) and not any(block[:, 0].any() for block in self._blocks)

    def _load(self) -> None:
        try:
            block = next(self._blocks)
        except StopIteration:
            raise ValueError("a table ends too early") from None
        self._left = block[block[:, 0] > 0]  # a copy


def _chunk_runs(file: BinaryIO, table: Box, chunks: int) -> Iterator[np.ndarray]:
    """How many chunks follow each other that hold so many samples each."""
    ahead: np.ndarray | None = None
    for block in _entries(file, table, ">u4", 3):
        rows = block if ahead is None else np.concatenate([ahead, block])
        yield _run_lengths(rows[:, 0], rows[:-1, 1])
        ahead = rows[-1:]
    if ahead is not None:
        yield _run_lengths(np.append(ahead[:, 0], chunks + 1), ahead[:, 1])


def _run_lengths(firsts: np.ndarray, held: np.ndarray) -> np.ndarray:
    lengths = np.diff(firsts)
    if (lengths < 0).any():
        raise ValueError("chunks are out of order")
    return np.stack([lengths, held], axis=1)


def _entries(file: BinaryIO, table: Box, kind: str, columns: int) -> Iterator[np.ndarray]:
    """The entries of a table with a version, flags and a count, as rows of whole numbers, a block at a time."""
    width, count = columns * np.dtype(kind).itemsize, _entry_count(file, table)
    for first in range(0, count, BLOCK):
        rows = min(BLOCK, count - first)
        data = read_bytes(file, table.inside + 8 + first * width, rows * width)
        yield np.frombuffer(data, kind).astype(np.int64).reshape(rows, columns)


def _entry_count(file: BinaryIO, table: Box) -> int:
    (count,) = struct.unpack(">I", read_bytes(file, table.inside + 4, 4))
    return int(count)


def _edits(file: BinaryIO, box: Box) -> tuple[tuple[int, int], ...]:
    version = read_bytes(file, box.inside, 1)[0]
    each = struct.Struct(">Qqi" if version else ">Iii")
    length = each.size * _entry_count(file, box)
    if length > box.end - box.inside - 8:
        raise ValueError("the edit list is longer than its box")
    data = read_bytes(file, box.inside + 8, length)
    edits = list(each.iter_unpack(data))
    if any(speed != 1 << 16 for _, _, speed in edits):
        raise ValueError("an edit changes the speed")
    return tuple((duration, time) for duration, time, _ in edits)


def _named(file: BinaryIO, box: Box) -> dict[bytes, Box]:
    return {each.kind: each for each in read_boxes(file, box.inside, box.end)}


def _need(found: dict[bytes, Box], kind: bytes) -> Box:
    if kind not in found:
        raise ValueError(f"there is no {kind!r}")
    return found[kind]
