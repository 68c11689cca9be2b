"""Sheets of stored frames for the page: many small pictures in one JPEG, so that one message brings a whole strip.

A sheet of *level* `k` has every `2**k`-th frame; its number `b` those from `b * CELLS * 2**k` on. The page asks for the
levels and numbers that it shows, and keeps what it got, so passing over a six-hour stream needs a few sheets.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from hlkit.project import HlkitError
from hlkit.shards import FrameReader

CELLS, COLUMNS = 32, 8
# Enough to know a scene by, at 2 to 4 KB a picture.
CELL_HEIGHT = 90
JPEG_QUALITY = 72
# Of a picture that is damaged.
BLANK = (128, 128, 128)


class Pictures:
    """The stored frames of one video as sheets.

    Args:
        root: the folder of frame stores.
        index: the frames table of one video.
        aspect: width by height of what the frames show; they are stored as squares.
    """

    def __init__(self, root: Path, index: pl.DataFrame, *, aspect: float) -> None:
        self._index = index.sort("time")
        self._reader = FrameReader(root)
        self.times = self._index.get_column("time").to_numpy()
        self.cell = (max(1, round(CELL_HEIGHT * min(max(aspect, 0.2), 5.0))), CELL_HEIGHT)

    def rows(self, level: int, number: int) -> list[int]:
        """Which frames, by their place in the table, a sheet has; none when it lies behind the end."""
        step = 2 ** min(max(level, 0), 30)
        first = max(number, 0) * CELLS * step
        return list(range(first, min(first + CELLS * step, len(self._index)), step))

    def sheet(self, level: int, number: int) -> bytes:
        """A JPEG of `COLUMNS` pictures a line, in order; a picture that is damaged is grey.

        Raises:
            HlkitError: when the sheet lies behind the end.
        """
        from PIL import Image

        rows = self.rows(level, number)
        if not rows:
            raise HlkitError(f"There is no sheet {number} of level {level}: the video has {len(self._index)} frames.")
        width, height = self.cell
        sheet = Image.new("RGB", (width * COLUMNS, height * -(-len(rows) // COLUMNS)), BLANK)
        places = self._index[rows].select("video", "shard", "offset", "size").rows()
        for cell, place in enumerate(places):
            try:
                with Image.open(io.BytesIO(self._reader.read(*place))) as picture:
                    small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            except (HlkitError, OSError):
                continue  # grey says it; `hlkit frames` tells which
            sheet.paste(small, (cell % COLUMNS * width, cell // COLUMNS * height))
        target = io.BytesIO()
        sheet.save(target, "JPEG", quality=JPEG_QUALITY)
        return target.getvalue()
