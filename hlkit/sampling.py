"""Pictures of a recording at exact times, shrunk to the model's square, on the CPU or on an NVIDIA GPU.

The picture at time `t` is the last one whose timestamp is not after `t`, which is what a viewer sees then, whatever the
recording's own frame rate, start offset or container.

The way over the GPU has not been run on one yet; its command lines are tested word for word. It takes one stream at a
time, and a box is cut out after pictures have come back, because ffmpeg has no filter that crops on the GPU.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hlkit.passages import Passage
from hlkit.project import HlkitError, HlkitWarning
from hlkit.video import FFmpegError, VideoInfo, find_ffmpeg, frame_rate, open_container, open_ffmpeg, origin_of, probe

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Decoder = Literal["cpu", "cuda"]
Accelerator = Literal["auto", "cpu", "cuda"]
Decoding = Literal["exact", "fast"]
Box = tuple[float, float, float, float]
WHOLE_PICTURE: Box = (0.0, 0.0, 1.0, 1.0)
# A box, or a box and the whole picture, `(*box, *WHOLE_PICTURE)`: one above the other in one square picture.
PicturePart = Box | tuple[float, float, float, float, float, float, float, float]
# What a model shows that learned from a box which every recording has elsewhere, without or with the whole picture.
Own = Literal["own", "own+whole"]
OWN: Own = "own"
OWN_AND_WHOLE: Own = "own+whole"

# Matroska and FLV round timestamps to a millisecond; without this a picture that starts at 2/3 s, written as 0.667, is
# missed there. It is less than half a source frame up to 500 frames a second.
TIMESTAMP_TOLERANCE = 0.001

# Some containers state the length of their sound, and older versions of ffmpeg forget how long the last picture lasts:
# pictures that stop up to this much before the stated length are whole all the same.
HOLD_SECONDS = 1

# How far before the wanted time to look for a keyframe. The first covers the reordering of B-frames, the last the
# longest keyframe distances in use; beyond it the file is decoded from its beginning.
SEEK_MARGINS = (1.0, 5.0, 20.0, 80.0)

# Pixels; the smallest rendition of a site has fewer, the next one more.
SMALL_PICTURE = 320 * 180

# Across and down, of the part of a picture that is cut out.
LEAST_PIXELS = 3

# A probe of this many seconds tells the speeds of two decoders apart and costs little beside a stream of hours.
PROBE_SECONDS = 2.0

_log = logging.getLogger(__name__)


def sampled(
    path: Path,
    *,
    fps: str | float | Fraction,
    size: int,
    start: float | Fraction = 0.0,
    box: PicturePart | None = None,
    accelerator: Decoder = "cpu",
    decoding: Decoding = "exact",
    info: VideoInfo | None = None,
    passage: Passage | None = None,
    colours: Literal["as recorded", "full range"] = "as recorded",
) -> Any:
    """An ffmpeg-python stream whose picture `n` is the one on screen at `start + n / fps`, made `size` x `size`.

    The whole picture, or the part inside `box` (`x0, y0, x1, y1`, each 0 to 1), is squashed to a square; of a box with
    the whole picture (`with_whole`), the box makes the upper half and the whole picture the lower one. After the end
    of the recording its last picture stays for `HOLD_SECONDS`. Give the stream an `.output(...)` and pass that to
    `open_ffmpeg` or `run_ffmpeg`. With `info`, from `probe(path)`, the file need not be looked at once more; a
    `passage` from `start` on is read in place of it; `colours="full range"` stretches them in the same step.

    `decoding="fast"` leaves out the decoder's loop filter (H.264, HEVC), which smooths the edges of blocks: that saves
    about a quarter of the CPU's work, and edges stay blocky until the next keyframe. Times are the same, and so is what
    a model finds in such pictures (AP 0.739 in place of 0.730 on a recording that it had not learned from, within what
    seeds differ; `benchmarks/README.md`). A GPU always decodes exactly.

    Raises:
        HlkitError: for a rate, a size, a start, a box or a file that can't be used.
    """
    import ffmpeg

    rate = frame_rate(fps)
    if not 8 <= size <= 4096:
        raise HlkitError(f"The picture size is {size}. Give 8 to 4096 pixels.")
    if start < 0:
        raise HlkitError(f"The start is {float(start):g} s. Give 0 or more.")
    if box is not None:
        box, info = check_part(box), info or probe(path)
        check_pixels(box, info)
    if decoding not in get_args(Decoding):
        raise HlkitError(f"The decoding is '{decoding}'; exact and fast are allowed.")
    options = _input_options(path, float(start), accelerator, info, passage)
    if decoding == "fast" and accelerator == "cpu":
        options["skip_loop_filter"] = "all"
    if accelerator == "cpu" and info is not None and decodes_in_one_thread(info, os.cpu_count() or 1):
        options["threads"] = 1
    url = passage.url if passage else f"file:{Path(path).resolve()}"
    stream = ffmpeg.input(url, **options)["V:0"]
    if accelerator == "cpu":
        stream = stream.filter("tpad", stop_mode="clone", stop_duration=HOLD_SECONDS)
    # round=up: output n shows the last source picture whose timestamp is <= n / fps. The default, near, looks ahead.
    stream = stream.filter("fps", fps=str(rate), round="up", start_time=0)
    if accelerator == "cuda":
        info = info or probe(path)
        whole = size if box is None else math.ceil(size / min(box[2] - box[0], box[3] - box[1]))
        for width, height in halvings(info.width, info.height, whole):
            stream = stream.filter("scale_cuda", width, height, interp_algo="bilinear", format="nv12")
        stream = stream.filter("hwdownload").filter("format", "nv12")
        stream = stream.filter("tpad", stop_mode="clone", stop_duration=HOLD_SECONDS)  # older ones refuse GPU pictures
    stretched = {"out_range": "full"} if colours == "full range" else {}
    if box is None or len(box) == 4:
        return _cropped(stream, box).filter("scale", size, size, flags="bicubic", **stretched)
    # Twice the size first: halves of pictures whose colours have half their resolution need even heights.
    both = stream.filter_multi_output("split")
    parts = (_cropped(both[0], box[:4]), both[1])
    halves = [part.filter("scale", 2 * size, size + size % 2, flags="bicubic") for part in parts]
    return ffmpeg.filter(halves, "vstack").filter("scale", size, size, flags="bicubic", **stretched)


def check_pixels(part: PicturePart, info: VideoInfo) -> None:
    """An `HlkitError` for a box in which there is no picture: colours are stored for two pixels together."""
    box = box_of(part)
    width, height = info.width * (box[2] - box[0]), info.height * (box[3] - box[1])
    if min(width, height) < LEAST_PIXELS:
        shown = ",".join(f"{edge:g}" for edge in box)
        raise HlkitError(
            f"The box {shown} is {width:.1f} x {height:.1f} pixels of {info.path.name}, "
            f"which is {info.width} x {info.height}. Give one that is {LEAST_PIXELS} pixels or more on each side."
        )


def _cropped(stream: Any, box: Box | None) -> Any:
    if box is None:
        return stream
    x0, y0, x1, y1 = box
    return stream.filter("crop", f"iw*{x1 - x0:.6f}", f"ih*{y1 - y0:.6f}", f"iw*{x0:.6f}", f"ih*{y0:.6f}")


def decodes_in_one_thread(info: VideoInfo, cores: int) -> bool:
    """Whether one thread decodes a recording as fast as several, which leaves the other core to the pictures.

    Measured on two cores: passing pictures of 284 x 160 pixels between threads costs what they save, and with one a
    frame store is made in four fifths of the time. More cores were not measured, so ffmpeg decides there.
    """
    return cores <= 2 and info.width * info.height <= SMALL_PICTURE


def check_box(box: Sequence[float]) -> Box:
    """`x0, y0, x1, y1` as a box.

    Raises:
        HlkitError: unless these are four numbers from 0 to 1 with x0 < x1 and y0 < y1.
    """
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise HlkitError(f"The box is {tuple(box)}. Give x0,y0,x1,y1 from 0 to 1, with x0 < x1 and y0 < y1.")
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1


def with_whole(box: Box) -> PicturePart:
    """A box and the whole picture, one above the other in one square picture."""
    return (*box, *WHOLE_PICTURE)


def check_part(part: Sequence[float]) -> PicturePart:
    """A box, or a box and the whole picture.

    Raises:
        HlkitError: when it is none of these.
    """
    if len(part) == 8 and tuple(part[4:]) == WHOLE_PICTURE:
        return with_whole(check_box(part[:4]))
    return check_box(part)


def box_of(part: PicturePart) -> Box:
    """The box alone."""
    return check_box(part[:4])


def as_learned(box: Box, learned: PicturePart | Own) -> PicturePart:
    """A recording's box in the form in which a model learned: with the whole picture or without."""
    has_whole = learned == OWN_AND_WHOLE or (learned != OWN and len(learned) == 8)
    return with_whole(box) if has_whole else box


def read_box(text: str) -> Box:
    """A box that is written as `0.465,0.84,0.535,1`, or as `whole` for all of the picture.

    Raises:
        HlkitError: when it is not four numbers that make one.
    """
    if text.strip() == "whole":
        return WHOLE_PICTURE
    try:
        return check_box([float(part) for part in text.split(",")])
    except ValueError as error:
        raise HlkitError(f"The box is '{text}'. Give x0,y0,x1,y1 from 0 to 1, such as 0.465,0.84,0.535,1.") from error


def _input_options(
    path: Path, start: float, accelerator: Decoder, info: VideoInfo | None, passage: Passage | None
) -> dict[str, Any]:
    """ffmpeg's input options that put `start` at timestamp 0 and decode from a keyframe before it."""
    if passage is not None:
        origin, point = passage.origin, None
    elif info is not None and start <= SEEK_MARGINS[0]:
        origin, point = info.start_time, None  # as `seek_point` would say
    else:
        origin, point = seek_point(path, start)
    # ffmpeg's own idea of time 0 depends on its version and on which streams are used, so the container's clock is kept
    # and shifted here. Accurate seeking would drop the picture that began before `start` and is still on screen there.
    options: dict[str, Any] = {"copyts": None, "itsoffset": f"{-(origin + start + TIMESTAMP_TOLERANCE):.6f}"}
    if point is not None:
        options |= {"noaccurate_seek": None, "ss": f"{point:.6f}"}
    if accelerator == "cuda":
        options |= {"hwaccel": "cuda", "hwaccel_output_format": "cuda"}
    return options


def seek_point(path: Path, start: float) -> tuple[float, float | None]:
    """The container's timestamp of time 0, and a time from which a keyframe not after `start` is found.

    None stands for the file's beginning. Containers without an index (MPEG-TS) seek to a byte near the time, which may
    lie after the last keyframe before it; hence the look.
    """
    with open_container(path) as (container, stream):
        origin = origin_of(container)
        return origin, find_seek_point(container, stream, origin, start)


def find_seek_point(container: InputContainer, stream: VideoStream, origin: float, start: float) -> float | None:
    """What `seek_point` gives, in a recording that is open; its place is another one afterwards."""
    from av.error import FFmpegError as LibavError

    for point in (start - margin for margin in SEEK_MARGINS if start > margin):
        try:
            container.seek(round((origin + point) * 1_000_000), backward=True)
            first = next((time for time, is_keyframe in _packets(container, stream) if is_keyframe), None)
        except LibavError as error:
            _log.info("%s can't be searched (%s); decoding it from the beginning", container.name, error)
            return None
        if first is not None and first - origin <= start:
            return point
    return None


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, bool]]:
    """The container's time of each picture packet from here on, in seconds, and whether it is a keyframe."""
    for packet in container.demux(stream):
        if packet.pts is not None and packet.time_base is not None:
            yield float(packet.pts * packet.time_base), packet.is_keyframe


def halvings(width: int, height: int, size: int) -> list[tuple[int, int]]:
    """The even sizes through which a GPU shrinks a picture before the CPU makes it `size` x `size`; at least one.

    `scale_cuda` reads a few neighbours only, so one big step would leave most pixels out; a halving averages all.
    """
    steps = []
    while True:
        width, height = (side // 2 if side >= 2 * size else side for side in (width, height))
        width, height = width + width % 2, height + height % 2
        steps.append((width, height))
        if max(width, height) < 2 * size:
            return steps


def has_cuda(path: Path) -> bool:
    """Whether an NVIDIA GPU is here, ffmpeg can use it, and it decodes the beginning of this very file.

    Warns (HlkitWarning) when there is a GPU but it can't be used, with the reason.
    """
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run([find_ffmpeg(), "-hide_banner", "-hwaccels"], capture_output=True, check=False).stdout
    reason = "" if b"cuda" in listed.split() else f"{find_ffmpeg()} was built without CUDA"
    if not reason:
        try:
            _speed(path, "cuda", fps=Fraction(30), size=64, seconds=0.0)
        except FFmpegError as error:
            reason = str(error)
    if reason:
        message = f"The GPU does not decode {Path(path).name} ({reason}); using the CPU."
        warnings.warn(message, HlkitWarning, stacklevel=2)
    return not reason


def choose_accelerator(
    path: Path,
    accelerator: Accelerator = "auto",
    *,
    fps: str | float | Fraction = 3,
    size: int = 128,
    say: Callable[[str], object] = _log.info,
) -> Decoder:
    """`"cpu"` or `"cuda"` as given; for `"auto"` the one that gives this file's pictures faster in a short trial.

    `say` takes the outcome of a trial; without a GPU there is none.
    """
    if accelerator != "auto":
        return accelerator
    if not has_cuda(path):
        return "cpu"
    cpu, cuda = (_speed(path, kind, fps=frame_rate(fps), size=size) for kind in ("cpu", "cuda"))
    chosen: Decoder = "cuda" if cuda > cpu else "cpu"
    name = "GPU" if chosen == "cuda" else "CPU"
    say(f"{Path(path).stem}: the CPU decodes {cpu:.0f} pictures a second, the GPU {cuda:.0f}; using the {name}.")
    return chosen


def _speed(path: Path, kind: Decoder, *, fps: Fraction, size: int, seconds: float = PROBE_SECONDS) -> float:
    """Pictures a second after the first, which waits for the decoder to start."""
    stream = sampled(path, fps=fps, size=size, accelerator=kind).output("pipe:", format="rawvideo", pix_fmt="rgb24")
    pictures, began = 0, time.monotonic()
    with open_ffmpeg(stream) as process:
        assert process.stdout is not None
        while process.stdout.read(size * size * 3):
            pictures += 1
            if pictures == 1:
                began = time.monotonic()
            if time.monotonic() - began >= seconds:
                break
    return (pictures - 1) / max(time.monotonic() - began, 1e-9)
