"""The cuts: which stretches of a recording go into the reel, to the picture. Nothing here touches a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import polars as pl

from hlkit.labels import TIME_TOLERANCE
from hlkit.project import HlkitError, format_time, write_text
from hlkit.video import VideoInfo, frame_count

# Recorded rates are averages over a length that the container rounds; these are the ones that cameras and games use.
STANDARD_RATES = tuple(Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 100, 120))
STANDARD_RATES += tuple(rate * Fraction(1000, 1001) for rate in STANDARD_RATES)
# Less than half of what lies between 23.976 and 24.
RATE_TOLERANCE = Fraction(4, 10_000)
MAX_RATE = Fraction(240)

# Labels that were made from a longer copy, or rounded up to whole seconds, say nothing wrong.
BEYOND_SECONDS = 1.0


@dataclass(frozen=True)
class Cut:
    """A stretch `[start, end)` of a recording, in seconds from its start, and the `score` it was picked for, if any.

    Raises:
        HlkitError: unless 0 <= start < end, both finite.
    """

    start: float
    end: float
    score: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end < math.inf:
            raise HlkitError(f"A cut from {self.start} to {self.end} s can't be. Give 0 <= start < end.")

    def __str__(self) -> str:
        return f"{format_time(self.start, decimals=3)} to {format_time(self.end, decimals=3)}"


@dataclass(frozen=True)
class Piece:
    """A file with a stretch of a recording: its own time 0 is the recording's time `offset`, in seconds."""

    info: VideoInfo
    offset: float = 0.0


def picture_count(cut: Cut, rate: Fraction) -> int:
    """How many pictures show a cut."""
    return round((Fraction(cut.end) - Fraction(cut.start)) * rate)


def reel_rate(info: VideoInfo) -> Fraction:
    """Pictures a second of the reel: constant, and the recording's own rate, freed of rounding."""
    nearest = min(STANDARD_RATES, key=lambda rate: abs(rate / info.fps - 1))
    if abs(nearest / info.fps - 1) < RATE_TOLERANCE:
        return nearest
    return min(info.fps.limit_denominator(1000), MAX_RATE)


def plan_cuts(highlights: pl.DataFrame, info: VideoInfo) -> tuple[Cut, ...]:
    """The cuts that show `highlights`: the source pictures whose times lie in them, in order, none of them twice.

    Args:
        highlights: spans of one video: `start`, `end` in seconds; a `score` column is carried along.
        info: what the recording is.

    Returns:
        Cuts inside the recording, sorted and disjoint, that begin and end on picture borders. Highlights that overlap
        or touch become one, with the higher score; one that shows no picture is left out.

    Raises:
        HlkitError: when a highlight ends before it starts, or they are of several videos.
    """
    if "video" in highlights.columns and highlights["video"].n_unique() > 1:
        raise HlkitError("The highlights are of several videos. Make one reel for each.")
    rate = reel_rate(info)
    last = frame_count(info.duration, rate)
    scores = highlights["score"] if "score" in highlights.columns else [None] * len(highlights)
    runs: list[tuple[int, int, float | None]] = []
    spans = zip(highlights["start"], highlights["end"], scores, strict=True)
    for start, end, score in sorted(spans, key=lambda span: span[:2]):
        if not start < end:
            raise HlkitError(f"A highlight goes from {start} to {end} s. Its end must come after its start.")
        # A label file rounds times to a microsecond: a picture that a span begins with must not fall out of it.
        first, stop = (min(max(0, math.ceil((time - TIME_TOLERANCE) * rate)), last) for time in (start, end))
        if first >= stop:
            continue
        if runs and first <= runs[-1][1]:
            known = [each for each in (runs[-1][2], score) if each is not None]
            runs[-1] = (runs[-1][0], max(stop, runs[-1][1]), max(known, default=None))
        else:
            runs.append((first, stop, score))
    return tuple(Cut(float(first / rate), float(stop / rate), score) for first, stop, score in runs)


def count_beyond(highlights: pl.DataFrame, info: VideoInfo) -> int:
    """How many of `highlights` end later than the recording does, by more than rounding makes it look."""
    return int((highlights["end"] > info.duration + BEYOND_SECONDS).sum())


def mean_score(scores: pl.DataFrame, start: float, end: float) -> float | None:
    """The mean of the column `score` over the times `[start, end)` of a score table; None where it has none."""
    inside = scores.filter(pl.col("time").is_between(start, end, closed="left"))["score"].cast(pl.Float64).mean()
    return inside if isinstance(inside, float) and math.isfinite(inside) else None


def merge_overlapping(pieces: Sequence[Piece], cuts: Sequence[Cut], rate: Fraction) -> tuple[list[Piece], list[Cut]]:
    """Make one of each two neighbours out of the same piece where the second begins inside the first or at its end."""
    merged: list[tuple[Piece, Cut]] = []
    for piece, cut in zip(pieces, cuts, strict=True):
        if merged and merged[-1][0] == piece:
            last = merged[-1][1]
            if last.start <= cut.start < last.end + 0.5 / rate:
                known = [each for each in (last.score, cut.score) if each is not None]
                merged[-1] = piece, Cut(last.start, max(last.end, cut.end), max(known, default=None))
                continue
        merged.append((piece, cut))
    return [piece for piece, _ in merged], [cut for _, cut in merged]


def write_cut_list(cuts: Sequence[Cut], target: Path) -> None:
    """Write the cuts as CSV: `start`, `end` as h:mm:ss.sss of the recording, and `score` (may be empty)."""
    times = ((format_time(cut.start, decimals=3), format_time(cut.end, decimals=3), cut.score) for cut in cuts)
    rows = [f"{start},{end},{'' if score is None else f'{score:.4f}'}\n" for start, end, score in times]
    write_text(target, "".join(["start,end,score\n", *rows]))
