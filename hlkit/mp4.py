"""MP4 files out of coded pictures and raw sound, each picture on its exact tick."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from heapq import merge
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hlkit.coded import Picture
from hlkit.h264 import ParameterSets
from hlkit.project import HlkitError
from hlkit.soundtrack import SOUND_RATE
from hlkit.video import open_container, open_ffmpeg

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SOUND_BITRATE = 160_000
# Stands in the comment of what `join_cuts` makes, so that it can be told from a recording of the same name.
CUT_COMMENT = "Cut by hlkit"


def count_pictures(video: Path) -> int:
    """How many pictures the file has; 0 also when it has no picture track."""
    try:
        with open_container(video) as (container, stream):
            return sum(packet.pts is not None for packet in container.demux(stream))
    except HlkitError:
        return 0


def is_cut(video: Path) -> bool:
    """Whether `join_cuts` made the file; False also when it can't be read."""
    try:
        with open_container(video) as (container, _):
            return container.metadata.get("comment") == CUT_COMMENT
    except HlkitError:
        return False


def write_pictures(
    target: Path, pictures: Iterable[Picture], template: VideoStream, sets: ParameterSets, rate: Fraction, reorder: int
) -> None:
    """Write coded pictures, numbered from 0 without a gap, to an MP4 without sound.

    Args:
        target: the file.
        pictures: in the order in which they are coded.
        template: a stream of the same size and colours.
        sets: the parameter sets of all the pictures.
        rate: pictures a second.
        reorder: how many pictures are coded ahead of one that is shown before them, at most.
    """
    import av
    from av.packet import Packet

    with av.open(str(target), "w") as output:
        stream, tick = _add_pictures(output, template, sets, rate), 1 / rate
        for place, picture in enumerate(pictures):
            packet = Packet(picture.data)
            packet.stream, packet.time_base = stream, tick
            packet.pts, packet.dts, packet.duration = picture.number, place - reorder, 1
            packet.is_keyframe = picture.is_idr
            output.mux(packet)


def numbered_packets(container: InputContainer, stream: VideoStream, rate: Fraction) -> Iterator[tuple[int, Packet]]:
    """The packets of a file that holds one cut, each with its picture's number."""
    assert stream.time_base is not None
    # In whole numbers: fractions would take longer than the packets.
    over, under = (stream.time_base * rate).as_integer_ratio()
    for packet in container.demux(stream):
        if packet.pts is not None:
            yield (2 * packet.pts * over + under) // (2 * under), packet


@contextmanager
def open_part(video: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file of `write_pictures` or of an encoded cut to copy from it; of its pictures none is decoded."""
    import av

    options: Any = [{"skip_frame": "all"}]  # PyAV says it takes a list of texts
    with av.open(str(video), stream_options=options) as container:
        yield container, container.streams.video[0]


@contextmanager
def encoded_sound(target: Path) -> Iterator[IO[bytes]]:
    """Raw samples (see `hlkit.soundtrack`) that the block writes are encoded to an MP4 that holds nothing else.

    A program of its own encodes, at the same time as what goes on here.

    Raises:
        FFmpegError: when it fails.
    """
    raw = ["-f", "s16le", "-ar", str(SOUND_RATE), "-ac", "2", "-i", "pipe:0"]
    # At such bitrates the better and faster of the two ways (https://ffmpeg.org/ffmpeg-codecs.html#aac).
    coded = ["-c:a", "aac", "-b:a", str(SOUND_BITRATE), "-aac_coder", "fast", "-flags:a", "+bitexact"]
    with open_ffmpeg([*raw, *coded, target], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        # When it does not read on, it has failed, and says why.
        with suppress(BrokenPipeError), process.stdin as samples:
            yield samples


def join_cuts(cuts: Sequence[Path], counts: Sequence[int], rate: Fraction, sound: Path | None, target: Path) -> None:
    """Put the files of cuts behind one another and sound beside them; all is copied.

    Args:
        cuts: files of one size, colours and codec (H.264), in the order in which they are shown.
        counts: how many pictures each has.
        rate: pictures a second.
        sound: an MP4 of `encoded_sound`, or None.
        target: an MP4, ready to stream.

    Raises:
        HlkitError: when two files describe different pictures by one number.
    """
    import av

    sets, reorder = _survey(set(cuts), rate)
    with ExitStack() as stack:
        output = stack.enter_context(av.open(str(target), "w", options={"movflags": "+faststart"}))
        _, template = stack.enter_context(open_container(cuts[0]))
        output.metadata["comment"] = CUT_COMMENT
        stream = _add_pictures(output, template, sets, rate)
        tracks = [_pictures(cuts, counts, rate, reorder, stream)]
        if sound is not None:
            heard = stack.enter_context(av.open(str(sound)))
            track = output.add_stream_from_template(heard.streams.audio[0])
            tracks.append(_copied(heard, track))
        for packet in merge(*tracks, key=_time):
            output.mux(packet)


def _time(packet: Packet) -> float:
    assert packet.dts is not None and packet.time_base is not None
    return packet.dts * packet.time_base.numerator / packet.time_base.denominator


def _survey(cuts: Iterable[Path], rate: Fraction) -> tuple[ParameterSets, int]:
    """All parameter sets, and how far pictures are coded ahead of those that are shown before them."""
    sets, reorder = ParameterSets(), 0
    for cut in cuts:
        with open_part(cut) as (container, stream):
            sets |= ParameterSets.of_extradata(stream.codec_context.extradata)[0]
            _, packet = next(numbered_packets(container, stream, rate))
            assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
            # The first picture is also shown first.
            reorder = max(reorder, round((packet.pts - packet.dts) * packet.time_base * rate))
    return sets, reorder


def _add_pictures(output: OutputContainer, template: VideoStream, sets: ParameterSets, rate: Fraction) -> VideoStream:
    # Opaque: as a copy of a decoder's settings, whose sets may be exchanged.
    stream = output.add_stream_from_template(template, opaque=True)
    stream.codec_context.extradata = sets.to_avcc()
    stream.time_base = 1 / rate
    return stream


def _pictures(
    cuts: Sequence[Path], counts: Sequence[int], rate: Fraction, reorder: int, stream: VideoStream
) -> Iterator[Packet]:
    place, tick = 0, 1 / rate
    for cut, first in zip(cuts, accumulate(counts, initial=0), strict=False):
        with open_part(cut) as (container, its):
            for number, packet in numbered_packets(container, its, rate):
                packet.stream, packet.time_base = stream, tick
                packet.pts, packet.dts, packet.duration = first + number, place - reorder, 1
                place += 1
                yield packet


def _copied(container: InputContainer, track: AudioStream) -> Iterator[Packet]:
    for packet in container.demux():
        if packet.size:
            packet.stream = track
            yield packet
