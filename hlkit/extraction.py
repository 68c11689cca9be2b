"""From a recording to shards of JPEGs, with what can't be decoded left empty.

ffmpeg samples, shrinks and encodes in one pass, and a pipe carries the JPEGs. Where it gives up, complains, or packets
are missing, `hlkit.faults` says which times have no true picture.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from hlkit.faults import Hole, find_faults
from hlkit.passages import Passage, long_mp4, stretches
from hlkit.project import HlkitError
from hlkit.sampling import TIMESTAMP_TOLERANCE, Decoder, Decoding, PicturePart, sampled
from hlkit.shards import shard_name, write_shard
from hlkit.video import FFmpegError, VideoInfo, open_ffmpeg

# By their numbers in ITU-T H.273: BT.601 of 625 and of 525 lines, and none said, which ffmpeg takes for it.
BT601_MATRICES = (2, 5, 6)

# Begins to look for what `hlkit.faults.find_holes` gives, if that has not begun.
Holes = Callable[[], Future[list[Hole]]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """How the pictures of a recording become JPEGs.

    Attributes:
        info: the recording.
        fps: pictures a second of video.
        size: width and height in pixels.
        quality: ffmpeg's `-q:v`.
        decoder: "cpu" or "cuda".
        decoding: "exact" or "fast", see `hlkit.sampling.sampled`.
        box: the part of the picture.
    """

    info: VideoInfo
    fps: Fraction
    size: int
    quality: int
    decoder: Decoder
    decoding: Decoding = "fast"
    box: PicturePart | None = None

    def write(
        self, folder: Path, plan: Mapping[int, range], holes: Holes, bar: tqdm[Any]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Write shards; yield the number and `find_members` of each.

        One decoder serves all that follow each other, or twenty minutes of a long MP4; where it gives up, the next
        shard has a new one. The first shard is made while holes are looked for; later ones inside one are left out.

        Args:
            folder: gets the shards.
            plan: number of a shard -> its frames, ascending.
            holes: of the recording.
            bar: counts pictures.

        Raises:
            FFmpegError, HlkitError: when pictures don't come, and nothing in the recording is the reason.
        """
        left = deque(plan.items())
        while left:
            stretch = _Stretch(self, self._of_one_decoder([frames for _, frames in left]), holes)
            reached = stretch.frames.start
            with closing(stretch.jpegs()) as jpegs:
                while left and left[0][1].start == reached < stretch.frames.stop and not stretch.broke_off:
                    number, frames = left.popleft()
                    pictures = _counted(chain(islice(jpegs, len(frames)), repeat(b"")), bar)
                    faulty = partial(stretch.faulty, frames)
                    yield number, write_shard(folder / shard_name(number), frames, pictures, faulty=faulty)
                    reached = frames.stop
                    left = deque(without_holes(dict(left), holes().result(), self.fps).items())

    def _of_one_decoder(self, shards: Sequence[range]) -> range:
        """The frames from the first shard on for which one decoder opens the recording: of a long one, not all."""
        first, fps = shards[0], self.fps
        _, stop = stretches(self.info.path, float(first.start / fps), float(shards[-1].stop / fps))[0]
        return range(first.start, max(frames.stop for frames in shards if frames is first or frames.stop / fps <= stop))


class _Stretch:
    """What one decoder gives of `frames`, and what is known against it."""

    def __init__(self, job: Extraction, frames: range, holes: Holes) -> None:
        self.job, self.frames, self.holes = job, frames, holes
        self.got = 0
        self.broke_off = False
        self.failure: FFmpegError | None = None
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - `open_ffmpeg` closes it

    def jpegs(self) -> Generator[bytes, None, None]:
        """The JPEGs in order; fewer when the decoder gives up."""
        try:
            with closing(self._packets()) as packets:
                for jpeg in packets:
                    self.got += 1
                    yield jpeg
        except FFmpegError as error:
            self.failure = error
        self.broke_off = self.got < len(self.frames)

    def _packets(self) -> Generator[bytes, None, None]:
        import av
        from av.error import FFmpegError as LibavError

        info, fps = self.job.info, self.job.fps
        start, stop = float(self.frames.start / fps), float(self.frames.stop / fps)
        long = long_mp4(info.path)
        with (
            self.complaints,
            long.passage(start, stop) if long else nullcontext() as passage,
            open_ffmpeg(self._command(passage), complaints=self.complaints) as process,
        ):
            self.holes()  # not before: it would hold up the decoder's start
            try:
                with av.open(process.stdout, mode="r", format="nut") as container:
                    for packet in container.demux(video=0):
                        if packet.size:
                            yield bytes(packet)
            except LibavError as error:
                # A pipe that breaks off is ffmpeg's failure, which it reports, or too few pictures, which are noticed.
                _log.info("the pipe from ffmpeg broke off (%s)", error)

    def _command(self, passage: Passage | None) -> Any:
        job = self.job
        pictures = sampled(
            job.info.path,
            fps=job.fps,
            size=job.size,
            start=self.frames.start / job.fps,
            box=job.box,
            accelerator=job.decoder,
            decoding=job.decoding,
            info=job.info,
            passage=passage,
            colours="full range" if job.info.matrix in BT601_MATRICES else "as recorded",
        )
        # One thread and no writer's name make the bytes the same everywhere. Codes that are fitted to each picture make
        # it 6 to 10 % smaller and take longer than shrinking it.
        options = {"frames:v": len(self.frames), "q:v": job.quality, "flags:v": "+bitexact", "threads": 1}
        options |= {"huffman": "default"}
        return _as_in_jpeg(pictures, job.info).output("pipe:", format="nut", vcodec="mjpeg", **options)

    def faulty(self, frames: range) -> set[int]:
        """Which of `frames`, all taken by now, did not come or do not show what was on screen.

        Raises:
            FFmpegError, HlkitError: when one did not come though the recording can be decoded there.
        """
        job = self.job
        start, end = float(frames.start / job.fps), min(float(frames.stop / job.fps), job.info.duration)
        lacking = range(max(frames.start, self.frames.start + self.got), frames.stop)
        complained = self.complaints.closed or os.fstat(self.complaints.fileno()).st_size > 0
        if not lacking and not complained and not any(a < end and b > start for a, b in self.holes().result()):
            return set()
        faults = find_faults(job.info.path, start=start, end=end)
        times = ((frame, float(frame / job.fps) + TIMESTAMP_TOLERANCE) for frame in frames)
        wrong = {frame for frame, time in times if any(a <= time < b for a, b in faults)}
        if not wrong.issuperset(lacking):
            raise self.failure or HlkitError(
                f"ffmpeg gave no picture of {job.info.path} from {start:g} s on. Run it again."
            )
        return wrong


def without_holes(plan: Mapping[int, range], holes: Sequence[Hole], fps: Fraction) -> dict[int, range]:
    """The shards that have a picture to hold: a damaged clock may promise years."""
    return {
        number: frames
        for number, frames in plan.items()
        if not any(start <= frames[0] / fps and frames[-1] / fps < end for start, end in holes)
    }


def _as_in_jpeg(pictures: Any, info: VideoInfo) -> Any:
    """Full-range BT.601, which a JPEG is, whatever the recording is; with BT.601, `pictures` are of full range."""
    if info.matrix not in BT601_MATRICES:
        # By way of RGB, because not every version of ffmpeg converts one matrix to another directly.
        pictures = pictures.filter("format", "rgb24").filter("scale", out_color_matrix="bt601", out_range="full")
    return pictures.filter("format", "yuvj420p")


def _counted(pictures: Iterator[bytes], bar: tqdm[Any]) -> Iterator[bytes]:
    for picture in pictures:
        bar.update()
        yield picture
