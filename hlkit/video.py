"""What a recording is (`VideoInfo`), which ffmpeg runs, and the one way to run it with progress and its own error text.

Time 0 is the start of the container's clock: what a player shows as 0:00.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tqdm.auto import tqdm

from hlkit.passages import long_mp4
from hlkit.project import HlkitError, format_time, parse_time

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# ffmpeg may repeat one complaint for every packet of a damaged file.
ERROR_LINES, ERROR_LINE_BYTES = 5, 500
# NTSC's rates are so much of whole ones.
NTSC = Fraction(1000, 1001)
# Time code counts these and their NTSC variants; OpenTimelineIO refuses others as no rates of SMPTE time code.
TIME_BASES = (24, 25, 30, 48, 50, 60)

# Where pipes can be so large (Linux), two programs wait less for each other.
PIPE_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class FFmpegError(HlkitError):
    """ffmpeg failed; the message holds the last lines that it wrote about it."""


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about a recording.

    `duration` is the length of the pictures in seconds from time 0; `fps` the average rate, exact; `width` and `height`
    in pixels; `start_time` the container's own timestamp of time 0, in seconds; `codec` ffmpeg's name of the picture
    codec (`h264`); `matrix` how its colours are coded, by the number in ITU-T H.273 (2: not said); `container` ffmpeg's
    name of the file format (`mpegts`).

    Raises:
        HlkitError: when a length, a rate or a size is not positive and finite.
    """

    path: Path
    duration: float
    width: int
    height: int
    fps: Fraction
    start_time: float
    codec: str
    has_audio: bool
    matrix: int = 2
    container: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise HlkitError(f"{self.path} has a length of {self.duration} s. Copy or download it again.")
        if min(self.width, self.height, self.fps) <= 0:
            raise HlkitError(f"{self.path} states {self.width}x{self.height} at {self.fps} fps; it is damaged.")

    def __str__(self) -> str:
        sound = "with sound" if self.has_audio else "no sound"
        size = f"{self.width}x{self.height} at {float(self.fps):.6g} fps"
        return f"{self.path.name}: {format_time(self.duration)}, {size}, {self.codec}, {sound}"


def frame_rate(value: str | float | Fraction) -> Fraction:
    """Read a frame rate as an exact fraction: `3`, `"30000/1001"`, `0.5`.

    Raises:
        HlkitError: unless it is a number above 0 and at most 240.
    """
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 240:
        raise HlkitError(f"The frame rate is '{value}'. Give a number above 0, at most 240, such as 3 or 30000/1001.")
    return rate


def frame_count(duration: float | Fraction, fps: str | float | Fraction) -> int:
    """How many times `i / fps`, `i >= 0`, lie in `[0, duration)`; `frame_count(1.0, 3) == 3`.

    Containers write lengths in microseconds, so a time less than two of them before the end does not count, but 0 does.
    """
    count = math.ceil((Fraction(duration) - Fraction(2, 1_000_000)) * frame_rate(fps))
    return max(count, int(duration > 0))


def probe(path: Path) -> VideoInfo:
    """Read what the container at `path` says, without decoding it.

    Raises:
        HlkitError: when the file is missing, empty, no video, cut off before its index, or holds sound only.
    """
    path = Path(path)
    long = long_mp4(path)
    with long.beginning() if long else nullcontext() as url, open_container(path, url=url) as (container, stream):
        start = origin_of(container)
        codec = stream.codec_context
        return VideoInfo(
            path=path,
            duration=_duration(container, stream, start),
            width=codec.width,
            height=codec.height,
            fps=long.fps if long else Fraction(stream.average_rate or stream.guessed_rate or 0),
            start_time=start,
            codec=codec.codec.canonical_name,
            has_audio=bool(container.streams.audio),
            matrix=int(codec.colorspace),
            container=container.format.name,
        )


@contextmanager
def open_container(path: Path, *, url: str | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container at `path` with PyAV and yield it with its first real picture stream (no cover art).

    `url`, of `hlkit.passages`, is opened in place of the whole recording.

    Raises:
        HlkitError: as `probe` does.
    """
    import av
    from av.error import FFmpegError as LibavError
    from av.stream import Disposition

    path = Path(path)
    if not path.is_file():
        raise HlkitError(f"There is no video file {path}. Check the name, or download the recording first.")
    if path.stat().st_size == 0:
        raise HlkitError(f"{path} is empty. Copy or download it again.")
    try:
        container = av.open(url or str(path.resolve()), metadata_errors="ignore")
    except (LibavError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        advice = "Give a whole recording (mp4, mkv, mov, webm, ts); if this one was cut off, copy or download it again"
        raise HlkitError(f"{path} can't be read as a video ({reason}). {advice}.") from error
    with container:
        pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            raise HlkitError(f"{path} holds no pictures, only sound or other data. Give a video recording.")
        if pictures[0].codec_context is None:
            raise HlkitError(f"{path} is in a picture format that can't be decoded. Convert it to H.264 first.")
        yield container, pictures[0]


def origin_of(container: InputContainer) -> float:
    """The container's own timestamp of time 0, in seconds."""
    return (container.start_time or 0) / 1_000_000


def stated_duration(container: InputContainer, stream: VideoStream, start: float) -> float | None:
    """Seconds from time 0 (on the container's clock `start`) to the end of the last picture; None where it is not said.

    Of what the container says, the most exact is taken.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start
    # Matroska states the length of the longest stream; most writers add each stream's own as a tag.
    if re.fullmatch(r"\d+:\d\d:\d\d(\.\d+)?", tag := stream.metadata.get("DURATION", "")):
        # ffmpeg's tag says when the stream ends on the container's clock, mkvmerge's how long it lasts.
        is_end = container.metadata.get("ENCODER", "").startswith("Lavf")
        return parse_time(tag) - (start if is_end else 0.0)
    return None if container.duration is None else container.duration / 1_000_000


def _duration(container: InputContainer, stream: VideoStream, start: float) -> float:
    stated = stated_duration(container, stream, start)
    if stated is not None:
        return stated
    ends = [float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux(stream) if p.pts is not None]
    return max(ends, default=0.0) - start


@functools.cache
def find_ffmpeg() -> str:
    """The ffmpeg to run: `HLKIT_FFMPEG` (a path or a name), else the system's, else the `imageio-ffmpeg` wheel's.

    Raises:
        HlkitError: when `HLKIT_FFMPEG` names no program, or there is no ffmpeg at all.
    """
    if wanted := os.environ.get("HLKIT_FFMPEG"):
        if found := shutil.which(wanted):
            return found
        raise HlkitError(f"HLKIT_FFMPEG is '{wanted}', which is not a program. Set it to an ffmpeg, or unset it.")
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise HlkitError("There is no ffmpeg. Run `pip install imageio-ffmpeg`, or install ffmpeg.") from error


def _command(stream_or_args: Any, *options: str) -> list[str]:
    if isinstance(stream_or_args, Sequence):
        args = [str(arg) for arg in stream_or_args]
    else:
        import ffmpeg

        args = ffmpeg.get_args(stream_or_args)
    return [find_ffmpeg(), "-y", "-nostdin", "-hide_banner", "-loglevel", "error", *options, *args]


@contextmanager
def open_ffmpeg(
    stream_or_args: Any,
    *options: str,
    cwd: Path | None = None,
    complaints: IO[bytes] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ffmpeg for the time of the block and yield its process, whose `stdout` (bytes) is open for reading.

    `stream_or_args` is an ffmpeg-python output node, or the arguments that follow the program's name. A block that
    leaves before the end of the output stops ffmpeg without complaint; so does an exception, which goes on upwards.
    `complaints`, a file open for reading and writing, takes what ffmpeg says of errors; it is closed in the end. With
    `stdin=subprocess.PIPE` what ffmpeg reads is written by the block, which closes it too.

    Raises:
        FFmpegError: when the output was read to its end and ffmpeg reports failure.
    """
    command = _command(stream_or_args, *options)
    _log.debug("running %s", command)
    # A file takes all that ffmpeg has to say, and holds it from the moment at which it is said.
    with complaints or tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=words, cwd=cwd)
        assert process.stdout is not None
        try:
            for pipe in (process.stdin, process.stdout):
                _widen(pipe)
            yield process
            finished = not process.stdout.read(1)
            status = process.wait() if finished else 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if status:
            unsaid = signal.strsignal(-status) if status < 0 else None
            reason = _last_lines(words) or unsaid or "it gave no reason"
            raise FFmpegError(f"ffmpeg failed with status {status}: {reason}")


def _widen(pipe: IO[bytes] | None) -> None:
    """Make a pipe `PIPE_BYTES` large where the system has such pipes and its limits allow one more."""
    if pipe is None:
        return
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _last_lines(words: IO[bytes]) -> str:
    """The end of what ffmpeg said; the last lines hold the reason it stopped."""
    words.seek(max(0, words.seek(0, os.SEEK_END) - ERROR_LINES * ERROR_LINE_BYTES))
    lines = [line.strip()[:ERROR_LINE_BYTES] for line in words.read().splitlines() if line.strip()]
    return b"\n".join(lines[-ERROR_LINES:]).decode("utf-8", "replace")


def run_ffmpeg(
    stream_or_args: Any, *, seconds: float | None = None, desc: str = "", progress: bool = True, cwd: Path | None = None
) -> None:
    """Run ffmpeg to its end, with one progress line in seconds of output; `seconds` is the length expected.

    Raises:
        FFmpegError: when ffmpeg reports failure, with its own last lines.
    """
    bar = tqdm(total=seconds and round(seconds, 1), desc=desc, unit="s", mininterval=0.5, disable=not progress)
    with bar, open_ffmpeg(stream_or_args, "-progress", "pipe:1", "-nostats", cwd=cwd) as process:
        for line in process.stdout or ():
            key, _, value = line.decode("ascii", "replace").strip().partition("=")
            if key == "out_time_us" and value.lstrip("-").isdigit():
                done = max(0.0, int(value) / 1_000_000)
                bar.update(round(min(done, seconds or done) - bar.n, 1))
