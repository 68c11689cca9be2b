"""How good scores and highlights are, always beside what a guess would reach.

Conventions and sources:

- A frame is positive where its label is above 0. Frame metrics need both classes, since they mean nothing with one.
- Average precision (AP) is the sum of (R_n - R_(n-1)) * P_n over the distinct scores from high to low, without
  interpolation, as in scikit-learn; frames of equal score enter together. (Interpolating between points of a
  precision-recall curve is too hopeful: Davis and Goadrich 2006, "The relationship between Precision-Recall and ROC
  curves".) Scores in random order, and equal scores exactly, have the share of positives as their AP: the *base rate*.
- A proportion of nothing is 0, as in scikit-learn: precision where nothing was predicted, recall where nothing is true.
- Temporal intersection over union (tIoU) of two spans is the length of what they share over the length of what they
  cover together. Predicted and true spans are matched one to one, the pair of highest tIoU first, as in the detection
  task of THUMOS and ActivityNet (Heilbron and others 2015).
- An event is *found* when highlights cover at least half of it (or another share). That is what a viewer asks of a
  reel, whether the moment is in it, and unlike tIoU it does not punish a cut with some lead-in.
- Intervals are percentile bootstrap intervals (Efron 1979) over whole chunks of time, since neighbouring frames are
  nearly the same frame and drawing them one by one would make every interval far too narrow (Kuensch 1989).

Spans are matched within a video and whatever their label; filter the tables to judge one class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.labels import TIME_TOLERANCE, merge_spans
from hlkit.project import HlkitError
from hlkit.split import assign_chunks
from hlkit.timeline import add_intensity

RANDOM = "random"
"""The scorecard's name for a signal that knows nothing."""


class FrameMetrics(NamedTuple):
    """Proportions (0 to 1) of frames at one threshold."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    base_rate: float
    """Share of positives: the precision of a guess. "Never" has the accuracy 1 - base_rate."""


class EventScores(NamedTuple):
    """Proportions (0 to 1) of spans at one tIoU."""

    precision: float
    recall: float
    f1: float


class EventsHit(NamedTuple):
    """How many true events a reel shows."""

    hit: int
    total: int


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Average precision of `scores` as a ranking of the positives.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), higher for likelier positives; any unit, finite.

    Returns:
        0 to 1; `base_rate(labels)` when all scores are equal.

    Raises:
        HlkitError: for shapes that differ, scores that are not finite, or labels of one class only.
    """
    positive, values = _checked(labels, scores)
    return _ranking(positive, values)(np.ones(positive.size))


def base_rate(labels: npt.ArrayLike) -> float:
    """Share of positives, 0 to 1: the AP that random scores are expected to have.

    Raises:
        HlkitError: for no labels.
    """
    positive = np.asarray(labels) > 0
    if not positive.size:
        raise HlkitError("There are no labelled frames to measure on. Label a video first.")
    return float(positive.mean())


def frame_metrics(labels: npt.ArrayLike, scores: npt.ArrayLike, *, threshold: float = 0.5) -> FrameMetrics:
    """Precision, recall, F1 and accuracy of `scores >= threshold`, beside the base rate.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), finite.
        threshold: in the unit of `scores`.

    Raises:
        HlkitError: as for `average_precision`.
    """
    positive, values = _checked(labels, scores)
    predicted = values >= threshold
    rates = _rates(int((positive & predicted).sum()), int(predicted.sum()), int(positive.sum()))
    return FrameMetrics(*rates, accuracy=float((positive == predicted).mean()), base_rate=base_rate(positive))


def event_scores(predicted: pl.DataFrame, true: pl.DataFrame, *, tiou: float = 0.5) -> EventScores:
    """Precision, recall and F1 of predicted spans, each matched with at most one true span of a tIoU of `tiou` or more.

    Args:
        predicted: span table.
        true: span table.
        tiou: above 0 and at most 1.
    """
    _check_share("tiou", tiou)
    matched = sum(_count_matches(*spans, tiou) for spans in _by_video(predicted, true))
    return EventScores(*_rates(matched, predicted.height, true.height))


def events_hit(predicted: pl.DataFrame, true: pl.DataFrame, *, share: float = 0.5) -> EventsHit:
    """How many true spans are covered by predicted spans, together, for at least `share` of their length.

    Args:
        predicted: span table; spans may overlap.
        true: span table.
        share: above 0 and at most 1.

    Example: of the true spans [0, 10) and [20, 30), the prediction [5, 22) finds the first alone: `(1, 2)`.
    """
    _check_share("share", share)
    union = merge_spans(predicted.with_columns(label=pl.lit("")))
    found = 0
    for ours, theirs in _by_video(union, true):
        seconds = _shared_seconds(ours, theirs).sum(axis=0)  # (true,)
        found += int((seconds >= share * (theirs[:, 1] - theirs[:, 0]) - TIME_TOLERANCE).sum())
    return EventsHit(found, true.height)


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The chance that a positive frame outscores a negative one, equal scores counting half: 0 to 1, 0.5 for random.

    The area under the receiver operating characteristic, as the Mann-Whitney statistic (Hanley and McNeil 1982).

    Raises:
        HlkitError: as for `average_precision`.
    """
    positive, values = _checked(labels, scores)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    hits = int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (positive.size - hits)))


def top_frames(scores: npt.ArrayLike, count: int) -> np.ndarray:
    """The `count` best-scored frames, bool (n,); of equal scores the earlier one."""
    values = np.asarray(scores, dtype=np.float64)
    chosen = np.zeros(values.size, dtype=bool)
    chosen[np.argsort(-values, kind="stable")[: max(0, count)]] = True
    return chosen


def events_in_top_seconds(
    frames: pl.DataFrame, scores: npt.ArrayLike, true: pl.DataFrame, *, seconds: float | None = None, share: float = 0.5
) -> EventsHit:
    """How many events a reel shows that is made of the best-scored frames of all videos together.

    Args:
        frames: `video`, `time` (s) and `label`, a row a frame at one rate.
        scores: float (rows,), finite.
        true: span table of the events.
        seconds: length of the reel; as long as the true highlights unless given.
        share: the part of an event that must be in the reel, above 0 and at most 1.

    Returns:
        Events with at least `share` of their frames in the reel, of all events that have a frame.
    """
    _check_share("share", share)
    positive, values = _checked(frames["label"], scores)
    step = float(frames.sort("video", "time").select(pl.col("time").diff().over("video").median()).item())
    chosen = top_frames(values, int(positive.sum()) if seconds is None else round(seconds / step))
    hit = total = 0
    for video, start, end in true.select("video", "start", "end").iter_rows():
        inside = frames.select(
            (pl.col("video") == video)
            & (pl.col("time") >= start - TIME_TOLERANCE)
            & (pl.col("time") < end - TIME_TOLERANCE)
        )
        rows = inside.to_series().to_numpy()
        total += bool(rows.any())
        hit += bool(rows.any() and chosen[rows].mean() >= share)
    return EventsHit(hit, total)


def precision_at(labels: npt.ArrayLike, scores: npt.ArrayLike, count: int) -> float:
    """The share of highlights among the `count` best-scored frames, 0 to 1: the precision of a reel of that length."""
    positive, values = _checked(labels, scores)
    if not 0 < count <= positive.size:
        raise HlkitError(
            f"The reel is to have {count} of {positive.size} frames; give at least 1 and no more than all."
        )
    return float(positive[top_frames(values, count)].mean())


def hit_at(peaks: npt.ArrayLike, true: npt.ArrayLike, k: int, *, tolerance_seconds: float = 5.0) -> float:
    """hit@k: the share of the `k` first peaks that lie in a true event, or within some seconds of one.

    Args:
        peaks: float (n,), seconds, best first; when there are fewer than `k`, those that lack count as misses.
        true: float (events, 2), start and end in seconds.
        k: how many to look at, 1 or more.
        tolerance_seconds: 5 by the convention of "hit within 5 s", 0 for inside only.
    """
    if k < 1 or tolerance_seconds < 0:
        raise HlkitError(f"k is {k} and the tolerance {tolerance_seconds} s; give at least 1 and 0.")
    times = np.asarray(peaks, dtype=np.float64).reshape(-1, 1)[:k]
    spans = np.asarray(true, dtype=np.float64).reshape(-1, 2)
    near = (times >= spans[:, 0] - tolerance_seconds) & (times <= spans[:, 1] + tolerance_seconds)  # (k, events)
    return float(near.any(axis=1).sum() / k)


def threshold_for_precision(labels: npt.ArrayLike, scores: npt.ArrayLike, precision: float) -> float:
    """The lowest threshold from which on `scores >= threshold` has at least the wanted precision.

    Args:
        labels: int or bool (n,); of frames that the scores were not learned from.
        scores: float (n,).
        precision: above 0 and at most 1.

    Raises:
        HlkitError: when no threshold reaches it; names the best that one does.
    """
    _check_share("precision", precision)
    positive, values = _checked(labels, scores)
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    reached = np.cumsum(positive[order])[last_of_tie] / (last_of_tie + 1)
    good = np.flatnonzero(reached >= precision)
    if not good.size:
        raise HlkitError(
            f"No threshold has a precision of {precision:g}; the best has {reached.max():.2f}. Ask for less, or label "
            "more video and train again."
        )
    return float(values[order][last_of_tie[good[-1]]])


def bootstrap_interval(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    chunks: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which the AP lies, had other chunks of the same kind of stream been measured.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), finite.
        chunks: int (n,), the chunk of each frame; chunks are drawn whole, with replacement.
        level: share of resamples inside the interval, between 0 and 1.
        resamples: how often to draw; a draw of one class only has no AP and is left out.
        seed: the same seed gives the same interval.

    Returns:
        (low, high), each 0 to 1.

    Raises:
        HlkitError: as for `average_precision`, for fewer than two chunks, or for fewer than two resamples with an AP.
    """
    low, high = _bootstrap(labels, [scores], chunks, level=level, resamples=resamples, seed=seed)
    return low, high


def difference_interval(
    labels: npt.ArrayLike,
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    chunks: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of the AP of `ours` less that of `theirs`, both judged on the same draws of chunks.

    Arguments and errors are as for `bootstrap_interval`. An interval that leaves out 0 is a difference that other
    chunks of the same kind of stream would show too.
    """
    low, high = _bootstrap(labels, [ours, theirs], chunks, level=level, resamples=resamples, seed=seed)
    return low, high


def _bootstrap(
    labels: npt.ArrayLike,
    signals: Sequence[npt.ArrayLike],
    chunks: npt.ArrayLike,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """The bounds (2,) of the first signal's AP, less the second one's where there are two, over draws of chunks."""
    checked = [_checked(labels, signal) for signal in signals]
    positive = checked[0][0]
    _, chunk = np.unique(np.asarray(chunks), return_inverse=True)
    count = int(chunk.max()) + 1
    if chunk.shape != positive.shape or count < 2 or not 0 < level < 1:
        raise HlkitError(
            f"No interval from {count} chunk(s) for {chunk.size} of {positive.size} frames at level {level}: "
            "it needs a chunk for every frame, two chunks or more, and a level between 0 and 1. Measure on more video."
        )
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)  # (draw, chunk)
    holds = np.stack([np.bincount(chunk[kind], minlength=count) for kind in (positive, ~positive)], axis=1)
    kept = draws[(draws @ holds > 0).all(axis=1)]
    if len(kept) < 2:
        raise HlkitError("Too few draws of chunks hold both classes for an interval. Measure on more labelled video.")
    found = [np.array([measure(draw[chunk]) for draw in kept]) for measure in (_ranking(*pair) for pair in checked)]
    return np.quantile(found[0] - (found[1] if len(found) > 1 else 0), [(1 - level) / 2, (1 + level) / 2])


def scorecard(
    frames: pl.DataFrame,
    signals: Mapping[str, npt.ArrayLike],
    *,
    window_seconds: float = 5.0,
    chunk_seconds: float = 30.0,
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge signals against the labels, beside a random one.

    Args:
        frames: columns `video`, `time` (seconds) and `label`; the frames to judge on, none of which has trained.
        signals: name -> float (rows of `frames`,), higher for likelier highlights. One with a value missing (NaN) can't
            be ranked and gets a row of nulls.
        window_seconds: of the centred mean that smooths a signal, see `hlkit.timeline.add_intensity`.
        chunk_seconds: of the blocks that the bootstrap draws.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One row a signal, in the order given, and last "random": `name` str; `ap` f64, of the signal as it is;
        `ap_smoothed` f64; `low` and `high` f64, the 95 % interval of `ap_smoothed`; `auroc` f64, of the signal as it
        is; `precision` f64, of its best-scored frames, as many as are true. All are 0 to 1. The random row is the base
        rate, with the interval that the draw of chunks gives it.

    Raises:
        HlkitError: for a signal of another length, labels of one class only, or fewer than two chunks.
    """
    labels = frames.get_column("label").to_numpy()
    chunks = assign_chunks(frames, chunk_seconds=chunk_seconds).get_column("chunk").to_numpy()
    rows = []
    for name, signal in {**signals, RANDOM: np.zeros(frames.height)}.items():
        raw = np.asarray(signal, dtype=np.float64)
        if raw.shape == labels.shape and np.isnan(raw).any():
            rows.append((name, *[None] * 6))
            continue
        ap = average_precision(labels, raw)
        table = frames.select("video", "time").with_columns(pl.Series("score", raw))
        smooth = add_intensity(table, window_seconds=window_seconds).get_column("intensity").to_numpy()
        interval = bootstrap_interval(labels, smooth, chunks, resamples=resamples, seed=seed)
        # The random row's figures are those expected of a guess, which equal scores do not all have.
        ranked = (
            auroc(labels, raw),
            base_rate(labels) if name == RANDOM else precision_at(labels, raw, int((labels > 0).sum())),
        )
        rows.append((name, ap, average_precision(labels, smooth), *interval, *ranked))
    columns = ("ap", "ap_smoothed", "low", "high", "auroc", "precision")
    columns = {"name": pl.String} | dict.fromkeys(columns, pl.Float64)
    return pl.DataFrame(rows, schema=columns, orient="row")


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise HlkitError(f"{name}={share} is not allowed; give a share above 0 and at most 1, such as 0.5.")


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """bool (n,) and float64 (n,), or an error."""
    positive, values = np.asarray(labels) > 0, np.asarray(scores, dtype=np.float64)
    if positive.shape != values.shape or positive.ndim != 1:
        raise HlkitError(f"Labels {positive.shape} and scores {values.shape} must be two rows of one length.")
    if not np.isfinite(values).all():
        raise HlkitError("Some scores are missing or infinite. Score the video again, or leave those frames out.")
    if positive.all() or not positive.any():
        kind = "highlights" if positive.any() else "background"
        raise HlkitError(
            f"All {positive.size} frames are {kind}, so there is nothing to tell apart. Measure on video with both."
        )
    return positive, values


def _ranking(positive: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function from weights (n,) to the AP of the weighted frames; sorts once for the many draws of a bootstrap."""
    order = np.argsort(-values, kind="stable")
    ranked = positive[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)

    def measure(weight: np.ndarray) -> float:
        count = weight[order]
        hits = np.cumsum(count * ranked)[last_of_tie]
        precision = hits / np.maximum(np.cumsum(count)[last_of_tie], 1)
        return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])

    return measure


def _rates(matched: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 from counts, with 0 for a proportion of nothing."""
    return matched / max(predicted, 1), matched / max(true, 1), 2 * matched / max(predicted + true, 1)


def _by_video(predicted: pl.DataFrame, true: pl.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Starts and ends (spans, 2) of both tables, for each video that has true spans."""
    videos = true.get_column("video").unique(maintain_order=True)
    tables = [[table.filter(pl.col("video") == video) for table in (predicted, true)] for video in videos]
    return [
        (ours.select("start", "end").to_numpy(), theirs.select("start", "end").to_numpy()) for ours, theirs in tables
    ]


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
