"""Frames: a recording's pictures, stored as JPEGs in tar shards with an index or streamed, and read back.

The index says at which byte of which shard each JPEG lies, so nothing is ever unpacked. A frame of the frames table is
the bytes `[offset, offset + size)` of the file `root / video / shard`; a plain JPEG file is a shard of one frame.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.extraction import Extraction
from hlkit.faults import find_holes
from hlkit.project import HlkitError, HlkitWarning, atomic_path, fingerprint, format_time, write_text
from hlkit.sampling import HOLD_SECONDS, Accelerator, Decoder, choose_accelerator, sampled
from hlkit.shards import FrameReader as FrameReader
from hlkit.shards import consecutive, find_members, plan_shards, shard_name
from hlkit.video import FFmpegError, frame_count, frame_rate, open_ffmpeg, probe

FRAME_SCHEMA: dict[str, Any] = {
    "video": pl.String,
    "frame": pl.Int64,
    "time": pl.Float64,
    "shard": pl.String,
    "offset": pl.Int64,
    "size": pl.Int64,
}

JPEG_SUFFIXES = (".jpg", ".jpeg")

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
    end: float | None = None,
    shard_seconds: int = 600,
    accelerator: Accelerator = "auto",
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
        end: stop at this time, in seconds; the whole recording unless given.
        shard_seconds: seconds of video in one shard.
        accelerator: decodes on the CPU, on an NVIDIA GPU, or on the faster of the two.
        progress: show a progress bar.

    Returns:
        `video` str, `frame` i64 from 0, `time` f64 in seconds, `shard` str, `offset` and `size` i64 in bytes.

    Raises:
        HlkitError: when the recording can't be read, or no picture of it can be decoded.
        FFmpegError: when ffmpeg fails for another reason than the recording.
    """
    rate = frame_rate(fps)
    if not 2 <= quality <= 31:
        raise HlkitError(f"The JPEG quality is {quality}. Give 2 (best) to 31.")
    count, length = _span(video, rate, 0.0, end)
    stop = length if end is None else min(end, length)
    holes = find_holes(video, end=stop)
    plan = _without_holes(dict(enumerate(plan_shards(count, rate, shard_seconds))), holes, rate)
    settings = {"video": video_id, "source": fingerprint(video), "fps": str(rate), "size": size, "quality": quality}
    _prepare(folder, settings | {"shard_seconds": shard_seconds, "frames": count})

    places = {number: find_members(folder / shard_name(number), frames) for number, frames in plan.items()}
    missing = [number for number, place in places.items() if place is None]
    kind = "cpu"
    if missing:
        (folder / "index.parquet").unlink(missing_ok=True)
        kind = choose_accelerator(video, accelerator, fps=rate, size=size)
    done = count - sum(len(plan[number]) for number in missing)
    job = Extraction(video, length, rate, size, quality, kind)
    with tqdm(total=count, initial=done, desc=video_id, unit="frame", mininterval=0.5, disable=not progress) as bar:
        for run in consecutive(missing):
            for number, place in job.write(folder, {number: plan[number] for number in run}, holes, bar):
                places[number] = place
    index = _index(video_id, rate, plan, {number: place for number, place in places.items() if place is not None})
    if index.is_empty():
        raise HlkitError(f"No picture of {video} can be decoded. It is damaged: copy or download it again.")
    with atomic_path(folder / "index.parquet") as temporary:
        index.write_parquet(temporary)
    if len(index) < count:
        warnings.warn(_lacking(video, index, count, rate), HlkitWarning, stacklevel=2)
    return index


def _without_holes(plan: dict[int, range], holes: Sequence[tuple[float, float]], fps: Fraction) -> dict[int, range]:
    """The shards that have a picture to hold, or the first one: a damaged clock may promise years."""
    kept = {
        number: frames
        for number, frames in plan.items()
        if not any(start <= frames[0] / fps and frames[-1] / fps < end for start, end in holes)
    }
    return kept or {0: plan[0]}


def _lacking(video: Path, index: pl.DataFrame, count: int, fps: Fraction) -> str:
    places = [" to ".join(format_time(time, decimals=1) for time in stretch) for stretch in gaps(index, count, fps)]
    shown = ", ".join(places[:SHOWN_GAPS]) + (" and elsewhere" if len(places) > SHOWN_GAPS else "")
    what = f"{video} can't be decoded from {shown}; these {count - len(index):,} frames are left out"
    return f"{what}. Copy or download it again to have them."


def gaps(index: pl.DataFrame, count: int, fps: str | float | Fraction) -> list[tuple[float, float]]:
    """The stretches `[start, end)` in seconds of the `count` frames of a video that its frames table does not have."""
    rate = frame_rate(fps)
    lacking = np.setdiff1d(np.arange(count), index["frame"].to_numpy()).tolist()
    return [(float(run[0] / rate), float((run[-1] + 1) / rate)) for run in consecutive(lacking)]


def stream_pictures(
    video: Path,
    *,
    fps: str | float | Fraction,
    size: int,
    start: float = 0.0,
    end: float | None = None,
    accelerator: Accelerator = "cpu",
    batch_size: int = 64,
) -> Generator[np.ndarray, None, None]:
    """Give the pictures of `video` at `start + n / fps`, `n >= 0`, before `end`, straight from ffmpeg, in batches.

    Yields:
        uint8 (n, size, size, 3), RGB; `n` is `batch_size` in all batches but the last.

    Raises:
        HlkitError: when the recording can't be read, does not reach `start`, or ends more than a second too early.
        FFmpegError: when ffmpeg fails.
    """
    rate = frame_rate(fps)
    count, length = _span(video, rate, start, end)
    kind = choose_accelerator(video, accelerator, fps=rate, size=size)
    raw = _raw_pictures(video, start, count, fps=rate, size=size, accelerator=kind)
    return _batches(_all_of(raw, count, start, rate, video=video, length=length), batch_size)


def _span(video: Path, fps: Fraction, start: float, end: float | None) -> tuple[int, float]:
    """How many pictures lie in `[start, end)`, and how long the recording says it is."""
    length = probe(video).duration
    stop = length if end is None else min(end, length)
    if not 0 <= start < stop:
        given = f"from {start:g} s to {'the end' if end is None else f'{end:g} s'}"
        raise HlkitError(f"{video} has no pictures {given}. It is {format_time(length)} long ({length:.1f} s).")
    return frame_count(Fraction(stop) - Fraction(start), fps), length


def _raw_pictures(
    video: Path, start: float, count: int, *, fps: Fraction, size: int, accelerator: Decoder
) -> Generator[np.ndarray, None, None]:
    """Up to `count` pictures, uint8 (size, size, 3); fewer when the recording ends before."""
    pictures = sampled(video, fps=fps, size=size, start=start, accelerator=accelerator)
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


def _prepare(folder: Path, settings: dict[str, Any]) -> None:
    """Make `folder` one that holds nothing but shards made with `settings`."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "extraction.json"
    try:
        agrees = json.loads(record.read_text(encoding="utf-8")) == settings
    except (FileNotFoundError, ValueError):
        agrees = False
    for leftover in folder.glob(".part-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    if agrees:
        return
    # The index goes first: without it nothing here counts as finished.
    for stale in (folder / "index.parquet", record, *folder.glob("[0-9]*.tar")):
        stale.unlink(missing_ok=True)
    write_text(record, json.dumps(settings, indent=1) + "\n")


def _index(video_id: str, fps: Fraction, plan: dict[int, range], places: dict[int, np.ndarray]) -> pl.DataFrame:
    """The places of all frames that could be had."""
    frames = np.concatenate([np.arange(part.start, part.stop) for part in plan.values()])
    offsets, sizes = np.concatenate([places[number] for number in plan]).T  # (2, frames)
    names = np.repeat([shard_name(number) for number in plan], [len(part) for part in plan.values()])
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


def frames_from_folder(folder: Path, *, fps: str | float | Fraction) -> pl.DataFrame:
    """The frames table of a plain folder of JPEGs from one video; `FrameReader(folder.parent)` reads them.

    When all names end in different numbers (`shot_00012.jpg`), frame 0 has the smallest and the others their distance
    from it, so that gaps stay gaps; else frames count up in the order of names. `time` is `frame / fps` seconds, so
    `fps` is how many numbers a second of video has. The folder's name stands in `video`.

    Raises:
        HlkitError: when there is no such folder or no JPEG in it.
    """
    folder = Path(folder).resolve()
    return _plain_frames(folder, [file for file in _jpeg_files(folder) if file.parent == folder], frame_rate(fps))


def frames_from_class_tree(folder: Path, *, fps: str | float | Fraction = 1) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The labelled frames table of a tree `folder/<class>/.../*.jpg`, and its classes; `FrameReader(folder)` reads it.

    Each class stands in `video` as if it were one recording, with numbers and times as in `frames_from_folder`. `label`
    (i8) is the place in the classes, which are in the order of names, except that `background` comes first.

    Raises:
        HlkitError: when there is no such folder, or no class in it has a JPEG.
    """
    folder = Path(folder).resolve()
    files = [file for file in _jpeg_files(folder) if file.parent != folder]
    if not files:
        raise HlkitError(f"{folder} has no JPEGs in sub-folders. Give a folder that holds one folder for each class.")
    names = {file.relative_to(folder).parts[0] for file in files}
    classes = tuple(sorted(names, key=lambda name: (name != "background", name)))
    tables = [
        _plain_frames(
            folder / name, [file for file in files if file.is_relative_to(folder / name)], frame_rate(fps)
        ).with_columns(pl.lit(label, pl.Int8).alias("label"))
        for label, name in enumerate(classes)
    ]
    return pl.concat(tables), classes


def _jpeg_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise HlkitError(f"There is no folder {folder}.")
    files = sorted(file for file in folder.rglob("[!.]*") if file.suffix.lower() in JPEG_SUFFIXES)
    if not files:
        raise HlkitError(f"{folder} holds no JPEGs ({', '.join(JPEG_SUFFIXES)}).")
    return files


def _plain_frames(folder: Path, files: list[Path], fps: Fraction) -> pl.DataFrame:
    numbers = [int(found[0]) for file in files if (found := re.findall(r"\d{1,15}$", file.stem))]
    frames = np.array(numbers) - min(numbers) if len(set(numbers)) == len(files) else np.arange(len(files))
    return pl.DataFrame(
        {
            "video": [folder.name] * len(files),
            "frame": frames,
            "time": frames * fps.denominator / fps.numerator,
            "shard": [file.relative_to(folder).as_posix() for file in files],
            "offset": [0] * len(files),
            "size": [file.stat().st_size for file in files],
        },
        schema=FRAME_SCHEMA,
    ).sort("frame")
