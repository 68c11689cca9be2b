"""Sorted pictures as a frame store: what was never a video, in the form that training reads.

Each picture becomes a frame of a store like those of `hlkit.frames`, one after another at a rate that is only nominal,
so that chunks of time are chunks of pictures that stood beside each other.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import polars as pl
from tqdm.auto import tqdm

from hlkit.frames import FRAME_SCHEMA
from hlkit.labels import SPAN_SCHEMA
from hlkit.project import HlkitError, atomic_path, write_text
from hlkit.shards import plan_shards, shard_name, write_shard
from hlkit.video import frame_rate

SHARD_SECONDS = 600
JPEG_QUALITY = 95


def store_pictures(
    pictures: pl.DataFrame, folder: Path, *, video_id: str, size: int = 128, fps: str = "1", progress: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shrink pictures and store them in `folder` as the frames of a video that never was.

    Args:
        pictures: `path` and `label`, see `hlkit.picture_folders`; any sizes and formats that Pillow reads.
        folder: `<root>/<video_id>`, for shards, `index.parquet` and `extraction.json`.
        video_id: goes into the column `video`.
        size: width and height in pixels; a picture is squashed to a square, as a recording's are.
        fps: the rate at which a model that learns from them will look at videos.
        progress: show a progress bar.

    Returns:
        The index, a frames table, in the order of label and path; and the labels, a span table of runs of one label.

    Raises:
        HlkitError: for no pictures, or one that can't be read.
    """
    if pictures.is_empty():
        raise HlkitError("There are no pictures to store. Give a folder or a list that holds some.")
    pictures, rate, folder = pictures.sort("label", "path"), frame_rate(fps), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.parquet").unlink(missing_ok=True)
    parts, rows = plan_shards(len(pictures), rate, SHARD_SECONDS), []
    with tqdm(total=len(pictures), desc=video_id, unit="picture", mininterval=0.5, disable=not progress) as bar:
        for number, part in enumerate(parts):
            paths = pictures["path"][part.start : part.stop]
            places = write_shard(folder / shard_name(number), part, _jpegs(paths, size, bar))
            for frame, (offset, length) in zip(part, places.tolist(), strict=True):
                rows.append((video_id, frame, float(frame / rate), shard_name(number), offset, length))
    index = pl.DataFrame(rows, schema=FRAME_SCHEMA, orient="row")
    made = {"video": video_id, "fps": str(rate), "size": size, "frames": len(index)}
    write_text(folder / "extraction.json", json.dumps(made, indent=1) + "\n")
    with atomic_path(folder / "index.parquet") as temporary:
        index.write_parquet(temporary)
    spans = []
    for label, group in groupby(enumerate(pictures["label"]), key=lambda pair: pair[1]):
        numbers = [number for number, _ in group]
        spans.append((video_id, float(numbers[0] / rate), float((numbers[-1] + 1) / rate), label))
    return index, pl.DataFrame(spans, schema=SPAN_SCHEMA, orient="row")


def _jpegs(paths: pl.Series, size: int, bar: tqdm) -> Iterator[bytes]:
    from PIL import Image, ImageOps

    for path in paths:
        try:
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise HlkitError(f"{path} is no picture that can be read ({error}). Take it out.") from error
        content = io.BytesIO()
        picture.resize((size, size), Image.Resampling.BICUBIC).save(content, "JPEG", quality=JPEG_QUALITY)
        yield content.getvalue()
        bar.update()
