"""What of a recording can't be decoded: found by decoding it with every check switched on.

ffmpeg itself hides damage: it paints over what it can't read, shows the last picture for longer, and ends as if nothing
had been. So where it complained, or packets are missing, the stretch is decoded a second time, strictly, and each
packet is asked for its picture.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hlkit.passages import REORDER_SECONDS, long_mp4, stretches
from hlkit.sampling import HOLD_SECONDS, SEEK_MARGINS, seek_point
from hlkit.video import open_container, origin_of, probe

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Packets between which gaps are looked for in one go; as many pictures are kept in memory.
MERGED_AT_ONCE = 4096

# Only in these may a clock start again; a player expects it there.
RESTARTING_FORMATS = ("mpegts", "hls")
# What ffmpeg takes for a jump of the clock, and how many packets must follow one clock before and after it.
JUMP_SECONDS, SURE_PACKETS = 10.0, 30

# A stretch `[from, to)` of a recording, in seconds.
Hole = tuple[float, float]

_log = logging.getLogger(__name__)


def find_jump(path: Path) -> float | None:
    """Where the clock of an MPEG-TS recording jumps, in seconds of its own clock; None when it goes on steadily.

    Recordings that were joined end to end have two clocks, and players go on from one to the other. Here a time stands
    for one picture, so such a recording is to be written anew with one clock. A packet or two with a wrong time are
    damage, and no jump.
    """
    with open_container(path) as (container, stream):
        if container.format.name not in RESTARTING_FORMATS:
            return None
        times = [
            float(packet.dts * packet.time_base)
            for packet, _ in _packets(container, stream, 0.0, math.inf)
            if packet.dts is not None and packet.time_base is not None
        ]
    steps = np.diff(times)
    for place in np.flatnonzero((steps < -HOLD_SECONDS) | (steps > JUMP_SECONDS)).tolist():
        before = np.array(times[max(0, place + 1 - SURE_PACKETS) : place + 1])
        after = np.array(times[place + 1 : place + 1 + SURE_PACKETS])
        if len(after) == SURE_PACKETS and max(np.ptp(before), np.ptp(after)) < JUMP_SECONDS:
            return times[place]
    return None


class _Packet(NamedTuple):
    """When a packet's picture begins and ends, in seconds of the recording, and what is known of it unseen."""

    begin: float
    end: float
    is_whole: bool
    is_keyframe: bool


def find_holes(path: Path, *, start: float = 0.0, end: float | None = None) -> list[Hole]:
    """The stretches `[from, to)` of `[start, end)` that packets leave out or that were not read whole; decodes nothing.

    Some containers lose pictures without a word. A hole is longer than a second: through shorter ones a player, too,
    shows the last picture. Where a container does not say how long a picture lasts, it lasts until the next one.

    Args, raises: as for `find_faults`.
    """
    stop = probe(path).duration if end is None else end
    faults, cover = [], _Cover(start)
    for begin, end in stretches(path, start, stop):
        with _opened(path, begin, end) as (container, stream, origin):
            for _, packet in _packets(container, stream, origin, end):
                if packet is None:
                    continue
                cover.add(packet)
                if not packet.is_whole:
                    faults.append((packet.begin, packet.end))
    return _inside([*faults, *cover.holes(stop)], start, stop)


def find_faults(path: Path, *, start: float = 0.0, end: float | None = None) -> list[Hole]:
    """The stretches `[from, to)` of `[start, end)` in which no true picture is on screen.

    A picture that was not read whole or not decoded without an error takes those with it that are drawn from it, so
    what follows is true from the next keyframe on. The holes of `find_holes` count too.

    Args:
        path: the recording.
        start: seconds.
        end: seconds; the length that the recording states unless given.

    Returns:
        Ascending, apart from each other, in seconds.

    Raises:
        HlkitError: when the recording can't be opened at all.
    """
    stop = probe(path).duration if end is None else end
    with _opened(path, start, stop) as (container, stream, origin):
        packets, pictures = _decode(container, stream, origin, stop)
    fresh = sorted(each.begin for each in packets if each.is_keyframe and each.is_whole and each.begin in pictures)
    wrong = (each.begin for each in packets if not each.is_whole or each.begin not in pictures)
    faults = [(begin, next((time for time in fresh if time > begin), stop)) for begin in wrong]
    cover = _Cover(start)
    for packet in packets:
        cover.add(packet)
    return _inside([*faults, *cover.holes(stop)], start, stop)


@contextmanager
def _opened(path: Path, start: float, stop: float) -> Iterator[tuple[InputContainer, VideoStream, float]]:
    """The container at a keyframe not after `start`, its pictures, and the container's timestamp of time 0."""
    if long := long_mp4(path):
        with (
            long.passage(start, stop) as passage,
            open_container(path, url=passage.url) as (container, stream),
        ):
            yield container, stream, passage.origin
        return
    # Near the beginning there is nothing to look for.
    found = seek_point(path, start) if start > SEEK_MARGINS[0] else None
    with open_container(path) as (container, stream):
        origin, point = found or (origin_of(container), None)
        if point is not None:
            container.seek(round((origin + point) * 1_000_000), backward=True)
        yield container, stream, origin


def _packets(
    container: InputContainer, stream: VideoStream, origin: float, stop: float
) -> Iterator[tuple[Packet, _Packet | None]]:
    """The packets to a little after `stop`, each with its times if it has any; of MPEG-TS, from the first keyframe on.

    Other containers begin with a keyframe, here as by themselves; what does not look like one there is damaged.
    """
    from av.error import FFmpegError as LibavError

    # Exact fractions would take longer than the reading itself.
    unit, began = float(stream.time_base or 0), container.format.name not in RESTARTING_FORMATS
    try:
        for packet in container.demux(stream):
            is_keyframe = packet.is_keyframe
            began = began or is_keyframe
            if not began:
                continue
            pts = packet.pts
            if pts is None or packet.is_discard:
                yield packet, None
                continue
            begin = pts * unit - origin
            if begin > stop + REORDER_SECONDS:
                return
            lasts = (packet.duration or math.inf) * unit
            yield packet, _Packet(begin, begin + lasts, not packet.is_corrupt, is_keyframe)
    except (LibavError, IndexError) as error:  # PyAV has no place for a stream that damage makes up on the way
        _log.info("%s can't be read further: %s", container.name, error)


def _decode(
    container: InputContainer, stream: VideoStream, origin: float, stop: float
) -> tuple[list[_Packet], set[float]]:
    """All packets, and when those pictures begin that came out of the decoder without an error."""
    from av.error import FFmpegError as LibavError

    stream.codec_context.options = {"err_detect": "explode"}
    # Threads that decode a picture each would pass one's fault on to all that follow.
    stream.thread_type = "SLICE"
    packets, pictures = [], set()
    for packet, times in _packets(container, stream, origin, stop):
        packets += [] if times is None else [times]
        try:
            frames = packet.decode()
        except LibavError:
            continue
        # Of one file, equal timestamps are equal floats.
        pictures |= {
            frame.pts * float(frame.time_base) - origin
            for frame in frames
            if frame.pts is not None and frame.time_base is not None and not frame.is_corrupt
        }
    return packets, pictures


class _Cover:
    """The time from `start` on that packets cover, where gaps of up to a second count as covered.

    Packets come by the hundred thousand and hardly ever leave a gap, so they are merged as they come.
    """

    def __init__(self, start: float) -> None:
        self.start = start
        self.spans: list[tuple[float, float]] = []
        self.fresh: list[tuple[float, float]] = []
        self.latest = -math.inf

    def add(self, packet: _Packet) -> None:
        self.fresh.append((packet.begin, packet.end))
        if len(self.fresh) == MERGED_AT_ONCE:
            self._merge()

    def _merge(self) -> None:
        self.latest = max([self.latest, *(begin for begin, _ in self.fresh)])
        self.spans = _merged([*self.spans, *self.fresh], within=HOLD_SECONDS)
        self.fresh = []

    def holes(self, stop: float) -> list[Hole]:
        """The times of more than a second before `stop` that no packet has."""
        self._merge()
        spans = self.spans
        if not spans or spans[0][0] > self.start:
            spans = _merged([(self.start, self.start), *spans], within=HOLD_SECONDS)
        holes = [(before[1], after[0]) for before, after in pairwise(spans)]
        last = spans[-1][1]
        if last == math.inf:  # of the last picture's length nothing is known
            last = self.latest
        return [*holes, (last, stop)] if stop - last > HOLD_SECONDS else holes


def _inside(spans: list[Hole], start: float, stop: float) -> list[Hole]:
    return _merged([(max(a, start), min(b, stop)) for a, b in spans if b > start and a < stop])


def _merged(spans: list[Hole], *, within: float = 0.0) -> list[Hole]:
    """Joined where they meet, or are no more than `within` apart."""
    merged: list[Hole] = []
    for start, end in sorted(spans):
        if merged and start - merged[-1][1] <= within:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
