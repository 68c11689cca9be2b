"""Small pictures of a long recording that is opened once: its keyframes, and what is on screen in any stretch of it.

To open a file of six hours takes ten times as long as to decode five seconds of it, so an ffmpeg for each stretch, as
`hlkit.sampling` would start it, pays for whole recordings only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from hlkit.fingerprints import SIDE
from hlkit.sampling import HOLD_SECONDS, TIMESTAMP_TOLERANCE, find_seek_point
from hlkit.video import VideoInfo, frame_count, open_container

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# A time before the first picture's, for a container that has to look for its place (MPEG-TS) and comes out behind it.
BEFORE_ALL = -10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Excerpts:
    """An open recording, what it says of itself, and what its clock shows at time 0, in seconds."""

    info: VideoInfo
    container: InputContainer
    stream: VideoStream
    origin: float

    def keyframes(self, *, progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The keyframes, each decoded alone: times in s, float (n,), and pictures, uint8 (n, SIDE, SIDE)."""
        times, pictures = [], []
        total = round(self.info.duration)
        with tqdm(total=total, desc="keyframes", unit="s", mininterval=0.5, disable=not progress) as bar:
            for packet in self._packets(BEFORE_ALL):
                if not packet.is_keyframe or packet.pts is None or packet.time_base is None:
                    continue
                for frame in [*self._decoded(packet), *self._decoded(None)]:
                    times.append(float(packet.pts * packet.time_base) - self.origin)
                    pictures.append(small(frame))
                    bar.update(round(times[-1] - bar.n))
                self.stream.codec_context.flush_buffers()
        return np.array(times), np.array(pictures, dtype=np.uint8).reshape(-1, SIDE, SIDE)

    def between(self, start: float, end: float, *, rate: Fraction) -> np.ndarray:
        """The pictures on screen at `start + i / rate` s, uint8 (n, SIDE, SIDE), up to `end` or the recording's own.

        Where the pictures end before the length that the file states, the last stays for `HOLD_SECONDS`, and fewer
        come.
        """
        count = frame_count(max(0.0, min(end, self.info.duration) - start), rate)
        result, done = np.zeros((count, SIDE, SIDE), dtype=np.uint8), 0
        last: VideoFrame | None = None
        shown_from = 0.0
        for time, frame in self._frames(start) if count else ():
            done = _show(result, done, last, (time - start - TIMESTAMP_TOLERANCE) * rate)
            last, shown_from = frame, time
            if done == count:
                break
        return result[: _show(result, done, last, (shown_from + HOLD_SECONDS - start) * rate)]

    def _frames(self, start: float) -> Iterator[tuple[float, VideoFrame]]:
        """The pictures from one on that is on screen at `start` or before, with their times, s."""
        point = find_seek_point(self.container, self.stream, self.origin, start)
        for packet in self._packets(BEFORE_ALL if point is None else point):
            for frame in self._decoded(packet):
                if frame.time is not None:
                    yield frame.time - self.origin, frame

    def _packets(self, point: float) -> Iterator[Packet]:
        """What the file holds from the keyframe before a time, s, on, up to its end or to damage that ends it."""
        from av.error import FFmpegError as LibavError

        try:
            self.container.seek(round((self.origin + point) * 1_000_000), backward=True)
            yield from self.container.demux(self.stream)
        except LibavError as error:
            _log.info("%s can't be read on from %.1f s (%s)", self.info.path, point, error)

    def _decoded(self, packet: Packet | None) -> list[VideoFrame]:
        """The pictures of one packet, none when it is damaged; of those still in the decoder for None."""
        from av.error import FFmpegError as LibavError
        from av.video.frame import VideoFrame

        try:
            return [each for each in self.stream.codec_context.decode(packet) if isinstance(each, VideoFrame)]
        except LibavError as error:
            _log.info("a picture of %s can't be decoded (%s)", self.info.path, error)
            return []


def _show(pictures: np.ndarray, done: int, frame: VideoFrame | None, until: float) -> int:
    """Fill in a frame for the pictures from `done` up to number `until`, and give what is done then."""
    stop = min(len(pictures), math.ceil(until))
    if frame is None or stop <= done:
        return done
    pictures[done:stop] = small(frame)
    return stop


def small(frame: VideoFrame) -> np.ndarray:
    """A picture's grey levels as a player shows it, uint8 (SIDE, SIDE)."""
    grey = frame.reformat(SIDE, SIDE, format="gray", interpolation="BICUBIC").to_ndarray()
    return np.rot90(grey, round(frame.rotation / 90))


@contextmanager
def open_excerpts(info: VideoInfo) -> Iterator[Excerpts]:
    """Open a recording.

    Raises:
        HlkitError: as `hlkit.video.probe` does.
    """
    with open_container(info.path) as (container, stream):
        # As `decoding="fast"` in `hlkit.sampling`.
        stream.codec_context.options = {"skip_loop_filter": "all"}
        stream.thread_type = "AUTO"
        yield Excerpts(info, container, stream, info.start_time)
