"""Passages of long MP4s, each opened as a short MP4 of its own, because libav keeps all sample tables in memory.

`long_mp4` says whether a recording is one, `stretches` which passages it has, and `LongMP4.passage` gives the URL of
each, for ffmpeg and PyAV alike, with the timestamp in it of the recording's time 0.

A passage is a small file of new tables, with the recording behind it in ffmpeg's `concat` protocol
(https://ffmpeg.org/ffmpeg-protocols.html#concat). Nothing is copied: libav sees `ftyp`, `moov` and an `mdat` that holds
the recording, so samples lie where they lay, moved by the new tables' size. What is not an ordinary MP4 (fragments,
edits in the middle, several picture tracks) is opened whole.
"""

from __future__ import annotations

import functools
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hlkit.project import HlkitError
from hlkit.sample_tables import Box, Samples, Track, read_boxes, read_bytes, read_timescale

# libav needs some six times as much memory. Forty minutes of video have such tables.
LONG_INDEX_BYTES = 2_000_000
# Opening the next passage costs a tenth of a second.
PASSAGE_SECONDS = 1200
# Twitch ends streams after two days. A damaged clock may promise years, which would take as long passage by passage.
LONGEST_SECONDS = 48 * 3600
# Of each track, to know what it is and when it begins.
FIRST_SAMPLES = 512
# Samples lie in the order of decoding; those of pictures before a time lie at most so far behind it.
REORDER_SECONDS = 1.0
# libav takes larger steps and shifts of a clock for mistakes and goes its own ways about them.
LARGEST_STEP, LARGEST_SHIFT = 1 << 31, 1 << 28

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passage:
    """A passage of a recording: what ffmpeg opens, and its timestamp of the recording's time 0, in seconds."""

    url: str
    origin: float


@dataclass(frozen=True)
class LongMP4:
    """An ordinary MP4 with long tables.

    Attributes:
        path: the file.
        movie: its `moov`.
        header: what of that holds for all tracks, `mvhd`.
        tracks: all of them.
        fps: pictures a second, on average.
        lead: ticks from a picture's time in its track to the timestamp that libav gives it, by the edit list.
        start_time: the timestamp that libav gives the recording's time 0, in seconds.
    """

    path: Path
    movie: Box
    header: Box
    tracks: tuple[Track, ...]
    fps: Fraction
    lead: int = 0
    start_time: float = 0.0

    @property
    def pictures(self) -> Track:
        """The picture track."""
        return next(track for track in self.tracks if track.kind == b"vide")

    @contextmanager
    def beginning(self) -> Iterator[str]:
        """What ffmpeg opens to learn of all tracks what they are, when they begin and how long they last.

        Raises:
            HlkitError: as `passage`.
        """
        with _unchanged(self.path) as file:
            inside = [box for box in read_boxes(file, self.movie.inside, self.movie.end) if box.kind != b"trak"]
            firsts = [_first_samples(file, track) for track in self.tracks]

            def movie(moved: int) -> bytes:
                traks = [
                    _track_box(file, track.box, _sample_tables(file, track, samples, moved), only_pictures=False)
                    for track, samples in zip(self.tracks, firsts, strict=True)
                ]
                return _box(b"moov", *(_copy(file, box) for box in inside), *traks)

            head = _head(file, movie)
        with _opened(head, self.path) as url:
            yield url

    @contextmanager
    def passage(self, start: float, stop: float) -> Iterator[Passage]:
        """The pictures on screen in `[start, stop)` seconds, from a sync sample on.

        Raises:
            HlkitError: when the file is no longer what it was.
        """
        track = self.pictures
        begin, end = (round((time + self.start_time) * track.timescale) - self.lead for time in (start, stop))
        with _unchanged(self.path) as file:
            samples = _samples_between(track.samples(file), begin, end + round(REORDER_SECONDS * track.timescale))

            def movie(moved: int) -> bytes:
                trak = _track_box(file, track.box, _sample_tables(file, track, samples, moved), only_pictures=True)
                return _box(b"moov", _copy(file, self.header), trak)

            head = _head(file, movie)
        with _opened(head, self.path) as url:
            yield Passage(url, self.start_time - (int(samples.dts[0]) + self.lead) / track.timescale)


def stretches(path: Path, start: float, stop: float) -> list[tuple[float, float]]:
    """The seconds `[start, stop)` of a recording, in the parts in which it is opened; one part unless it is long."""
    if stop - start > LONGEST_SECONDS or not long_mp4(path):
        return [(start, stop)]
    return list(pairwise([*np.arange(start, stop, PASSAGE_SECONDS).tolist(), stop]))


def long_mp4(path: Path) -> LongMP4 | None:
    """The recording as one to be opened by passages; None where that is not needed or not possible."""
    path = Path(path)
    if not path.is_file():  # a pipe would be waited for
        return None
    known = path.stat()
    return _long_mp4(path.resolve(), known.st_size, known.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _long_mp4(path: Path, size: int, changed: int) -> LongMP4 | None:
    if "|" in str(path):  # `concat` takes it for the end of a name
        return None
    try:
        with path.open("rb") as file:
            if read_bytes(file, 4, 4) != b"ftyp":
                return None
            movie = next((box for box in read_boxes(file, 0, size) if box.kind == b"moov"), None)
            if movie is None or movie.end - movie.begin < LONG_INDEX_BYTES:
                return None
            return _with_clock(_read_movie(path, file, movie))
    except (ValueError, OSError, HlkitError) as error:
        _log.info("%s is opened whole: %s", path, error)
        return None


def _read_movie(path: Path, file: BinaryIO, movie: Box) -> LongMP4:
    """The recording; a `ValueError` when something in it is not as in most."""
    inside = list(read_boxes(file, movie.inside, movie.end))
    headers = [box for box in inside if box.kind == b"mvhd"]
    tracks = tuple(Track.read(file, box) for box in inside if box.kind == b"trak")
    pictures = [track for track in tracks if track.kind == b"vide"]
    if any(box.kind == b"mvex" for box in inside) or len(headers) != 1 or len(pictures) != 1:
        raise ValueError("it has fragments, no header, or not one picture track")
    track = pictures[0]
    count, ticks, earliest, latest = 0, 0, 0, 0
    for samples in track.samples(file):
        if samples.duration.max() >= LARGEST_STEP or abs(samples.pts - samples.dts).max() >= LARGEST_SHIFT:
            raise ValueError("its times are damaged")
        if not count and not samples.is_sync[0]:
            raise ValueError("it does not begin with a picture that can be decoded")
        earliest = earliest if count else int(samples.pts.min())
        latest = max(latest, int(samples.pts.max()))
        count, ticks = count + len(samples), ticks + int(samples.duration.sum())
    if not ticks:
        raise ValueError("it has no pictures")
    _check_edits(track, Fraction(track.timescale, read_timescale(file, headers[0])), earliest, latest)
    return LongMP4(path, movie, headers[0], tracks, Fraction(track.timescale * count, ticks))


def _check_edits(track: Track, movie_tick: Fraction, earliest: int, latest: int) -> None:
    """A `ValueError` when some pictures are not shown; they begin from `earliest` to `latest`.

    All in ticks of the track, the length of a tick of the movie too.
    """
    if not track.edits:
        return
    shown = track.edits[1:] if track.edits[0][1] == -1 else track.edits
    if len(shown) != 1 or not 0 <= shown[0][1] <= earliest or shown[0][1] + shown[0][0] * movie_tick <= latest:
        raise ValueError("an edit list leaves pictures out")


def _with_clock(long: LongMP4) -> LongMP4:
    """With its clock as libav reads it; a `ValueError` when libav can't."""
    import av
    from av.error import FFmpegError as LibavError

    try:
        with long.beginning() as url, av.open(url, metadata_errors="ignore") as container:
            origin = container.start_time or 0
            first = next(packet for packet in container.demux(video=0) if packet.pts is not None)
    except (LibavError, StopIteration, IndexError) as error:
        raise ValueError(f"its beginning can't be read ({error!r})") from error
    with long.path.open("rb") as file:
        samples = next(long.pictures.samples(file))
    assert first.pts is not None and first.time_base is not None
    if first.time_base != Fraction(1, long.pictures.timescale) or first.size != samples.size[0]:
        raise ValueError("libav reads it in another way")
    return replace(long, lead=first.pts - int(samples.pts[0]), start_time=origin / 1_000_000)


def _first_samples(file: BinaryIO, track: Track) -> Samples:
    """The first samples; the last of these last until the end, so that the track is as long as it was."""
    kept: list[Samples] = []
    for samples in track.samples(file):
        kept.append(samples[: FIRST_SAMPLES - sum(map(len, kept))])
        if sum(map(len, kept)) == FIRST_SAMPLES:
            break
    if not kept:
        raise ValueError("a track has no samples")
    samples = Samples.joined(kept)
    lacking, duration = track.ticks(file) - int(samples.duration.sum()), samples.duration.copy()
    last = len(duration[-FIRST_SAMPLES // 8 :])
    # Shared, because one alone might be longer than libav believes.
    duration[-last:] += np.diff(np.arange(last + 1) * lacking // last)
    return replace(samples, duration=duration)


def _samples_between(blocks: Iterator[Samples], begin: int, end: int) -> Samples:
    """From the last sync sample but one shown at `begin` or before to the first decoded after `end`, in ticks.

    The last one may be where an encoder begins to refresh the picture bit by bit, to be whole a group later. Of an open
    group of pictures those are left out that are shown before its sync sample and need the group before.
    """
    kept: list[Samples] = []
    for samples in blocks:
        if (samples.is_sync & (samples.pts <= begin)).any():
            samples = Samples.joined([*kept, samples])
            starts = np.flatnonzero(samples.is_sync & (samples.pts <= begin))
            kept, samples = [], samples[int(starts[-2:][0]) :]
        beyond = np.flatnonzero(samples.dts > end)
        kept.append(samples[: int(beyond[0]) + 1] if len(beyond) else samples)
        if len(beyond):
            break
    if not kept:
        raise ValueError("it has no pictures")
    found = Samples.joined(kept)
    if not found.dts[0]:
        return found
    needed = found[found.pts >= found.pts[0]]
    ends = np.append(needed.dts[1:], found.dts[-1] + found.duration[-1])
    return replace(needed, duration=ends - needed.dts)


def _track_box(file: BinaryIO, box: Box, tables: bytes, *, only_pictures: bool) -> bytes:
    """A track's box, or one on the way to its sample tables, with others of these; the rest is copied."""
    inside = []
    for each in read_boxes(file, box.inside, box.end):
        if each.kind in (b"mdia", b"minf"):
            inside.append(_track_box(file, each, tables, only_pictures=only_pictures))
        elif each.kind == b"stbl":
            inside.append(_box(b"stbl", tables))
        elif not only_pictures or each.kind not in (b"edts", b"tref", b"udta", b"meta"):
            inside.append(_copy(file, each))
    return _box(box.kind, *inside)


def _sample_tables(file: BinaryIO, track: Track, samples: Samples, moved: int) -> bytes:
    """Sample tables of these samples, which lie so many bytes further on than `samples` says."""
    shifts, places = samples.pts - samples.dts, np.arange(1, len(samples) + 1)
    tables = [_copy(file, track.tables[b"stsd"]), _table(b"stts", ">u4", _run_lengths(samples.duration))]
    if shifts.any():
        tables.append(_table(b"ctts", ">i4", _run_lengths(shifts), version=1))
    if not samples.is_sync.all():
        tables.append(_table(b"stss", ">u4", places[samples.is_sync]))
    tables.append(_table(b"stsc", ">u4", np.array([[1, 1, 1]])[: len(samples)]))
    sizes = samples.size.astype(">u4").tobytes()
    tables.append(_box(b"stsz", struct.pack(">III", 0, 0, len(samples)), sizes))
    tables.append(_table(b"co64", ">u8", samples.offset + moved))
    return b"".join(tables)


def _run_lengths(values: np.ndarray) -> np.ndarray:
    """How often each value comes in turn, and the value."""
    begins = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return np.stack([np.diff(begins, append=len(values)), values[begins]], axis=1)


def _table(kind: bytes, entry: str, rows: np.ndarray, *, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">BxxxI", version, len(rows)), rows.astype(entry).tobytes())


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def _copy(file: BinaryIO, box: Box) -> bytes:
    return read_bytes(file, box.begin, box.end - box.begin)


def _head(file: BinaryIO, movie: Callable[[int], bytes]) -> bytes:
    """What goes before the file: its type, a `moov` of samples moved by so many bytes, and an `mdat` all around it."""
    size = file.seek(0, os.SEEK_END)
    kind, media = _copy(file, next(read_boxes(file, 0, size))), struct.pack(">I4sQ", 1, b"mdat", 16 + size)
    return kind + movie(len(kind) + len(movie(0)) + len(media)) + media


@contextmanager
def _unchanged(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading what was understood before."""
    try:
        with path.open("rb") as file:
            yield file
    except (ValueError, FileNotFoundError) as error:
        raise HlkitError(f"{path} was changed while it was read ({error}). Run the same again.") from error


@contextmanager
def _opened(head: bytes, path: Path) -> Iterator[str]:
    """What ffmpeg opens as a file that begins with `head` and goes on with the whole recording."""
    with tempfile.TemporaryDirectory(prefix="hlkit-") as folder:
        tables = Path(folder) / "tables.mp4"
        tables.write_bytes(head)
        yield f"concat:{tables}|file:{path}"
