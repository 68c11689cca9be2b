"""What a recording shows and sounds like, small enough to be compared with every moment of another recording.

A picture's print are its grey levels at 16 x 16, each of 16 tiles on its own scale, without what all pictures of the
stream share (a game's status bar). So brightness, contrast and sharpness don't count, and a title spoils only the tiles
that it covers. The dot product of two prints is 1 for the same picture and about 0 for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError
from hlkit.sampling import sampled
from hlkit.shards import FrameReader
from hlkit.video import frame_count, frame_rate, open_ffmpeg, probe

# The pictures that are compared in detail; JPEGs of 128 px give this size without being decoded in full.
SIDE = 32
PRINT_SIDE, TILE = 16, 4
# A tile with less contrast than this (grey levels, standard deviation) holds the encoder's noise and little else.
TILE_NOISE = 2.0


def decode_pictures(
    video: Path,
    *,
    rate: float | Fraction,
    start: float = 0.0,
    end: float | None = None,
    desc: str = "pictures",
    progress: bool = True,
) -> np.ndarray:
    """The pictures on screen at `start + i / rate` s, uint8 (n, SIDE, SIDE), up to `end` or the recording's own."""
    return np.concatenate(
        list(_blocks(video, frame_rate(rate), start, end, desc, progress)) or [np.zeros((0, SIDE, SIDE), np.uint8)]
    )


def _blocks(
    video: Path, rate: Fraction, start: float, end: float | None, desc: str, progress: bool
) -> Iterator[np.ndarray]:
    length = probe(video).duration
    count = frame_count(max(0.0, min(length, length if end is None else end) - start), rate)
    stream = sampled(video, fps=rate, size=SIDE, start=start, decoding="fast")
    left, area = count, SIDE * SIDE
    bar = tqdm(total=count, desc=desc, unit="picture", mininterval=0.5, disable=not progress)
    with bar, open_ffmpeg(stream.output("pipe:", format="rawvideo", pix_fmt="gray")) as process:
        assert process.stdout is not None
        while left and (data := process.stdout.read(area * min(left, 256))):
            block = np.frombuffer(data[: len(data) // area * area], np.uint8).reshape(-1, SIDE, SIDE)
            left -= len(block)
            bar.update(len(block))
            yield block


def stored_pictures(frames: pl.DataFrame, root: Path, *, progress: bool = True) -> np.ndarray:
    """The stored pictures of a frames table, in its order, as `decode_pictures` gives them.

    Raises:
        HlkitError: for a damaged shard or picture.
    """
    from PIL import Image

    reader = FrameReader(root)
    pictures = np.zeros((frames.height, SIDE, SIDE), dtype=np.uint8)
    rows = frames.select("video", "shard", "offset", "size").iter_rows()
    for number, row in enumerate(tqdm(rows, "stored frames", frames.height, mininterval=0.5, disable=not progress)):
        try:
            picture = Image.open(BytesIO(reader.read(*row)))
            picture.draft("L", (SIDE, SIDE))
            pictures[number] = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
        except OSError as error:
            place = f"{row[0]}/{row[1]} at byte {row[2]}"
            raise HlkitError(f"A frame in {place} can't be decoded ({error}). Run `hlkit frames --redo`.") from error
    return pictures


def relief(pictures: np.ndarray, side: int = PRINT_SIDE) -> np.ndarray:
    """Grey levels less their tile's mean, f32 (n, tiles, pixels), of pictures (n, SIDE, SIDE)."""
    step, tiles = SIDE // side, side // TILE
    small = pictures.reshape(-1, side, step, side, step).mean(axis=(2, 4), dtype=np.float32)
    parts = small.reshape(-1, tiles, TILE, tiles, TILE).transpose(0, 1, 3, 2, 4).reshape(len(small), tiles**2, TILE**2)
    return parts - parts.mean(axis=2, keepdims=True)


def tile_prints(pictures: np.ndarray) -> np.ndarray:
    """Each tile of `relief` on its own scale, f32 (n, PRINT_SIDE ** 2); in blocks, so that memory stays small."""
    prints = np.zeros((len(pictures), PRINT_SIDE**2), dtype=np.float32)
    for first in range(0, len(pictures), 4096):
        parts = relief(pictures[first : first + 4096])
        parts /= np.sqrt((parts**2).sum(axis=2, keepdims=True) + TILE**2 * TILE_NOISE**2)
        prints[first : first + len(parts)] = parts.reshape(len(parts), -1)
    return prints


def unit_prints(prints: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """The prints without what is `shared`, at length 1; an empty picture has a print of zeros."""
    rest = prints - shared
    return rest / np.maximum(np.sqrt((rest**2).sum(axis=1, keepdims=True)), 0.5)
