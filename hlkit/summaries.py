"""How well importance scores agree with people who summarise: the conventions of video summarisation.

- *Rank agreement* (Otani and others 2019, "Rethinking the evaluation of video summaries"): Kendall's tau-b and
  Spearman's rho between predicted and annotated importance of the same frames. Papers differ in what they compare with,
  and their numbers are no match for each other: the mean over annotators taken one by one (`"pairwise"`, as in that
  paper, where people reach 0.177 and 0.204 on TVSum) or the mean annotation (`"mean"`, where they reach 0.314 and
  0.396).
- *HIT@1 and segment mAP* (Lei and others 2021, "QVHighlights"): the video is cut into clips of two seconds. HIT@1 asks
  whether the best-scored clip was rated very good; the mAP is the average precision of the ranking of clips, where the
  clips rated very good are the positives, averaged over annotators.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hlkit.metrics import average_precision
from hlkit.project import HlkitError

Convention = Literal["pairwise", "mean"]

VERY_GOOD = 4
"""The rating from which on QVHighlights takes a clip for a highlight, on its scale from 0 to 4."""


class RankAgreement(NamedTuple):
    """Correlations of ranks, -1 to 1; not a number where one side ranks all frames alike."""

    kendall: float
    spearman: float


def rank_agreement(
    scores: npt.ArrayLike, annotations: npt.ArrayLike, *, convention: Convention = "pairwise"
) -> RankAgreement:
    """How far predicted importance ranks frames as annotators do.

    Args:
        scores: float (n,), of two frames or more.
        annotations: float (annotators, n).
        convention: "pairwise" averages over annotators; "mean" compares with their mean annotation. See the module.

    Raises:
        HlkitError: for shapes that do not fit, missing values, or another convention.
    """
    predicted, true = _checked(scores, annotations)
    if convention not in ("pairwise", "mean"):
        raise HlkitError(f"convention is '{convention}'; 'pairwise' and 'mean' are allowed.")
    rows = true if convention == "pairwise" else true.mean(axis=0, keepdims=True)
    return RankAgreement(*np.mean([_correlations(predicted, row) for row in rows], axis=0).tolist())


def human_agreement(annotations: npt.ArrayLike, *, convention: Convention = "pairwise") -> RankAgreement:
    """What each annotator reaches when judged by the others, on average: the figure to hold a model's against.

    Args:
        annotations: float (annotators, n), of two annotators or more.
        convention: as for `rank_agreement`.
    """
    table = np.asarray(annotations, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise HlkitError(f"Annotations of shape {table.shape}; give two annotators or more, a row each.")
    found = [
        rank_agreement(row, np.delete(table, index, axis=0), convention=convention) for index, row in enumerate(table)
    ]
    return RankAgreement(*np.mean(found, axis=0).tolist())


def hit_at_1(scores: npt.ArrayLike, ratings: npt.ArrayLike, *, very_good: float = VERY_GOOD) -> float:
    """The share of annotators who rated the best-scored clip `very_good` or better; the first of equals is the best.

    Args:
        scores: float (clips,).
        ratings: float (annotators, clips).
        very_good: in the ratings' unit.
    """
    predicted, true = _checked(scores, ratings)
    return float((true[:, int(predicted.argmax())] >= very_good).mean())


def segment_map(scores: npt.ArrayLike, ratings: npt.ArrayLike, *, very_good: float = VERY_GOOD) -> float:
    """The average precision of the ranking of clips, averaged over the annotators who rated some clip very good.

    Args:
        scores, ratings, very_good: as for `hit_at_1`.

    Raises:
        HlkitError: when every annotator rated all clips alike.
    """
    predicted, true = _checked(scores, ratings)
    positive = true >= very_good
    found = [average_precision(row, predicted) for row in positive if row.any() and not row.all()]
    if not found:
        raise HlkitError(f"No annotator rated some clips {very_good:g} or better and others not, so there is no mAP.")
    return float(np.mean(found))


def clip_scores(scores: npt.ArrayLike, *, frames_per_clip: int) -> np.ndarray:
    """The mean score of each clip of so many frames, float64 (clips,); the last clip may be shorter."""
    values = np.asarray(scores, dtype=np.float64)
    starts = np.arange(0, len(values), frames_per_clip)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def _checked(scores: npt.ArrayLike, annotations: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = np.asarray(scores, dtype=np.float64), np.asarray(annotations, dtype=np.float64)
    if predicted.ndim != 1 or true.ndim != 2 or true.shape[1] != len(predicted) or len(predicted) < 2 or not len(true):
        raise HlkitError(
            f"Scores {predicted.shape} and annotations {true.shape} do not fit: give (n,) and (annotators, n), n >= 2."
        )
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise HlkitError("Some scores or annotations are missing or infinite; leave those frames out.")
    return predicted, true


def _correlations(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    from scipy.stats import kendalltau, rankdata, spearmanr

    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return float("nan"), float("nan")
    kendall, _ = np.asarray(kendalltau(rankdata(predicted), rankdata(true)))
    spearman, _ = np.asarray(spearmanr(predicted, true))
    return float(kendall), float(spearman)
