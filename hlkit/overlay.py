"""Text on the reel's pictures: the score, changing with every time step of the score table, and titles.

Text is drawn with Pillow and laid over by ffmpeg's `overlay`, which every build of ffmpeg has; `drawtext` and the
subtitle filters are missing from some.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.project import HlkitError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

# Readable on a phone, and clear of the game's own display in the upper left corner of most games.
TEXT_HEIGHT = 0.06
MARGIN = 0.02


@dataclass(frozen=True)
class ScoreTexts:
    """What is shown when: `texts[i]` from `times[i]` (s, ascending) until the next, at most one `step` long."""

    times: tuple[float, ...]
    texts: tuple[str, ...]
    step: float

    def at(self, time: float) -> str:
        """The text on screen at `time`; empty where the table has a gap."""
        number = int(np.searchsorted(self.times, time + self.step / 1000, side="right")) - 1
        return self.texts[number] if number >= 0 and time < self.times[number] + 1.5 * self.step else ""

    def grid(self, start: float, end: float) -> tuple[float, list[str]]:
        """The texts from the last step not after `start` to `end`, and when the first begins, counted from `start`."""
        first = math.floor((start - self.times[0]) / self.step + 1e-6)
        last = math.ceil((end - self.times[0]) / self.step)
        begins = [self.times[0] + number * self.step for number in range(first, max(first, last) + 1)]
        return begins[0] - start, [self.at(begin) for begin in begins]


def score_texts(scores: pl.DataFrame) -> ScoreTexts:
    """The texts for a score table of one video: `0.87`, or `kill 0.87` for the likeliest of several classes.

    Raises:
        HlkitError: when the table is empty, is of several videos, or has no score column.
    """
    if not len(scores) or ("video" in scores.columns and scores["video"].n_unique() > 1):
        raise HlkitError("The score overlay needs the score table of this one video. Run `hlkit infer` first.")
    names = [name for name in scores.columns if name == "score" or name.startswith("score_")]
    if not names or "time" not in scores.columns:
        raise HlkitError(f"The score table has the columns {', '.join(scores.columns)}; it needs time and score.")
    scores = scores.sort("time")
    times = scores["time"].to_numpy()
    values = scores.select(names).to_numpy()
    best = values.argmax(axis=1)
    classes = [name.removeprefix("score").removeprefix("_") for name in names]
    texts = [f"{classes[k]} {row[k]:.2f}".strip() for k, row in zip(best, values, strict=True)]
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    if not step > 0:
        raise HlkitError("The score table has the same time twice. Run `hlkit infer --redo`.")
    return ScoreTexts(tuple(times.tolist()), tuple(texts), step)


def frame_rate_of(texts: ScoreTexts) -> Fraction:
    """Texts a second."""
    return (1 / Fraction(texts.step)).limit_denominator(100_000)


def write_pictures(target: Path, texts: list[str], video_height: int) -> tuple[int, int]:
    """Write one raw RGBA picture a text to `target`, all of one even size; returns width and height in pixels."""
    pictures = draw_texts(sorted(set(texts)), video_height)
    with target.open("wb") as file:
        for text in texts:
            file.write(pictures[text].tobytes())
    height, width, _ = next(iter(pictures.values())).shape
    return width, height


def draw_texts(texts: list[str], video_height: int) -> dict[str, np.ndarray]:
    """White text on a dark box for each text, uint8 RGBA (height, width, 4), of one even size; "" is see-through."""
    font = _font(_size(video_height))
    width = max(font.getlength(text) for text in texts)
    return {text: _draw(text, font, width) for text in texts}


def write_title(target: Path, text: str, video_height: int, room: int) -> tuple[int, int]:
    """Write `text` as a raw RGBA picture, drawn as scores are; returns its width and height in pixels, both even.

    Where it would be wider than `room` pixels it is made smaller, to half at the least, and then cut short.
    """
    size = _size(video_height)
    while _box_width(text, _font(size)) > room and size > max(10, _size(video_height) // 2):
        size -= 1
    font, shown = _font(size), text
    while _box_width(shown, font) > room and len(shown) > 1:
        shown = f"{shown[:-2].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    picture = _draw(shown, font, font.getlength(shown))
    target.write_bytes(picture.tobytes())
    height, width, _ = picture.shape
    return width, height


def _size(video_height: int) -> int:
    return max(10, round(video_height * TEXT_HEIGHT))


def _font(size: int) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    # Matplotlib brings this font along, so no font needs to be installed.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"), size)


def _box_width(text: str, font: FreeTypeFont) -> int:
    width = math.ceil(font.getlength(text)) + 2 * _pad(font)
    return width + width % 2


def _pad(font: FreeTypeFont) -> int:
    return max(2, int(font.size) // 4)


def _draw(text: str, font: FreeTypeFont, text_width: float) -> np.ndarray:
    from PIL import Image, ImageDraw

    size, pad = int(font.size), _pad(font)
    width = math.ceil(text_width) + 2 * pad
    width, height = width + width % 2, size + 2 * pad + size % 2
    picture = Image.new("RGBA", (width, height), (0, 0, 0, 160 if text else 0))
    ImageDraw.Draw(picture).text((pad, height // 2), text, font=font, fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(picture)
