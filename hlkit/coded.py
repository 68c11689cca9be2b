"""The coded pictures of a recording, read out of its container as they are, without decoding, around one cut at a time.

What is read grows with the cut and the distance of its keyframes, not with the recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from hlkit.gops import LATE, OPEN, UNSTEADY, UNTIMED, Coded
from hlkit.h264 import (
    PPS,
    SEPARATORS,
    SPS,
    ParameterSets,
    SequenceSet,
    is_idr,
    is_reference,
    join_units,
    kind,
    split_units,
)
from hlkit.packets import seek_before
from hlkit.project import HlkitError
from hlkit.sampling import SEEK_MARGINS
from hlkit.video import open_container

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Profiles of 8-bit 4:2:0, by the number that a sequence set gives them, and what x264 calls them.
PROFILES = {66: "baseline", 77: "main", 100: "high"}


# H.264 keeps so many pictures at most, and so no picture is decoded earlier than this many before it is shown.
MAX_REORDER = 16

# ffmpeg's number of colours that use all values of a byte.
FULL_RANGE = 2
# Numbers of parameter sets for what is encoded: two for edges, two for whole cuts.
OWN_NUMBERS = 4


class UnsafeError(Exception):
    """Copying would not be safe; the message says why."""


class Picture(NamedTuple):
    """A coded picture as it goes into an MP4: its number in the cut (0 is the first), its units without sets.

    `is_idr`: decoding can begin with it; `is_reference`: others may need it.
    """

    number: int
    data: bytes
    is_idr: bool
    is_reference: bool


@dataclass(frozen=True)
class Style:
    """What pictures must share to stand in one reel with copied ones.

    `colours` are primaries, transfer, matrix as ffmpeg numbers them; `aspect` that of a pixel.
    """

    sets: ParameterSets
    sequence: SequenceSet
    width: int
    height: int
    rate: Fraction
    colours: tuple[int, int, int]
    aspect: Fraction | None

    @property
    def profile(self) -> str:
        """The profile's name."""
        return PROFILES[self.sequence.profile]

    def number(self, cut: int, encoder: Literal["edge", "whole"]) -> int:
        """The number of the parameter sets of what is encoded for a cut: that of no other encoder, and no neighbour.

        Two pictures with which decoding can begin must differ where they stand side by side (7.4.3, `idr_pic_id`).
        """
        return self.sets.free_numbers(OWN_NUMBERS)[cut % 2 + (2 if encoder == "whole" else 0)]


@dataclass
class Source:
    """An open recording."""

    container: InputContainer
    stream: VideoStream

    @property
    def origin(self) -> Fraction:
        """The container's time of the recording's time 0."""
        return Fraction(self.container.start_time or 0, 1_000_000)

    @property
    def tick(self) -> Fraction:
        """The unit of its pictures' times, in seconds."""
        assert self.stream.time_base is not None
        return self.stream.time_base


class Sources:
    """Opens recordings and keeps the last one open: opening a long one costs more than cutting it."""

    def __init__(self) -> None:
        self._stack, self._path, self._source = ExitStack(), None, None

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, path: Path) -> Source:
        """The recording at `path`.

        Raises:
            HlkitError: when it can't be read.
        """
        if self._source is None or self._path != path:
            self._stack.close()
            self._source = None
            self._source = Source(*self._stack.enter_context(open_container(path)))
            self._path = path
        return self._source


def read_style(source: Source, rate: Fraction) -> Style:
    """What a recording's pictures are like.

    Raises:
        UnsafeError: when they are not of a kind that can be copied: H.264 in 8 bits, 4:2:0, progressive.
    """
    codec = source.stream.codec_context
    if source.container.format.name == "avi":
        raise UnsafeError("its container keeps no times of pictures")
    if codec.codec.canonical_name != "h264":
        raise UnsafeError(f"its pictures are {codec.codec.canonical_name}, and only h264 can be copied")
    try:
        sets, _ = ParameterSets.of_extradata(codec.extradata)
        sequences = [SequenceSet.read(unit) for unit in sets.sequences.values()]
        sets.free_numbers(OWN_NUMBERS)
    except (HlkitError, IndexError) as error:
        raise UnsafeError("its container does not say how its pictures are coded") from error
    if codec.color_range == FULL_RANGE:
        raise UnsafeError("its colours are of full range")
    for sequence in sequences:
        if sequence.profile not in PROFILES or (sequence.chroma, sequence.bits) != (1, 8) or codec.pix_fmt != "yuv420p":
            raise UnsafeError(f"its pictures are {codec.pix_fmt}, and only yuv420p can be copied")
        if sequence.interlaced:
            raise UnsafeError("its pictures are interlaced")
    if _is_rotated(source):
        raise UnsafeError("its pictures are rotated")
    aspect = codec.sample_aspect_ratio
    return Style(
        sets=sets,
        sequence=max(sequences, key=lambda sequence: (sequence.profile, sequence.level)),
        width=codec.width,
        height=codec.height,
        rate=rate,
        colours=(codec.color_primaries, codec.color_trc, codec.colorspace),
        aspect=Fraction(aspect) if aspect else None,
    )


def _is_rotated(source: Source) -> bool:
    """Whether the container asks players to turn the pictures, which only a decoded one tells."""
    from av.error import FFmpegError as LibavError

    source.stream.codec_context.flush_buffers()
    try:
        seek_before(source.container, float(source.origin))
        return next(source.container.decode(source.stream)).rotation != 0
    except (LibavError, StopIteration) as error:
        raise UnsafeError("its first picture can't be decoded") from error


@dataclass(frozen=True)
class Survey:
    """The pictures around a cut: its first has the container's time `begin`, and is found by reading from `seek` on.

    Both in the container's seconds. `to_end` when the pictures go on to the end of the recording.
    """

    begin: Fraction
    seek: float
    pictures: tuple[Coded, ...]
    to_end: bool


def survey(source: Source, style: Style, start: float, count: int, *, to_keyframe: bool) -> Survey:
    """Look at the pictures of the cut of `count` pictures from `start` (s) on, and at those that they need.

    Args:
        source: the recording.
        style: the reel's.
        start: the cut begins with the picture nearest to it.
        count: how many pictures the cut has.
        to_keyframe: read on to the next keyframe after its end.

    Raises:
        UnsafeError: when they can't be told apart.
    """
    origin, tick = source.origin, source.tick
    latest = (origin + Fraction(start) + 1 / style.rate / 2) / tick
    last, length = latest + (count - 1) / style.rate / tick, 1 / style.rate / tick
    seeks = [start - margin for margin in SEEK_MARGINS if margin < start]
    reason = OPEN
    for seek in (*seeks, *([0.0] if len(seeks) < len(SEEK_MARGINS) else [])):
        found, to_end = _stretch(source, style, float(origin) + seek, math.floor(last), to_keyframe)
        if found and found[0].pts <= latest:
            begin = max(read.pts for read in found if read.pts <= latest)
            if begin < latest - length:
                raise UnsafeError(UNSTEADY)
            scale = float(1 / length)
            pictures = tuple(
                Coded((read.pts - begin) * scale, read.is_idr, read.is_keyframe, read.is_same) for read in found
            )
            return Survey(begin * tick, float(origin) + seek, pictures, to_end)
        reason = LATE if found else OPEN
    raise UnsafeError(reason)


def read_pictures(source: Source, style: Style, found: Survey) -> Iterator[Picture]:
    """The pictures that a survey has looked at, in the order in which they are coded, with what they are made of."""
    remaining, begin, scale = len(found.pictures), found.begin / source.tick, float(source.tick * style.rate)
    for read in _read(source, style, found.seek):
        if remaining < len(found.pictures) or read.is_idr:
            number = round((read.pts - int(begin)) * scale)
            data = join_units(unit for unit in read.units if kind(unit) not in (SPS, PPS, *SEPARATORS))
            yield Picture(number, data, read.is_idr, is_reference(read.units))
            remaining -= 1
        if not remaining:
            return


class _Read(NamedTuple):
    """What a packet of pictures holds; times in the container's ticks."""

    pts: int
    dts: int
    units: list[bytes]
    is_idr: bool
    is_keyframe: bool
    is_same: bool


def _stretch(source: Source, style: Style, seek: float, end: int, to_keyframe: bool) -> tuple[list[_Read], bool]:
    """From the first keyframe after `seek` on what may be shown up to `end`, and whether the recording ends there."""
    found: list[_Read] = []
    far = end + round(SEEK_MARGINS[-1] / source.tick) if to_keyframe else end
    for read in _read(source, style, seek):
        if read.dts > far:
            return found, False
        if found or read.is_idr:
            found.append(read._replace(units=[]))
        if to_keyframe and read.is_idr and read.pts > end:
            return found, False
    return found, True


def _read(source: Source, style: Style, seek: float) -> Iterator[_Read]:
    from av.error import FFmpegError as LibavError

    container, stream = source.container, source.stream
    sets, length_size = ParameterSets.of_extradata(stream.codec_context.extradata)
    is_same, ahead = sets == style.sets, math.ceil(MAX_REORDER / style.rate / source.tick)
    try:
        seek_before(container, seek)
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None:
                raise UnsafeError(UNTIMED)
            units = split_units(bytes(packet), length_size)
            is_same = is_same and not _changes(packet, units, style.sets)
            # Matroska has no decoding times; what is shown later than this is decoded later too.
            dts = packet.pts - ahead if packet.dts is None else packet.dts
            yield _Read(packet.pts, dts, units, is_idr(units), packet.is_keyframe, is_same)
    except (LibavError, HlkitError, IndexError) as error:
        raise UnsafeError(f"it can't be read there ({error})") from error


def _changes(packet: Packet, units: list[bytes], sets: ParameterSets) -> bool:
    """Whether a packet brings parameter sets that are not the known ones."""
    if packet.has_sidedata("new_extradata"):
        return True
    if not any(kind(unit) in (SPS, PPS) for unit in units):
        return False
    new = ParameterSets.of(units)
    return not sets.agrees(new) or new | sets != sets
