"""The reel's sound: each cut's goes, uncompressed and exactly as long as its pictures, into one file.

That file is encoded once for the whole reel, so that nothing adds up over many cuts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hlkit.packets import seek_before
from hlkit.sound import GAP_SECONDS

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

SOUND_RATE = 48_000
SOUND_FRAME_BYTES = 4  # two channels of 16 bits
# Codecs need some sound before a place to get it right: AAC one packet, Opus 80 ms.
LEAD_SECONDS = 0.2
# How far before a cut to look for its sound: near its pictures, or where sound and pictures are stored apart.
SEEK_SECONDS = (1.0, 10.0)

_log = logging.getLogger(__name__)


def sound_samples(pictures: int, rate: Fraction) -> int:
    """How many samples go with so many pictures of the reel."""
    return round(pictures / rate * SOUND_RATE)


def write_sound(container: InputContainer, begin: float, count: int, file: IO[bytes]) -> None:
    """Write `count` samples of the first sound track from the container's time `begin` (s) on.

    Where it has a gap, ends, or is not there at all, silence is written.
    """
    left, ready = count * SOUND_FRAME_BYTES, bytearray()
    for block in _sound(container, begin, count):
        ready += block.tobytes()
        # In large pieces: whoever reads them wakes up for each.
        if len(ready) >= SOUND_RATE * SOUND_FRAME_BYTES:
            left -= file.write(ready)
            ready.clear()
    left -= file.write(ready)
    while left:
        left -= file.write(bytes(min(left, SOUND_RATE * SOUND_FRAME_BYTES)))


def mix_sound(apart: Path, lengths: Sequence[int], places: Sequence[int], file: IO[bytes]) -> None:
    """Write cuts' sounds, which lie behind one another in `apart`, so that each begins at its place.

    Where two share samples, one passes over into the other, equally loud all the while (constant power).

    Args:
        apart: as `write_sound` writes it.
        lengths: of each cut, in samples; longer than what it shares with both neighbours.
        places: the sample with which each begins, from 0 on without a gap.
        file: gets the samples.
    """
    shared = [place + length - after for place, length, after in zip(places, lengths, places[1:], strict=False)]
    tail = np.zeros((0, 2), "<i2")
    with apart.open("rb") as source:
        for length, before, after in zip(lengths, [0, *shared], [*shared, 0], strict=True):
            head = _read(source, before)
            share = np.linspace(0, np.pi / 2, before, endpoint=False)[:, None] + np.pi / 4 / max(before, 1)
            mixed = tail * np.cos(share) + head * np.sin(share)
            file.write(np.clip(np.rint(mixed), -(2**15), 2**15 - 1).astype("<i2").tobytes())
            left = length - before - after
            for place in range(0, left, SOUND_RATE):
                file.write(_read(source, min(SOUND_RATE, left - place)).tobytes())
            tail = _read(source, after)


def _read(source: IO[bytes], count: int) -> np.ndarray:
    return np.frombuffer(source.read(count * SOUND_FRAME_BYTES), "<i2").reshape(-1, 2)


def _sound(container: InputContainer, begin: float, count: int) -> Iterator[np.ndarray]:
    """`count` samples at most from `begin` on: blocks of int16 (2 n,), left and right in turns, at `SOUND_RATE`."""
    chain = None
    for frame in _decoded(container, begin, begin + count / SOUND_RATE):
        if chain is None or chain.differs(frame):
            # Sound that changes its kind goes on where it stopped.
            if chain is not None:
                yield chain.push(None)
            chain = _Chain(frame, begin, count, chain.done if chain is not None else 0)
        yield chain.push(frame)
    if chain is not None:
        yield chain.push(None)


class _Chain:
    """ffmpeg's filters between decoded sound of one kind and the samples of a cut, counted from its begin.

    Of what they give, the first `done` samples are left out; `done` grows with what has been given.
    """

    def __init__(self, frame: AudioFrame, begin: float, count: int, done: int) -> None:
        from av.filter import Graph

        self._kind = self._kind_of(frame)
        self._place, self.done = 0, done
        graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=frame.time_base
        )
        steps = [
            ("asetpts", f"round(PTS-{begin:.9f}/TB)"),
            ("aresample", f"{SOUND_RATE}:async=1:min_hard_comp={GAP_SECONDS}:first_pts=0"),
            ("aformat", "sample_fmts=s16:channel_layouts=stereo"),
            ("atrim", f"end_sample={count}"),
        ]
        nodes = [source, *(graph.add(name, options) for name, options in steps), graph.add("abuffersink")]
        graph.link_nodes(*nodes).configure()
        self._graph, self._source = graph, source

    @staticmethod
    def _kind_of(frame: AudioFrame) -> tuple[Any, ...]:
        return frame.sample_rate, frame.format.name, frame.layout.name, frame.time_base

    def differs(self, frame: AudioFrame) -> bool:
        return self._kind_of(frame) != self._kind

    def push(self, frame: AudioFrame | None) -> np.ndarray:
        from av.error import BlockingIOError as NotYetError
        from av.error import EOFError as FinishedError

        blocks = [np.zeros(0, "<i2")]
        try:
            self._source.push(frame)
            while True:
                blocks.append(self._graph.pull().to_ndarray().reshape(-1))
        except (NotYetError, FinishedError):
            pass
        samples = np.concatenate(blocks)
        begin, self._place = self._place, self._place + len(samples) // 2
        new = samples[2 * max(0, self.done - begin) :]
        self.done += len(new) // 2
        return new


def _decoded(container: InputContainer, begin: float, end: float) -> Iterator[AudioFrame]:
    """The decoded sound between two of the container's times, and some before."""
    from av.error import FFmpegError as LibavError

    if not container.streams.audio:
        return
    stream = container.streams.audio[0]
    decoder = _decoder(stream)
    for packet in _packets(container, stream, begin, end):
        try:
            yield from (frame for frame in decoder.decode(packet) if frame.pts is not None)
        except LibavError as error:
            # Silence stands in place of what is damaged.
            _log.info("sound at %s s can't be decoded: %s", packet.pts, error)


def _decoder(stream: AudioStream) -> AudioCodecContext:
    from av import CodecContext

    known = stream.codec_context
    if known.codec.canonical_name != "aac":
        known.flush_buffers()
        return known
    # One that has decoded before makes other noise, and a reel that was interrupted would come out different.
    fresh = CodecContext.create("aac", "r")
    fresh.extradata, fresh.sample_rate, fresh.layout = known.extradata, known.sample_rate, known.layout
    return fresh


def _packets(container: InputContainer, stream: AudioStream, begin: float, end: float) -> Iterator[Packet]:
    from av.error import FFmpegError as LibavError

    for tries, seconds in enumerate(SEEK_SECONDS, 1):
        seek_before(container, begin - seconds)
        found = False
        try:
            for packet in container.demux(stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                time = float(packet.pts * packet.time_base)
                if not found and time > begin - LEAD_SECONDS and tries < len(SEEK_SECONDS):
                    break
                found = True
                if time >= end:
                    return
                if time >= begin - LEAD_SECONDS:
                    yield packet
            else:
                return
        except LibavError as error:
            _log.info("%s can't be read further: %s", container.name, error)
            return
