"""How well scores rank frames: average precision, AUROC, rates at a threshold, and intervals by the bootstrap.

Conventions and sources:

- A frame is positive where its label is above 0. Frame metrics need both classes, since they mean nothing with one.
- Average precision (AP) is the sum of (R_n - R_(n-1)) * P_n over the distinct scores from high to low, without
  interpolation, as in scikit-learn; frames of equal score enter together. (Interpolating between points of a
  precision-recall curve is too hopeful: Davis and Goadrich 2006, "The relationship between Precision-Recall and ROC
  curves".) Scores in random order, and equal scores exactly, have the share of positives as their AP: the *base rate*.
- AUROC is the area under the curve of true-positive over false-positive rate, which is the chance that a positive
  scores above a negative, ties counting half (Hanley and McNeil 1982; Fawcett 2006). A guess has 0.5 whatever the base
  rate, so AUROC looks high where highlights are rare; read it beside AP.
- A proportion of nothing is 0, as in scikit-learn: precision where nothing was predicted, recall where nothing is true.
- Intervals are percentile bootstrap intervals (Efron 1979) over whole chunks of time, since neighbouring frames are
  nearly the same frame and drawing them one by one would make every interval far too narrow (Kuensch 1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hlkit.project import HlkitError


class FrameMetrics(NamedTuple):
    """Proportions (0 to 1) of frames at one threshold."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    base_rate: float
    """Share of positives: the precision of a guess. "Never" has the accuracy 1 - base_rate."""


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Average precision of `scores` as a ranking of the positives.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), higher for likelier positives; any unit, finite.

    Returns:
        0 to 1; `base_rate(labels)` when all scores are equal.

    Raises:
        HlkitError: for shapes that differ, scores or labels that are not finite, or labels of one class only.
    """
    positive, values = check_ranking(labels, scores)
    return _ranking(positive, values)(np.ones(positive.size))


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under the ROC curve.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), higher for likelier positives; any unit, finite.

    Returns:
        0 to 1; 0.5 when all scores are equal.

    Raises:
        HlkitError: as for `average_precision`.
    """
    positive, values = check_ranking(labels, scores)
    _, level = np.unique(values, return_inverse=True)
    ours, theirs = (np.bincount(level[kind], minlength=level.max() + 1) for kind in (positive, ~positive))
    below = np.cumsum(theirs) - theirs / 2
    return float((ours * below).sum() / (ours.sum() * theirs.sum()))


def base_rate(labels: npt.ArrayLike) -> float:
    """Share of positives, 0 to 1: the AP that random scores are expected to have.

    Raises:
        HlkitError: for no labels, or some that are not finite.
    """
    positive = check_labels(labels)
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
        HlkitError: as for `average_precision`, or for a threshold that is no number.
    """
    if math.isnan(threshold):
        raise HlkitError("The threshold is no number (NaN). Give one in the unit of the scores, such as 0.5.")
    positive, values = check_ranking(labels, scores)
    predicted = values >= threshold
    shares = rates(int((positive & predicted).sum()), int(predicted.sum()), int(positive.sum()))
    return FrameMetrics(*shares, accuracy=float((positive == predicted).mean()), base_rate=base_rate(positive))


def precision_recall(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of `scores >= threshold` at each distinct score, from the highest to the lowest.

    Args:
        labels: int or bool (n,), positive above 0.
        scores: float (n,), finite.

    Returns:
        Three float64 (levels,): precision (0 to 1), recall (0 to 1, ascending) and threshold.

    Raises:
        HlkitError: as for `average_precision`.
    """
    positive, values = check_ranking(labels, scores)
    order, last_of_tie = ranked(values)
    hits = np.cumsum(positive[order])[last_of_tie]
    return hits / (last_of_tie + 1), hits / hits[-1], values[order][last_of_tie]


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


def check_share(name: str, share: float) -> None:
    """An `HlkitError` unless `share` is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise HlkitError(f"{name}={share} is not allowed; give a share above 0 and at most 1, such as 0.5.")


def rates(matched: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 from counts, with 0 for a proportion of nothing."""
    return matched / max(predicted, 1), matched / max(true, 1), 2 * matched / max(predicted + true, 1)


def check_labels(labels: npt.ArrayLike) -> np.ndarray:
    """Which labels are positive (above 0), bool of their shape, or an `HlkitError` where one is missing."""
    values = np.asarray(labels)
    if values.dtype == object or not np.isfinite(values).all():
        raise HlkitError("Some labels are missing or infinite. Leave out the frames that nobody looked at.")
    return values > 0


def check_length(rows: int, scores: npt.ArrayLike) -> np.ndarray:
    """`scores` as float64 (rows,), or an `HlkitError` for another length."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (rows,):
        raise HlkitError(f"Labels {(rows,)} and scores {values.shape} must be two rows of one length.")
    return values


def check_scores(rows: int, scores: npt.ArrayLike) -> np.ndarray:
    """`scores` as float64 (rows,), or an `HlkitError` for another length or values that are not finite."""
    values = check_length(rows, scores)
    if not np.isfinite(values).all():
        raise HlkitError("Some scores are missing or infinite. Score the video again, or leave those frames out.")
    return values


def check_ranking(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (n,) and scores as float64 (n,), or an `HlkitError` as for `average_precision`."""
    positive = check_labels(labels)
    if positive.ndim != 1:
        raise HlkitError(f"Labels {positive.shape} and scores must be two rows of one length.")
    values = check_scores(positive.size, scores)
    if positive.all() or not positive.any():
        kind = "highlights" if positive.any() else "background"
        raise HlkitError(
            f"All {positive.size} frames are {kind}, so there is nothing to tell apart. Measure on video with both."
        )
    return positive, values


def ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of scores (n,) from high to low, int (n,), and the places in it that end a run of equal scores."""
    order = np.argsort(-values, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)


def _ranking(positive: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function from weights (n,) to the AP of the weighted frames; sorts once for the many draws of a bootstrap."""
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)

    def measure(weight: np.ndarray) -> float:
        count = weight[order]
        hits = np.cumsum(count * positive[order])[last_of_tie]
        precision = hits / np.maximum(np.cumsum(count)[last_of_tie], 1)
        return float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])

    return measure


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
    checked = [check_ranking(labels, signal) for signal in signals]
    positive = checked[0][0]
    _, chunk = np.unique(np.asarray(chunks), return_inverse=True)
    count = int(chunk.max(initial=-1)) + 1
    if chunk.shape != positive.shape or count < 2 or not 0 < level < 1:
        raise HlkitError(
            f"No interval from {count} chunk(s) for {chunk.size} of {positive.size} frames at level {level}: "
            "it needs a chunk for every frame, two chunks or more, and a level between 0 and 1. Measure on more video."
        )
    if resamples < 2:
        raise HlkitError(f"resamples is {resamples}; an interval needs 2 draws or more, such as 1000.")
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)  # (draw, chunk)
    holds = np.stack([np.bincount(chunk[kind], minlength=count) for kind in (positive, ~positive)], axis=1)
    kept = draws[(draws @ holds > 0).all(axis=1)]
    if len(kept) < 2:
        raise HlkitError("Too few draws of chunks hold both classes for an interval. Measure on more labelled video.")
    found = [np.array([measure(draw[chunk]) for draw in kept]) for measure in (_ranking(*pair) for pair in checked)]
    return np.quantile(found[0] - (found[1] if len(found) > 1 else 0), [(1 - level) / 2, (1 + level) / 2])
