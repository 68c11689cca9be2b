"""Frames: a recording's pictures, stored as JPEGs in tar shards with an index or streamed, and read back.

The index says at which byte of which shard each JPEG lies, so nothing is ever unpacked. A frame of the frames table is
the bytes `[offset, offset + size)` of the file `root / video / shard`.
"""

from __future__ import annotations

import functools
import json
import shutil
import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.extraction import Extraction, Holes, without_holes
from hlkit.faults import RESTARTING_FORMATS, find_holes, find_jump
from hlkit.locks import exclusive
from hlkit.project import HlkitError, HlkitWarning, atomic_path, fingerprint, format_time
from hlkit.sampling import (
    HOLD_SECONDS,
    Accelerator,
    Decoder,
    Decoding,
    PicturePart,
    check_part,
    check_pixels,
    choose_accelerator,
    sampled,
)
from hlkit.shards import FrameReader as FrameReader
from hlkit.shards import consecutive, find_members, plan_shards, shard_name
from hlkit.threads import beside
from hlkit.video import FFmpegError, frame_count, frame_rate, open_ffmpeg, probe

FRAME_SCHEMA: dict[str, Any] = {
    "video": pl.String,
    "frame": pl.Int64,
    "time": pl.Float64,
    "shard": pl.String,
    "offset": pl.Int64,
    "size": pl.Int64,
}

Picture = TypeVar("Picture", bytes, np.ndarray)

# A damaged recording may have hundreds; the first ones tell where to look.
SHOWN_GAPS = 5


def extract_frames(
    video: Path,
    folder: Path,
    *,
    video_id: str,
    fps: str | float | Fraction = 3,
    size: int = 128,
    quality: int = 3,
    start: float = 0.0,
    end: float | None = None,
    box: PicturePart | None = None,
    shard_seconds: int = 600,
    accelerator: Accelerator = "auto",
    decoding: Decoding = "fast",
    redo: bool = False,
    progress: bool = True,
) -> pl.DataFrame:
    """Store the pictures of `video` at `i / fps` seconds in `folder`, and return their index (a frames table).

    Frame `i` is what a viewer sees at that time. What can't be decoded is told in a warning with its times, and the
    index does not have it. Killed at any moment and run again, it keeps the shards that are whole and ends with the
    same bytes as one clean run; with other settings or another recording it starts over.

    Args:
        video: the recording.
        folder: `<root>/<video_id>`, for shards, `index.parquet` and `extraction.json`.
        video_id: goes into the column `video`.
        fps: pictures a second of video.
        size: width and height of the square pictures, in pixels.
        quality: of the JPEGs, ffmpeg's `-q:v`: 2 (best) to 31.
        start, end: seconds; the frames with `start <= i / fps < end`, of the whole recording unless given.
        box: the part of the picture, `x0, y0, x1, y1` from 0 to 1, or that with the whole picture (see
            `hlkit.sampling.with_whole`); the whole unless given.
        shard_seconds: seconds of video in one shard.
        accelerator: decodes on the CPU, on an NVIDIA GPU, or on the faster of the two.
        decoding: "fast" saves the CPU work, "exact" keeps edges smooth, see `hlkit.sampling.sampled`.
        redo: make again what is there.
        progress: show a progress bar.

    Returns:
        `video` str, `frame` i64 from 0, `time` f64 in seconds, `shard` str, `offset` and `size` i64 in bytes.

    Raises:
        HlkitError: when the recording can't be read, no picture of it can be decoded, or another process is making
            frames in `folder`.
        FFmpegError: when ffmpeg fails for another reason than the recording.
    """
    rate = frame_rate(fps)
    if not 2 <= quality <= 31:
        raise HlkitError(f"The JPEG quality is {quality}. Give 2 (best) to 31.")
    info = probe(video)
    if box is not None:
        check_pixels(box, info)
    length = info.duration
    stop = length if end is None else min(end, length)
    frames = _between(video, length, start, stop, rate)
    if info.container in RESTARTING_FORMATS and (jump := find_jump(video)) is not None:
        raise HlkitError(
            f"The clock of {video} starts again after {format_time(jump)}, as in recordings that were joined. "
            "Take it into a project (`hlkit download FILE`), which gives it one clock."
        )
    holes = functools.cache(lambda: beside(lambda: find_holes(video, start=start, end=stop)))
    plan = {
        number: range(max(part.start, frames.start), part.stop)
        for number, part in enumerate(plan_shards(frames.stop, rate, shard_seconds))
        if part.stop > frames.start
    }
    settings = {"video": video_id, "source": fingerprint(video), "fps": str(rate), "size": size, "quality": quality}
    settings |= {"box": box and list(check_part(box)), "decoding": decoding, "shard_seconds": shard_seconds}
    settings |= {"first": frames.start, "frames": frames.stop}

    def job() -> Extraction:
        kind = choose_accelerator(video, accelerator, fps=rate, size=size)
        return Extraction(info, rate, size, quality, kind, decoding, box)

    with exclusive(folder, what=f"The frames of {video_id} are"):
        _prepare(folder, settings, redo)
        count = len(frames)
        with tqdm(total=count, desc=video_id, unit="frame", mininterval=0.5, disable=not progress) as bar:
            places = _write_missing(folder, plan, rate, holes, job, bar)
        index = _index(video_id, rate, plan, places)
        if index.is_empty():
            raise HlkitError(f"No picture of {video} can be decoded. It is damaged: copy or download it again.")
        with atomic_path(folder / "index.parquet") as temporary:
            index.write_parquet(temporary)
    if len(index) < count:
        warnings.warn(_lacking(video, index, frames, rate), HlkitWarning, stacklevel=2)
    return index


def _write_missing(
    folder: Path,
    plan: dict[int, range],
    fps: Fraction,
    holes: Holes,
    job: Callable[[], Extraction],
    bar: tqdm[Any],
) -> dict[int, np.ndarray]:
    """Write the shards of `plan` that are not there; returns where in each shard its JPEGs lie.

    The first one is made whatever the holes, the others only when they have a picture to hold.
    """
    found = {number: find_members(folder / shard_name(number), frames) for number, frames in plan.items()}
    places = {number: place for number, place in found.items() if place is not None}
    bar.update(sum(len(plan[number]) for number in places))
    bar.initial = bar.n  # those cost no time
    missing = {number: frames for number, frames in plan.items() if number not in places}
    if missing and next(iter(plan)) in places:
        missing = without_holes(missing, holes().result(), fps)
    if missing:
        (folder / "index.parquet").unlink(missing_ok=True)
        places |= job().write(folder, missing, holes, bar)
    return dict(sorted(places.items()))


def _between(video: Path, length: float, start: float, stop: float, fps: Fraction) -> range:
    """The frames `i` with `start <= i / fps < stop`."""
    frames = range(frame_count(start, fps) if start > 0 else 0, frame_count(stop, fps) if stop > 0 else 0)
    if start < 0 or not frames:
        given = f"from {start:g} s to {stop:g} s"
        raise HlkitError(
            f"{video} has no pictures {given}. It is {format_time(length)} long ({length:.1f} s). Give a stretch "
            "inside it."
        )
    return frames


def _lacking(video: Path, index: pl.DataFrame, frames: range, fps: Fraction) -> str:
    places = [" to ".join(format_time(time, decimals=1) for time in stretch) for stretch in gaps(index, frames, fps)]
    shown = ", ".join(places[:SHOWN_GAPS]) + (" and elsewhere" if len(places) > SHOWN_GAPS else "")
    what = f"{video} can't be decoded from {shown}; these {len(frames) - len(index):,} frames are left out"
    return f"{what}. Copy or download it again to have them."


def gaps(index: pl.DataFrame, frames: range, fps: str | float | Fraction) -> list[tuple[float, float]]:
    """The stretches `[start, end)` in seconds of those `frames` of a video that its frames table does not have."""
    rate = frame_rate(fps)
    lacking = np.setdiff1d(np.arange(frames.start, frames.stop), index["frame"].to_numpy()).tolist()
    return [(float(run[0] / rate), float((run[-1] + 1) / rate)) for run in consecutive(lacking)]


def stream_pictures(
    video: Path,
    *,
    fps: str | float | Fraction,
    size: int,
    start: float = 0.0,
    end: float | None = None,
    box: PicturePart | None = None,
    accelerator: Accelerator = "cpu",
    decoding: Decoding = "fast",
    batch_size: int = 64,
) -> Generator[np.ndarray, None, None]:
    """Give the pictures of `video` at `start + n / fps`, `n >= 0`, before `end`, straight from ffmpeg, in batches.

    Args:
        video: the recording.
        fps: pictures a second of video.
        size, box, decoding: as for `extract_frames`.
        start, end: seconds; all of the recording unless given.
        accelerator: as for `extract_frames`, but the CPU unless asked for.
        batch_size: pictures in a batch, 1 or more.

    Yields:
        uint8 (n, size, size, 3), RGB; `n` is `batch_size` in all batches but the last.

    Raises:
        HlkitError: when the recording can't be read, does not reach `start`, or ends more than a second too early.
        FFmpegError: when ffmpeg fails.
    """
    rate = frame_rate(fps)
    count, length = _span(video, rate, start, end)
    kind = choose_accelerator(video, accelerator, fps=rate, size=size)
    raw = _raw_pictures(video, start, count, fps=rate, size=size, box=box, accelerator=kind, decoding=decoding)
    return _batches(_all_of(raw, count, start, rate, video=video, length=length), batch_size)


def _span(video: Path, fps: Fraction, start: float, end: float | None) -> tuple[int, float]:
    """How many pictures lie in `[start, end)`, and how long the recording says it is."""
    length = probe(video).duration
    stop = length if end is None else min(end, length)
    if not 0 <= start < stop:
        given = f"from {start:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise HlkitError(
            f"{video} has no pictures {given}. It is {format_time(length)} long ({length:.1f} s). Give a stretch "
            "inside it."
        )
    return frame_count(Fraction(stop) - Fraction(start), fps), length


def _raw_pictures(
    video: Path,
    start: float,
    count: int,
    *,
    fps: Fraction,
    size: int,
    box: PicturePart | None,
    accelerator: Decoder,
    decoding: Decoding,
) -> Generator[np.ndarray, None, None]:
    """Up to `count` pictures, uint8 (size, size, 3); fewer when the recording ends before."""
    pictures = sampled(video, fps=fps, size=size, start=start, box=box, accelerator=accelerator, decoding=decoding)
    stream = pictures.output("pipe:", format="rawvideo", pix_fmt="rgb24", **{"frames:v": count})
    with open_ffmpeg(stream) as process:
        assert process.stdout is not None
        while len(pixels := process.stdout.read(size * size * 3)) == size * size * 3:
            yield np.frombuffer(pixels, np.uint8).reshape(size, size, 3)


def _all_of(
    pictures: Generator[Picture, None, None],
    count: int,
    start: float | Fraction,
    fps: Fraction,
    *,
    video: Path,
    length: float,
) -> Generator[Picture, None, None]:
    """Pass `count` pictures on, or say where the recording broke off."""
    got = 0
    try:
        with closing(pictures):
            for picture in pictures:
                got += 1
                yield picture
    except FFmpegError as error:
        where = f"about {format_time(float(start + got / fps), decimals=1)} of {format_time(length, decimals=1)}"
        raise FFmpegError(
            f"{video} can't be decoded after {where}. It is cut off or damaged: copy or download it again, or make "
            f"frames (`hlkit frames`), which keep what there is. {error}"
        ) from error
    if got < count:
        ends = format_time(max(0.0, float(start + got / fps) - HOLD_SECONDS), decimals=1)
        raise HlkitError(
            f"The pictures of {video} end at {ends}, but it states a length of {format_time(length, decimals=1)}. "
            f"It was cut off: copy or download it again, or make frames (`hlkit frames`), which keep what there is."
        )


def _batches(pictures: Generator[np.ndarray, None, None], batch_size: int) -> Generator[np.ndarray, None, None]:
    with closing(pictures):
        while batch := list(islice(pictures, batch_size)):
            yield np.stack(batch)


def _prepare(folder: Path, settings: dict[str, Any], redo: bool) -> None:
    """Make `folder` one that holds nothing but shards made with `settings`; with `redo`, none."""
    record = folder / "extraction.json"
    try:
        agrees = json.loads(record.read_text(encoding="utf-8")) == settings
    except (FileNotFoundError, ValueError):
        agrees = False
    for leftover in folder.glob(".part-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    if agrees and not redo:
        return
    # The index goes first: without it nothing here counts as finished.
    for stale in (folder / "index.parquet", record, *folder.glob("[0-9]*.tar")):
        stale.unlink(missing_ok=True)
    # Half of it agrees with nothing, so it need not be on the disk before the first picture is decoded.
    record.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _index(video_id: str, fps: Fraction, plan: dict[int, range], places: dict[int, np.ndarray]) -> pl.DataFrame:
    """The places of all frames that could be had."""
    frames = np.concatenate([np.arange(plan[number].start, plan[number].stop) for number in places])
    offsets, sizes = np.concatenate(list(places.values())).T  # (2, frames)
    names = np.repeat([shard_name(number) for number in places], [len(place) for place in places.values()])
    return pl.DataFrame(
        {
            "video": [video_id] * len(frames),
            "frame": frames,
            "time": frames * fps.denominator / fps.numerator,
            "shard": names,
            "offset": offsets,
            "size": sizes,
        },
        schema=FRAME_SCHEMA,
    ).filter(pl.col("size") > 0)


def read_index(folder: Path) -> pl.DataFrame:
    """The frames table of one video's frame store, as `extract_frames` returned it.

    Raises:
        HlkitError: when the index is missing (extraction never finished) or damaged.
    """
    path = Path(folder) / "index.parquet"
    if not path.is_file():
        raise HlkitError(f"{folder} has no finished frames. Run notebook 02 or `hlkit frames` first.")
    try:
        index = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HlkitError(f"{path} is damaged ({error}). Delete it and run `hlkit frames` again.") from error
    if dict(index.schema) != FRAME_SCHEMA:
        raise HlkitError(f"{path} is no frame index: its columns are {index.columns}. Run `hlkit frames` again.")
    return index
