"""How many events are found: picked spans against true ones, picks in order of their score, the top-scored seconds.

Conventions and sources:

- An *event* is a true span, a *pick* a predicted one. They are matched within a video and whatever their label; filter
  the tables to judge one class. A proportion of nothing is 0.
- Temporal intersection over union (tIoU) of two spans is the length of what they share over the length of what they
  cover together. Picks and events are matched one to one, the pair of highest tIoU first, as in the detection task of
  THUMOS and ActivityNet (Heilbron and others 2015).
- An event is *found* when highlights cover at least half of it (or another share). That is what a viewer asks of a
  reel, whether the moment is in it, and unlike tIoU it does not punish a cut with some lead-in.
- *Hit within 5 s* is action spotting (Giancola and others 2018, "SoccerNet"): a pick is one moment, its peak if it has
  one and else its centre, and hits an event at most `tolerance_seconds` away. SoccerNet's events are moments too; ours
  have a length, and a moment inside one is at distance 0. SoccerNet's tolerance is the whole width of its window, so
  our 5 s are its 10. One pick hits one event, and as many pairs as possible are made (a maximum matching, as for onsets
  in mir_eval: Raffel and others 2014), so the count does not depend on an order.
- *hit@k* counts how many of the `k` best-scored picks of each video hit an event in the same sense. A second pick for
  the same event is no hit, as in Pascal VOC (Everingham and others 2010). It is precision at k, not QVHighlights'
  HIT@1, which `hlkit.summaries` has.
- The *top-scored seconds* are a reel of a fixed length without any rule of picking: rows are taken from the highest
  score down until the time is full. Each row stands for the time to the next row of its video, at most one step (the
  median distance). Rows of equal score that don't all fit are taken in part, each to the same share, so that the order
  of rows never matters and a constant score has the base rate as its precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.labels import SPAN_SCHEMA, TIME_TOLERANCE, merge_spans
from hlkit.project import HlkitError
from hlkit.rankings import check_scores, check_share, rates

SPOT_SECONDS = 5.0
"""How far from an event a pick may be to hit it, unless told: the tightest of SoccerNet's first tolerances."""


class EventScores(NamedTuple):
    """Proportions (0 to 1) of spans."""

    precision: float
    recall: float
    f1: float


class EventsHit(NamedTuple):
    """How many true events a reel shows."""

    hit: int
    total: int


class PicksHit(NamedTuple):
    """How many of the best picks hit an event."""

    hit: int
    total: int
    """How many were judged: `k` a video, fewer where there are fewer picks."""


def event_scores(predicted: pl.DataFrame, true: pl.DataFrame, *, tiou: float = 0.5) -> EventScores:
    """Precision, recall and F1 of predicted spans, each matched with at most one true span of a tIoU of `tiou` or more.

    Args:
        predicted: span table.
        true: span table.
        tiou: above 0 and at most 1.
    """
    check_share("tiou", tiou)
    matched = sum(_count_matches(_edges(ours), _edges(theirs), tiou) for ours, theirs in _by_video(predicted, true))
    return EventScores(*rates(matched, predicted.height, true.height))


def spotting_scores(
    predicted: pl.DataFrame, true: pl.DataFrame, *, tolerance_seconds: float = SPOT_SECONDS
) -> EventScores:
    """Precision, recall and F1 of picks as moments, each at most `tolerance_seconds` from the one event that it hits.

    Args:
        predicted: span table; a pick's moment is its `peak` (seconds) where it has one, see `add_peaks`, else its
            centre.
        true: span table.
        tolerance_seconds: 0 or more; 0 asks for a moment inside the event.
    """
    matched = sum(_spotted(*pair, tolerance_seconds) for pair in _by_video(predicted, true))
    return EventScores(*rates(matched, predicted.height, true.height))


def hit_at_k(
    predicted: pl.DataFrame, true: pl.DataFrame, *, k: int, tolerance_seconds: float = SPOT_SECONDS
) -> PicksHit:
    """How many of the `k` best-scored picks of each video hit an event, each event counting once.

    Args:
        predicted: span table with `score` (any unit, higher is better), and perhaps `peak`, see `add_peaks`. Of equal
            scores the earlier pick comes first; picks without one come last.
        true: span table.
        k: 1 or more.
        tolerance_seconds: as for `spotting_scores`.

    Raises:
        HlkitError: for picks without `score`, or a `k` that is no whole number from 1.
    """
    if k < 1 or k != int(k) or "score" not in predicted.columns:
        raise HlkitError(
            f"The best {k} picks can't be told from the columns {', '.join(predicted.columns)}; give a whole k from 1, "
            "and picks with a 'score' (`add_peaks` adds it)."
        )
    ranked = predicted.with_columns(pl.col("score").cast(pl.Float64).fill_nan(None))
    ranked = ranked.sort("score", "start", descending=[True, False], nulls_last=True)
    best = ranked.group_by("video", maintain_order=True).head(k)
    return PicksHit(sum(_spotted(*pair, tolerance_seconds) for pair in _by_video(best, true)), best.height)


def add_peaks(spans: pl.DataFrame, timeline: pl.DataFrame, *, column: str = "intensity") -> pl.DataFrame:
    """Add to each span where `column` is highest in it: `peak` (f64, s) and `score` (f64, the value there).

    Args:
        spans: span table.
        timeline: columns `video`, `time` (seconds) and `column`; missing values are passed over.
        column: any unit; of equal values the earliest is the peak.

    Returns:
        `spans` in its order; both are null for a span that holds no value.
    """
    values = timeline.select("video", pl.col("time").cast(pl.Float64), score=pl.col(column).cast(pl.Float64))
    values = values.filter(pl.col("score").is_not_nan()).sort("time")
    peaks: list[tuple[float | None, float | None]] = []
    parts = {video: part for (video,), part in values.group_by("video", maintain_order=True)}
    for video, start, end in spans.select("video", "start", "end").iter_rows():
        part = parts.get(video, values.clear())
        times = part.get_column("time").to_numpy()
        first, stop = np.searchsorted(times, np.array([start, end]) - TIME_TOLERANCE)
        inside = part.get_column("score").to_numpy()[first:stop]
        best = int(inside.argmax()) if inside.size else None
        peaks.append((None, None) if best is None else (float(times[first + best]), float(inside[best])))
    return spans.with_columns(
        pl.Series(name, [peak[place] for peak in peaks], dtype=pl.Float64)
        for place, name in enumerate(["peak", "score"])
    )


def events_hit(predicted: pl.DataFrame, true: pl.DataFrame, *, share: float = 0.5) -> EventsHit:
    """How many true spans are covered by predicted spans, together, for at least `share` of their length.

    Args:
        predicted: span table; spans may overlap.
        true: span table.
        share: above 0 and at most 1.

    Example: of the true spans [0, 10) and [20, 30), the prediction [5, 22) finds the first alone: `(1, 2)`.
    """
    check_share("share", share)
    union = merge_spans(predicted.with_columns(label=pl.lit("")))
    found = 0
    for ours, theirs in _by_video(union, true):
        edges = _edges(theirs)
        seconds = _shared_seconds(_edges(ours), edges).sum(axis=0)  # (true,)
        found += int((seconds >= share * (edges[:, 1] - edges[:, 0]) - TIME_TOLERANCE).sum())
    return EventsHit(found, true.height)


def top_seconds(frames: pl.DataFrame, scores: npt.ArrayLike, *, seconds: float) -> np.ndarray:
    """The best-scored rows that fill `seconds`, as a share (0 to 1) of each row's time, over all videos together.

    Args:
        frames: columns `video` and `time` (seconds).
        scores: float (rows,), finite.
        seconds: above 0; all of the time when there is less.

    Returns:
        float64 (rows,): 1 above some score, 0 below it, and between for rows of exactly that score.

    Raises:
        HlkitError: for scores of another length or not finite, or for `seconds` that can't be.
    """
    if not 0 < seconds < np.inf:
        raise HlkitError(f"A reel of {seconds} s is not possible; give a length above 0, such as 60.")
    values = check_scores(frames.height, scores)
    level, place = np.unique(-values, return_inverse=True)
    lasts = np.bincount(place, weights=row_seconds(frames), minlength=level.size)
    left = seconds - (np.cumsum(lasts) - lasts)
    return np.clip(np.divide(left, lasts, out=np.zeros_like(lasts), where=lasts > 0), 0, 1)[place]


def precision_at_seconds(frames: pl.DataFrame, scores: npt.ArrayLike, *, seconds: float) -> float:
    """Precision at a fixed length of reel: how much of the top-scored `seconds` is highlight, 0 to 1.

    Args:
        frames: columns `video`, `time` (seconds) and `label` (positive above 0).
        scores: float (rows,), finite.
        seconds: above 0.

    Raises:
        HlkitError: as for `top_seconds`.
    """
    taken = top_seconds(frames, scores, seconds=seconds) * row_seconds(frames)
    positive = frames.get_column("label").to_numpy() > 0
    return float(taken[positive].sum() / taken.sum()) if taken.any() else 0.0


def events_in_top_seconds(
    frames: pl.DataFrame, scores: npt.ArrayLike, true: pl.DataFrame, *, seconds: float | None = None, share: float = 0.5
) -> EventsHit:
    """How many events the top-scored seconds cover for at least `share` of their length.

    Args:
        frames: columns `video` and `time` (seconds).
        scores: float (rows,), finite.
        true: span table.
        seconds: length of the reel; as long as all true spans together unless given.
        share: above 0 and at most 1.

    Raises:
        HlkitError: as for `top_seconds`, and for a share out of range.
    """
    check_share("share", share)
    if not true.height:
        return EventsHit(0, 0)
    taken = top_seconds(frames, scores, seconds=total_seconds(true) if seconds is None else seconds)
    table = frames.select("video", start=pl.col("time").cast(pl.Float64)).with_columns(
        end=pl.col("start") + row_seconds(frames), taken=taken
    )
    found = 0
    for ours, theirs in _by_video(table.sort("start"), true):
        rows, kept = _edges(ours), ours.get_column("taken").to_numpy()
        for start, end in _edges(theirs):
            first, last = np.searchsorted(rows[:, 1], [start, end])
            near = slice(first, last + 1)
            shared = np.minimum(rows[near, 1], end) - np.maximum(rows[near, 0], start)
            found += bool((np.maximum(shared, 0) * kept[near]).sum() >= share * (end - start) - TIME_TOLERANCE)
    return EventsHit(found, true.height)


def row_seconds(frames: pl.DataFrame) -> np.ndarray:
    """The time (float64, s) that each row stands for: to the next row of its video, at most one step of the video.

    Args:
        frames: columns `video` and `time` (seconds), in any order. A step is the median distance between rows; a video
            of one row has none, and its row stands for no time.
    """
    table = frames.select("video", time=pl.col("time").cast(pl.Float64)).with_row_index("row").sort("video", "time")
    gap = pl.col("time").diff().shift(-1).over("video")
    step = pl.col("gap").filter(pl.col("gap") > TIME_TOLERANCE).median().over("video")
    table = table.with_columns(gap=gap).with_columns(step=step.fill_null(0.0))
    return table.sort("row").select(pl.min_horizontal("gap", "step")).to_series().to_numpy()


def total_seconds(spans: pl.DataFrame) -> float:
    """Seconds that spans cover, what overlaps once."""
    merged = merge_spans(spans.with_columns(label=pl.lit("")))
    return float((merged.get_column("end") - merged.get_column("start")).sum())


def spans_of(frames: pl.DataFrame) -> pl.DataFrame:
    """The stretches of labelled frames as a span table: neighbours of a label above 0 make one event.

    Args:
        frames: columns `video`, `time` (seconds) and `label`. Events that touch can't be told apart in it; where the
            label file is at hand, use its spans.
    """
    table = frames.select("video", "label", start=pl.col("time").cast(pl.Float64))
    table = table.with_columns(end=pl.col("start") + row_seconds(frames)).filter(pl.col("label") > 0)
    spans = table.with_columns(label=pl.lit("")).filter(pl.col("start") < pl.col("end")).select(SPAN_SCHEMA.names())
    steps = _edges(spans) @ [-1, 1]
    # Times that jitter leave slits; a missing frame is a whole step.
    return merge_spans(spans, gap_seconds=float(np.median(steps)) / 2 if steps.size else 0.0)


def _by_video(predicted: pl.DataFrame, true: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The rows of both tables, for each video that has true spans."""
    for video in true.get_column("video").unique(maintain_order=True):
        yield predicted.filter(pl.col("video") == video), true.filter(pl.col("video") == video)


def _edges(spans: pl.DataFrame) -> np.ndarray:
    """Starts and ends, float64 (spans, 2)."""
    return spans.select("start", "end").to_numpy()


def _shared_seconds(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Seconds (ours, theirs) that each pair of spans shares."""
    start = np.maximum(ours[:, None, 0], theirs[None, :, 0])
    end = np.minimum(ours[:, None, 1], theirs[None, :, 1])
    return np.maximum(end - start, 0)


def _count_matches(ours: np.ndarray, theirs: np.ndarray, tiou: float) -> int:
    """How many pairs a greedy one-to-one matching makes, highest tIoU first."""
    shared = _shared_seconds(ours, theirs)
    lengths = (ours[:, 1] - ours[:, 0])[:, None] + (theirs[:, 1] - theirs[:, 0])[None, :]
    overlap = shared / (lengths - shared)  # (ours, theirs)
    matches = 0
    # Half of a span whose times are like 0.1 * k may come out a rounding error below 0.5.
    while overlap.size and overlap.max() >= tiou * (1 - 1e-9):
        best = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[best[0], :] = overlap[:, best[1]] = 0
        matches += 1
    return matches


def _spotted(predicted: pl.DataFrame, true: pl.DataFrame, tolerance_seconds: float) -> int:
    """How many picks of one video can hit an event each, no event twice.

    Giving each moment, in order of time, the free event that ends first makes as many pairs as can be made (Glover
    1967, "Maximum matching in a convex bipartite graph").
    """
    if not 0 <= tolerance_seconds < np.inf:
        raise HlkitError(f"tolerance_seconds={tolerance_seconds} is not allowed; give 0 or more seconds, such as 5.")
    reach = tolerance_seconds + TIME_TOLERANCE
    centre = (pl.col("start") + pl.col("end")) / 2
    moment = pl.coalesce("peak", centre) if "peak" in predicted.columns else centre
    events = sorted(((start - reach, end + reach) for start, end in _edges(true).tolist()), reverse=True)
    waiting: list[float] = []
    hits = 0
    for time in predicted.select(moment.alias("moment")).to_series().sort():
        while events and events[-1][0] <= time:
            heappush(waiting, events.pop()[1])
        while waiting and waiting[0] < time:
            heappop(waiting)
        if waiting:
            heappop(waiting)
            hits += 1
    return hits
