"""Frame stores of a few tiny pictures, made with tarfile and Pillow alone, for the tests of what learns from them.

A highlight shows a red field on noise, background a blue one; every picture's noise is its own.
"""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

COLOURS = [(40, 40, 200), (200, 40, 40), (40, 200, 40)]


def make_frames(
    root: Path,
    video: str,
    labels: Sequence[int],
    *,
    fps: float = 3,
    size: int = 32,
    missing: Sequence[int] = (),
    seed: int = 0,
) -> pl.DataFrame:
    """Store a picture for each label in `root / video / 00000.tar`; returns the labelled frame table.

    Frame numbers in `missing` are left out, so that the video has gaps.
    """
    rng = np.random.default_rng(seed)
    (root / video).mkdir(parents=True)
    rows = []
    with tarfile.open(root / video / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for frame, label in enumerate(labels):
            if frame in missing:
                continue
            member = tarfile.TarInfo(f"{frame:08d}.jpg")
            jpeg = encode(draw(label, size, rng))
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
            offset = tar.offset - (member.size + 511) // 512 * 512
            rows.append((video, frame, frame / fps, "00000.tar", offset, member.size, label))
    names = ["video", "frame", "time", "shard", "offset", "size", "label"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("label").cast(pl.Int8))


def draw(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture, uint8 (size, size, 3)."""
    picture = rng.integers(0, 256, (size, size, 3))
    picture[size // 4 : size * 3 // 4, size // 4 : size * 3 // 4] = COLOURS[label]
    return picture.astype(np.uint8)


def encode(picture: np.ndarray) -> bytes:
    """A JPEG of a picture."""
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG", quality=95)
    return target.getvalue()


def with_parts(frames: pl.DataFrame, share: float = 0.7) -> pl.DataFrame:
    """Put the first `share` of each video in the training part and the rest in validation."""
    place = pl.int_range(pl.len()).over("video") / pl.len().over("video")
    part = pl.when(place < share).then(pl.lit("train")).otherwise(pl.lit("validation"))
    return frames.with_columns(part.alias("part"))
