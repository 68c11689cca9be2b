"""Shards: which frames each one holds, how JPEGs go into one, and how they are read back.

A shard is an uncompressed POSIX (ustar) tar whose members are `<frame:08d>.jpg`, in order, with no date or owner, so
that the same pictures make the same bytes. It holds a fixed stretch of video and is whole from when it has its name. A
member without content stands for a picture that can't be had.
"""

from __future__ import annotations

import math
import mmap
import os
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hlkit.project import HlkitError, atomic_path
from hlkit.video import frame_rate

# Each open shard holds a file descriptor, of which a process has 256 (macOS) to 1,024 (Linux) unless set.
OPEN_SHARDS = 128

JPEG_START = b"\xff\xd8"

BLOCK = tarfile.BLOCKSIZE


def shard_name(number: int) -> str:
    """The file name of one shard; `shard_name(0) == "00000.tar"`."""
    return f"{number:05d}.tar"


def plan_shards(count: int, fps: str | float | Fraction, shard_seconds: int) -> list[range]:
    """Which of the frames `[0, count)` each shard holds: number `k` those from `k` to `k + 1` times `shard_seconds`.

    Raises:
        HlkitError: when a shard would hold no frame.
    """
    length = shard_seconds * frame_rate(fps)  # in frames, exact
    if length < 1:
        raise HlkitError(f"A shard of {shard_seconds} s holds no frame at {fps} a second. Make shards longer.")
    shards = (count - 1) // length + 1
    borders = [math.ceil(number * length) for number in range(shards + 1)]
    return [range(start, min(stop, count)) for start, stop in pairwise(borders)]


def consecutive(numbers: Sequence[int]) -> list[list[int]]:
    """Group ascending numbers into runs without gaps; `consecutive([0, 1, 4]) == [[0, 1], [4]]`."""
    groups = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in group] for _, group in groups]


def write_shard(
    target: Path, frames: range, jpegs: Iterator[bytes], *, faulty: Callable[[], Collection[int]] = tuple
) -> np.ndarray:
    """Take one JPEG for each of `frames` and write them as a shard, in one step; returns `find_members` of it.

    Args:
        target: the shard.
        frames: its frames.
        jpegs: as many; an empty one stands for a picture that can't be had.
        faulty: asked when all pictures are there: the frames among them that show something else. They become empty.

    Raises:
        HlkitError: when what was written is not whole.
    """
    with atomic_path(target) as temporary:
        _write_tar(temporary, frames, jpegs)
        places = find_members(temporary, frames)
        if places is not None and (wrong := faulty()):
            cleared = temporary.with_name(f"cleared-{temporary.name}")
            with temporary.open("rb") as whole:
                read = (os.pread(whole.fileno(), size, offset) for offset, size in places.tolist())
                kept = (b"" if frame in wrong else jpeg for frame, jpeg in zip(frames, read, strict=True))
                _write_tar(cleared, frames, kept)
            cleared.replace(temporary)
            places = find_members(temporary, frames)
        if places is None:
            raise HlkitError(f"{target} was not written whole. Check the disk, then run this again.")
    return places


def _write_tar(target: Path, frames: range, jpegs: Iterator[bytes]) -> None:
    with target.open("wb") as tar:
        for frame, jpeg in zip(frames, jpegs, strict=False):
            tar.write(member_header(frame, len(jpeg)) + jpeg + bytes(-len(jpeg) % BLOCK))
        tar.write(bytes(_end(tar.tell()) - tar.tell()))


def member_header(frame: int, size: int) -> bytes:
    """The block before a JPEG of `size` bytes: what `tarfile` writes in its USTAR format, in a tenth of the time.

    Fields as in POSIX.1-1988: the name at 0, the size at 124 and the sum of all bytes at 148, both octal.
    """
    name, length = b"%08d.jpg" % frame, b"%011o" % size
    total = _PLAIN_SUM + sum(name) + sum(length)
    return b"".join((name, _PLAIN[len(name) : 124], length, _PLAIN[135:148], b"%06o\0" % total, _PLAIN[155:BLOCK]))


def _plain_header() -> bytes:
    """A header without name and size."""
    header = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
    header[124:135], header[148:156] = bytes(11), b" " * 8  # the sum counts its own field as spaces
    return bytes(header)


_PLAIN = _plain_header()
_PLAIN_SUM = sum(_PLAIN)


def _end(length: int) -> int:
    """How long a tar is whose members take `length` bytes: two empty blocks follow, and whole records of 20 count."""
    return -(-(length + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def find_members(shard: Path, frames: range) -> np.ndarray | None:
    """Where each JPEG lies in `shard`: int64 (n, 2), offset and size. None unless it is whole and holds `frames`."""
    places, place = [], 0
    try:
        with shard.open("rb") as tar:
            length = os.fstat(tar.fileno()).st_size
            for frame in frames:
                header = os.pread(tar.fileno(), BLOCK, place)
                size = int(header[124:135], 8)
                if header != member_header(frame, size):
                    return None
                places.append((place + BLOCK, size))
                place += BLOCK + size + -size % BLOCK
            end = os.pread(tar.fileno(), tarfile.RECORDSIZE, place)
    except (FileNotFoundError, ValueError):
        return None
    return np.array(places, dtype=np.int64) if length == _end(place) and not any(end) else None


class FrameReader:
    """Reads JPEGs by their place in the frame store; opens each shard once, and can be sent to worker processes.

    Example: `FrameReader(project.frames).read(*index.select("video", "shard", "offset", "size").row(0))`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._maps: OrderedDict[tuple[str, str], mmap.mmap] = OrderedDict()  # the one used last stands last

    def read(self, video: str, shard: str, offset: int, size: int) -> bytes:
        """The JPEG at the bytes `[offset, offset + size)` of `root / video / shard`.

        Raises:
            HlkitError: when the shard is missing, outside the root, too short, or has no JPEG there.
        """
        jpeg = self._map(video, shard)[offset : offset + size]
        if len(jpeg) != size or not jpeg.startswith(JPEG_START):
            raise self._damaged(video, shard, f"there is no picture at byte {offset}")
        return jpeg

    def _map(self, video: str, shard: str) -> mmap.mmap:
        key = (video, shard)
        if key in self._maps:
            self._maps.move_to_end(key)
            return self._maps[key]
        # An index may come from someone else's store.
        if any(PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts for part in key):
            raise HlkitError(f"The frame table names '{video}/{shard}', which lies outside {self.root}. Don't use it.")
        try:
            with (self.root / video / shard).open("rb") as file:
                self._maps[key] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError) as error:  # ValueError: an empty file can't be mapped
            raise self._damaged(video, shard, "it is missing or empty") from error
        if len(self._maps) > OPEN_SHARDS:
            self._maps.popitem(last=False)[1].close()
        return self._maps[key]

    def _damaged(self, video: str, shard: str, reason: str) -> HlkitError:
        path = self.root / video / shard
        return HlkitError(f"{path} is damaged: {reason}. Delete it and run `hlkit frames` again, or pull it again.")

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_maps": OrderedDict()}
