"""What lies where in a container, learnt from its packets, without decoding.

*The container's time* is its own timestamp, in seconds; other times are counted from time 0, the container's start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hlkit.project import HlkitError, format_time
from hlkit.sampling import SEEK_MARGINS
from hlkit.video import open_container, origin_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

# Sound and pictures of a whole recording may end this far apart.
CUT_OFF_SECONDS = 1.0
# The first packet's decoding time lies before the time at which anything is shown, and some containers seek by it:
# so much further before time 0 they are sought, which others refuse.
BEGIN_SECONDS = 10.0
# Less sound than this may round to none.
SHORTEST_SOUND_SECONDS = 0.001
# Containers store sound and pictures of the same time near each other; none puts them so far apart.
INTERLEAVE_SECONDS = 10.0

_log = logging.getLogger(__name__)


def check_whole(container: InputContainer, path: Path, end: float) -> None:
    """Refuse a recording that was cut off before `end` seconds: its index may still promise everything.

    `container` is the open recording; where it goes on reading is not where it was.

    Raises:
        HlkitError: when neither pictures nor sound are there shortly before `end`.
    """
    wanted = origin_of(container) + end - CUT_OFF_SECONDS
    if any(packet.end >= wanted for packet in _packets(container, None, max(0.0, end - CUT_OFF_SECONDS))):
        return
    reason = f"{path.name} ends before {format_time(end, decimals=3)}, though it says that it is longer"
    raise HlkitError(f"{reason}. Copy or download it again.")


def find_start(video: Path, start: float, frame_seconds: float) -> tuple[float | None, float]:
    """Where to seek to (None: the beginning), and the container's time with which the cut begins, both in seconds.

    The cut begins with the source picture nearest to `start`, or at `start` itself when the one on screen then began
    longer before. The keyframe that ffmpeg will find is looked up, because some containers seek past it.
    """
    with open_container(video) as (container, _):
        origin = origin_of(container)
    latest = origin + start + frame_seconds / 2
    for seek in (*(start - margin for margin in SEEK_MARGINS if margin < start), None):
        shown = _shown_at(video, latest, seek)
        if shown is not None:
            return seek, shown if shown >= latest - frame_seconds else origin + start
    return None, origin + start


def _shown_at(video: Path, time: float, seek: float | None) -> float | None:
    """The timestamp of the picture on screen at `time`, if it can be decoded after a search for `seek`; else None."""
    with open_container(video) as (container, stream):
        near = takewhile(lambda packet: packet.dts <= time, _packets(container, [stream], seek))
        decodable = dropwhile(lambda packet: not packet.is_keyframe, near)
        return max((packet.pts for packet in decodable if packet.pts <= time), default=None)


def seek_before(container: InputContainer, time: float) -> None:
    """Go on reading from somewhere before the container's time `time`, in seconds, or from its beginning."""
    from av.error import FFmpegError as LibavError

    begin = origin_of(container)
    try:
        container.seek(round((time if time > begin else begin - BEGIN_SECONDS) * 1_000_000))
    except LibavError:
        container.seek(round(begin * 1_000_000))


def has_sound(video: Path, seek: float | None, begin: float, end: float) -> bool:
    """Whether the first sound track has anything between two of the container's times, looked for from `seek` on."""
    with open_container(video) as (container, stream):
        sound = container.streams.audio[0]
        packets = _packets(container, [stream, sound], seek)
        near = takewhile(lambda packet: packet.dts <= end + INTERLEAVE_SECONDS, packets)
        heard = (packet for packet in near if packet.stream == sound.index)
        return any(packet.pts < end and packet.end > begin + SHORTEST_SOUND_SECONDS for packet in heard)


class _Packet(NamedTuple):
    """A packet's stream index, its times in the container's seconds, and whether decoding can begin with it."""

    stream: int
    dts: float
    pts: float
    end: float
    is_keyframe: bool


def _packets(container: InputContainer, streams: Sequence[Stream] | None, seek: float | None) -> Iterator[_Packet]:
    """The packets of `streams` (None: all) from about `seek` seconds after time 0 on, or from the beginning."""
    from av.error import FFmpegError as LibavError

    try:
        if seek is not None:
            container.seek(round((origin_of(container) + seek) * 1_000_000))
        for packet in container.demux(*streams or ()):
            if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                ticks = (packet.dts, packet.pts, packet.pts + (packet.duration or 0))
                dts, pts, end = (float(tick * packet.time_base) for tick in ticks)
                yield _Packet(packet.stream.index, dts, pts, end, packet.is_keyframe)
    except LibavError as error:
        # What is missing then is noticed by whoever asked for it.
        _log.info("%s can't be read further: %s", container.name, error)
