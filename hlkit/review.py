"""What to look at next: the stretches of a recording from which a model would learn the most.

A model that has seen little is wrong in three ways. What it takes for a highlight is one, or a confident mistake. Where
it wavers, an answer moves its border ("uncertainty sampling", Lewis and Gale 1994, "A sequential algorithm for training
text classifiers"). And of what is like nothing that was looked at it knows nothing (the greedy choice of Sener and
Savarese 2018, "Active learning for convolutional neural networks: a core-set approach").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import polars as pl

from hlkit.labels import SPAN_SCHEMA, TIME_TOLERANCE, merge_spans
from hlkit.project import HlkitError
from hlkit.timeline import smooth

Reason = Literal["likely", "uncertain", "new"]

# A highlight with what leads to it: long enough to judge, short beside a stream.
SPAN_SECONDS = 10.0
# What is left over between spans that were looked at, and shorter than this, is too little to judge by.
SHORTEST_SECONDS = 2.0

QUEUE_SCHEMA = pl.Schema(
    {"video": pl.String, "start": pl.Float64, "end": pl.Float64, "reason": pl.String, "score": pl.Float32}
)


def review_queue(
    scores: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    limit: int = 10,
    span_seconds: float = SPAN_SECONDS,
    features: np.ndarray | None = None,
    reasons: Sequence[Reason] = get_args(Reason),
) -> pl.DataFrame:
    """The spans to look at next, the most telling first; none of them was looked at before.

    Args:
        scores: `video`, `time` (s) and `score` (0 to 1), in any order.
        labels: what was looked at, columns of `hlkit.labels.SPAN_SCHEMA`; `background` spans are what was rejected.
        limit: spans at most, 1 or more.
        span_seconds: their length, 2 or more. Between spans that were looked at, and at the ends of a recording, they
            may be shorter, but not below 2 s, or longer by what would be left over.
        features: float (rows, width), what is heard and seen at each row of `scores`; without them nothing is "new".
        reasons: what to look for, in turns.

    Returns:
        `video` str, `start` and `end` f64 (s, half-open), `reason` str ("likely", "uncertain" or "new") and `score`
        f32, the mean of the scores inside. No two spans overlap each other or `labels`; fewer than `limit` are left
        when nearly all was looked at.

    Raises:
        HlkitError: for a limit, a length or a reason that can't be, features of other rows, or unknown scores.
    """
    if limit < 1 or not SHORTEST_SECONDS <= span_seconds < math.inf:
        raise HlkitError(
            f"limit is {limit} and span_seconds {span_seconds}; give 1 span or more, of {SHORTEST_SECONDS:g} s or more."
        )
    if not reasons or set(reasons) - set(get_args(Reason)):
        raise HlkitError(f"reasons are {list(reasons)}; allowed are {', '.join(get_args(Reason))}, one at least.")
    if features is not None and len(features) != len(scores):
        raise HlkitError(f"There are features of {len(features):,} rows for {len(scores):,} scores. Give a row each.")
    frames = scores.with_row_index("row").sort("video", "time")
    if frames["score"].is_null().any() or not frames["score"].cast(pl.Float64).is_finite().all():
        raise HlkitError("Some scores are unknown. Score the whole recording first (`hlkit infer`).")
    places = _Places(frames, labels, span_seconds)
    novelty = None
    if features is not None:
        novelty = _Novelty(
            np.asarray(features, dtype=np.float32)[frames["row"].to_numpy()], frames, places, span_seconds
        )
    asked = [reason for reason in reasons if reason != "new" or novelty is not None]
    rows: list[tuple[str, float, float, str, float]] = []
    while asked and len(rows) < limit and places.free.any():
        reason = asked[len(rows) % len(asked)]
        if reason == "new" and novelty is not None:
            values = novelty.distances
        else:
            chance = places.chance()
            values = chance if reason == "likely" else -np.abs(chance - 0.5)
        inside = places.take(int(np.where(places.free, values, -np.inf).argmax()))
        rows.append((*places.taken[-1], reason, float(places.scores[inside].mean())))
        if novelty is not None:
            novelty.look_at(inside)
    return pl.DataFrame(rows, schema=QUEUE_SCHEMA, orient="row")


class _Places:
    """Which rows may still be chosen, and the stretches that they lie in.

    Attributes:
        free: bool (rows,).
        taken: what was chosen, `(video, start, end)`.
        scores: float (rows,).
    """

    def __init__(self, frames: pl.DataFrame, labels: pl.DataFrame, seconds: float) -> None:
        self.seconds = seconds
        self.frames = frames
        self.videos, self.times = frames["video"].to_numpy(), frames["time"].to_numpy()
        self.scores = frames["score"].to_numpy()
        self.taken: list[tuple[str, float, float]] = []
        looked = merge_spans(labels.select(SPAN_SCHEMA.names()).with_columns(label=pl.lit("")))
        self.stretches: list[tuple[str, float, float]] = []
        for (video,), part in frames.group_by("video", maintain_order=True):
            # The last picture stays as long as the one before it.
            times = part["time"].to_numpy()
            at, end = float(times[0]), float(times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1.0))
            for _, start, stop, _ in looked.filter(pl.col("video") == video).iter_rows():
                self._keep(str(video), at, min(start, end))
                at = max(at, stop)
            self._keep(str(video), at, end)
        self.free = np.zeros(len(frames), dtype=bool)
        for stretch in self.stretches:
            self.free[self._rows(stretch)] = True

    def chance(self) -> np.ndarray:
        """The mean score of what is free within half a span of each row."""
        free = np.where(self.free, self.scores, np.nan)
        return smooth(free[:, None], self.frames, self.seconds)[:, 0]

    def take(self, row: int) -> slice:
        """Choose the span around a free row, and return the rows inside."""
        video, time = self.videos[row], self.times[row]
        stretch = next(each for each in self.stretches if row in range(*self._rows(each).indices(len(self.times))))
        _, first, last = stretch
        start = max(first, min(time - self.seconds / 2, last - self.seconds))
        end = min(last, start + self.seconds)
        # What would be left too short to judge goes along.
        start = first if start - first < SHORTEST_SECONDS else start
        end = last if last - end < SHORTEST_SECONDS else end
        self.stretches.remove(stretch)
        self._keep(video, first, start)
        self._keep(video, end, last)
        self.taken.append((str(video), float(start), float(end)))
        inside = self._rows(self.taken[-1])
        self.free[inside] = False
        return inside

    def _keep(self, video: str, start: float, end: float) -> None:
        if end - start >= SHORTEST_SECONDS - TIME_TOLERANCE:
            self.stretches.append((video, start, end))

    def _rows(self, stretch: tuple[str, float, float]) -> slice:
        """The rows of a stretch; they follow each other."""
        video, start, end = stretch
        first, stop = np.searchsorted(self.videos, video), np.searchsorted(self.videos, video, side="right")
        inside = np.searchsorted(self.times[first:stop] + TIME_TOLERANCE, [start, end])
        return slice(int(first + inside[0]), int(first + inside[1]))


class _Novelty:
    """How far each row is from all that was looked at, in what was heard and seen around it.

    Attributes:
        distances: float32 (rows,).
    """

    def __init__(self, features: np.ndarray, frames: pl.DataFrame, places: _Places, seconds: float) -> None:
        self.features = _standardised(smooth(features, frames, seconds))
        self.seconds, self.times = seconds, places.times
        self.distances = np.linalg.norm(self.features, axis=1)  # from what is usual, before anything was looked at
        if not places.free.all():
            self.distances[:] = np.inf
            self.look_at(np.flatnonzero(~places.free))

    def look_at(self, rows: slice | np.ndarray) -> None:
        """Take in what was looked at; one moment in each half a span stands for it."""
        blocks = np.unique(self.times[rows] // (self.seconds / 2), return_index=True)[1]
        for seen in self.features[rows][blocks]:
            np.minimum(self.distances, np.linalg.norm(self.features - seen, axis=1), out=self.distances)


def _standardised(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(0)) / (features.std(0) + 1e-6)
