"""The edges of a cut: the few pictures around what is copied, decoded and encoded with parameters like the source's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hlkit.coded import Picture, Style, UnsafeError
from hlkit.h264 import PPS, SEPARATORS, SPS, ParameterSets, join_units, kind, split_units

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

# Encodes three times as fast as "veryfast" (1080p60), in larger files, which do not count for so few pictures.
PRESET = "ultrafast"
# With these its pictures are better than those of "veryfast" at the same crf (46.7 and 45.9 dB), and take no longer.
RESTORED = "no-deblock=0:cabac=1"


class Edge:
    """Encodes the pictures `[first, stop)` of a cut from coded ones, which are fed from their keyframe on."""

    def __init__(self, style: Style, cut: int, first: int, stop: int, crf: int) -> None:
        self._style, self._first, self._stop = style, first, stop
        self._stack = ExitStack()
        self._decoder = self._stack.enter_context(decoder(style, style.sets))
        self._encoder = encoder(style, style.number(cut, "edge"), crf)
        self._packets: list[tuple[int, bytes, bool]] = []
        self._taken = 0

    def __enter__(self) -> Edge:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def feed(self, picture: Picture) -> None:
        """Take a coded picture.

        Raises:
            UnsafeError: when it can't be decoded.
        """
        # What nothing needs is not decoded where it is not shown.
        if picture.number >= self._first or picture.is_reference:
            for frame in decode(self._decoder, self._style, picture):
                self._take(frame)

    def finish(self) -> Iterator[Picture]:
        """The pictures, in the order in which they are coded.

        Raises:
            UnsafeError: when some are missing.
        """
        for frame in decode(self._decoder, self._style, None):
            self._take(frame)
        if self._taken != self._stop - self._first:
            raise UnsafeError(f"{self._taken} of {self._stop - self._first} pictures at its edge could be decoded")
        self._keep(None)
        for number, data, is_keyframe in self._packets:
            units = [unit for unit in split_units(data, 0) if kind(unit) not in (SPS, PPS, *SEPARATORS)]
            yield Picture(number, join_units(units), is_keyframe, is_reference=True)

    def _take(self, frame: VideoFrame) -> None:
        from av.video.frame import PictureType

        if frame.pts is None or not self._first <= frame.pts < self._stop:
            return
        if frame.pts != self._first + self._taken:
            raise UnsafeError("a picture at its edge can't be decoded")
        self._taken += 1
        frame.time_base, frame.pict_type = 1 / self._style.rate, PictureType.NONE
        self._keep(frame)

    def _keep(self, frame: VideoFrame | None) -> None:
        for packet in self._encoder.encode(frame):
            assert packet.pts is not None
            self._packets.append((packet.pts, bytes(packet), packet.is_keyframe))

    @property
    def sets(self) -> ParameterSets:
        """The sets of what it encodes."""
        return ParameterSets.of(split_units(bytes(self._encoder.extradata or b""), 0))


@contextmanager
def decoder(style: Style, sets: ParameterSets, *, smooth: bool = True) -> Iterator[VideoCodecContext]:
    """A decoder of the pictures that `sets` describe, for the time of the `with` block.

    Unless `smooth`, the edges of H.264's blocks stay visible, which takes less time.
    """
    from av import CodecContext

    context = CodecContext.create("h264", "r")
    context.extradata = sets.to_avcc()
    context.width, context.height = style.width, style.height
    context.thread_type = "AUTO"
    if not smooth:
        context.options = {"skip_loop_filter": "all"}
    context.open()
    try:
        yield context
    finally:
        # Freed while its threads are still at work on something damaged, it would wait for them for ever.
        context.flush_buffers()


def decode(context: VideoCodecContext, style: Style, picture: Picture | None) -> Iterator[VideoFrame]:
    """What a decoder gives after a picture (None: the last); the frames' `pts` are the pictures' numbers.

    Raises:
        UnsafeError: when a picture is damaged.
    """
    from av.error import FFmpegError as LibavError
    from av.packet import Packet

    packet = None
    if picture is not None:
        packet = Packet(picture.data)
        packet.pts, packet.time_base = picture.number, 1 / style.rate
    try:
        frames = context.decode(packet)
    except LibavError as error:
        raise UnsafeError(f"a picture can't be decoded ({error})") from error
    for frame in frames:
        if frame.is_corrupt:
            raise UnsafeError("a picture is damaged")
        yield frame


def encoder(style: Style, number: int, crf: int) -> VideoCodecContext:
    """An encoder of pictures that can stand beside the source's; `number` is that of its parameter sets."""
    from av import CodecContext
    from av.codec.context import Flags

    context = CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = style.width, style.height, "yuv420p"
    context.time_base, context.framerate = 1 / style.rate, style.rate
    if style.aspect is not None:
        context.sample_aspect_ratio = style.aspect
    context.color_primaries, context.color_trc, context.colorspace = style.colours
    context.flags |= Flags.global_header
    options = {"preset": PRESET, "crf": str(crf), "profile": style.profile, "level": str(style.sequence.level / 10)}
    # Stitchable: headers that depend on nothing but these settings, so that all edges agree.
    options["x264-params"] = f"sps-id={number}:stitchable=1:{RESTORED}"
    context.options = options
    context.open()
    return context
