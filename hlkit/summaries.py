"""How other fields judge importance: rank correlation with several annotators, and QVHighlights' mAP and HIT@1.

Conventions and sources:

- *Rank correlation* of importance scores (Otani, Nakashima, Rahtu and Heikkila 2019, "Rethinking the evaluation of
  video summaries", CVPR): Kendall's tau-b, which corrects for ties, and Spearman's rho, which gives ties their mean
  rank.
- There are two ways to compare with several annotators, and the figures of one can't stand beside those of the other:
  **"each"** takes the correlation with every annotator and averages (Otani and others 2019, whose people agree with
  each other at tau 0.177 and rho 0.204 on TVSum); **"mean"** takes the correlation with the mean of the annotators'
  scores, which is smoother and gives figures nearly twice as high (0.314 and 0.396 for the same people). Papers after
  2019 use both, and not all say which: MSVA's figures (Ghauri, Hakimov and Ewerth 2021) are found again with the mean
  alone (https://github.com/TIBHannover/MSVA/issues/5).
- *Human* figures leave one out: an annotator is compared with the others, never with a mean that holds their own
  scores, which would lift it. A video's figure is the mean over its annotators, a data set's the mean over its videos.
- TVSum's annotators gave one score to each two seconds, repeated for every frame. Otani and others rank all frames;
  every 15th frame (about half a second) gives the same figures to the third decimal in a fraction of the time.
- Scores that are all equal have no order, and tau and rho are 0/0. A *prediction* like that counts as 0, what a guess
  is expected to have; an *annotator* like that is left out, with an `HlkitWarning`.
- *QVHighlights* (Lei, Berg and Bansal 2021, "QVHighlights: Detecting moments and highlights in videos via natural
  language queries", NeurIPS): a video is cut into clips of 2 s, a shorter rest is dropped; three annotators rate each
  clip 0 (very bad, or outside what was asked for) to 4 (very good); a clip is positive for an annotator at or above a
  minimum, in the headline figures 4. *mAP* is the mean over annotators, then videos, of the AP of the clips' scores;
  AP is interpolated here (the best precision at the same or a higher recall), averaged over the distinct recalls, 0
  where no clip is positive and 1 where all are, unlike `hlkit.rankings.average_precision`. *HIT@1* is the share of
  videos whose best-scored clip (the first of equals) is positive for at least one annotator. So in the authors'
  program, `standalone_eval/eval.py` of https://github.com/jayleicn/moment_detr, which gives percent; proportions here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.labels import TIME_TOLERANCE
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import check_labels, check_scores, ranked

Against = Literal["each", "mean"]

CLIP_SECONDS = 2.0
"""A clip of QVHighlights."""

VERY_GOOD = 4
"""The rating from which a clip is positive in QVHighlights' headline figures; 3 is "good", 2 is "fair"."""


class RankCorrelation(NamedTuple):
    """From -1 (the reverse order) to 1 (the same order); 0 is what a guess is expected to have."""

    kendall: float
    """tau-b."""
    spearman: float
    """rho."""


class HighlightDetection(NamedTuple):
    """Proportions (0 to 1)."""

    mean_average_precision: float
    hit_at_one: float


def rank_correlation(
    importance: npt.ArrayLike, annotators: npt.ArrayLike, *, against: Against = "each"
) -> RankCorrelation:
    """How far the order of predicted importance agrees with annotators.

    Args:
        importance: float (n,), higher for more important frames or clips; any unit, finite.
        annotators: float (annotators, n), finite.
        against: "each" averages over annotators; "mean" compares with their mean. Say which when you report it.

    Raises:
        HlkitError: for shapes that don't fit, values that are not finite, fewer than two frames, annotators none of
            whom prefers any frame, or another `against`.
    """
    _check_against(against)
    scores = _check_people(annotators)
    values = np.asarray(importance, dtype=np.float64)
    if values.shape != (scores.shape[1],) or not np.isfinite(values).all():
        raise HlkitError(
            f"Importance {values.shape} must be {scores.shape[1]} finite numbers, one for each score of an annotator. "
            "Sample both at the same times."
        )
    if against == "mean":
        return _correlate(values, scores.mean(axis=0))
    return _average([_correlate(values, person) for person in scores])


def human_correlation(annotators: npt.ArrayLike, *, against: Against = "each") -> RankCorrelation:
    """How far annotators agree with each other, each left out in turn: what a prediction can be measured by.

    Args:
        annotators: float (annotators, n), two annotators or more.
        against: "each" averages over all pairs; "mean" compares each with the mean of the others.

    Raises:
        HlkitError: as for `rank_correlation`, or for fewer than two annotators who prefer any frame.
    """
    _check_against(against)
    scores = _check_people(annotators)
    if len(scores) < 2:
        raise HlkitError(f"{len(scores)} annotator can't agree with another. Give the scores of two or more.")
    if against == "mean":
        # A mean of the rest, and not the sum less one's own: rounding would break ties.
        return _average([_correlate(own, np.delete(scores, one, 0).mean(axis=0)) for one, own in enumerate(scores)])
    return _average([_correlate(one, other) for place, one in enumerate(scores) for other in scores[:place]])


def clip_scores(
    scores: pl.DataFrame, *, duration: float, clip_seconds: float = CLIP_SECONDS, column: str = "score"
) -> np.ndarray:
    """The mean score of each clip of one video: what `highlight_detection` judges.

    Args:
        scores: columns `time` (seconds) and `column`, of one video.
        duration: seconds of the video.
        clip_seconds: above 0.
        column: any unit.

    Returns:
        float64 (clips,), for the whole clips in `duration`.

    Raises:
        HlkitError: for a duration that is no number or without a whole clip, or a clip without a score.
    """
    possible = math.isfinite(duration) and 0 < clip_seconds < math.inf
    count = math.floor((duration + TIME_TOLERANCE) / clip_seconds) if possible else 0
    if count < 1:
        raise HlkitError(f"{duration} s hold no whole clip of {clip_seconds} s. Give a longer video or shorter clips.")
    clip = ((pl.col("time").cast(pl.Float64) + TIME_TOLERANCE) / clip_seconds).floor().cast(pl.Int64)
    means = scores.group_by(clip.alias("clip")).agg(pl.col(column).cast(pl.Float64).fill_nan(None).mean())
    found = pl.DataFrame({"clip": range(count)}).join(means, on="clip", how="left").sort("clip").get_column(column)
    if empty := found.null_count():
        raise HlkitError(f"{empty} of {count} clips of {clip_seconds:g} s have no score. Score the whole video.")
    return found.to_numpy()


def highlight_detection(
    predicted: Mapping[str, npt.ArrayLike], ratings: Mapping[str, npt.ArrayLike], *, minimum: float = VERY_GOOD
) -> HighlightDetection:
    """Mean average precision and HIT@1 of scored clips in the manner of QVHighlights.

    Args:
        predicted: video (or query) -> float (clips,), finite; see `clip_scores`.
        ratings: the same names -> (clips, annotators), 0 for clips that nobody rated. Labels of one person are a single
            column of 0 and 4.
        minimum: the rating from which a clip is positive.

    Raises:
        HlkitError: for no videos, other names, shapes that don't fit, or values that are not finite.
    """
    if not predicted or set(predicted) != set(ratings):
        raise HlkitError(
            f"Scores of {len(predicted)} and ratings of {len(ratings)} videos must be of the same ones, and some. "
            f"Not in both: {', '.join(sorted(set(predicted) ^ set(ratings))) or 'none'}."
        )
    precisions, hits = [], []
    for name, clips in predicted.items():
        scores, rated = np.asarray(clips, dtype=np.float64), np.asarray(ratings[name], dtype=np.float64)
        fits = rated.ndim == 2 and rated.size and scores.shape == rated.shape[:1]
        if not fits or not np.isfinite(scores).all() or not np.isfinite(rated).all():
            raise HlkitError(
                f"'{name}' has scores {scores.shape} for ratings {rated.shape}; allowed are finite scores (clips,) and "
                "finite ratings (clips, annotators)."
            )
        positive = rated >= minimum
        precisions.append(np.mean([interpolated_precision(column, scores) for column in positive.T]))
        hits.append(positive[scores.argmax()].any())
    return HighlightDetection(float(np.mean(precisions)), float(np.mean(hits)))


def interpolated_precision(positive: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The AP of QVHighlights: the best precision at or above each distinct recall, averaged over these.

    Args:
        positive: bool (n,).
        scores: float (n,), finite.

    Returns:
        0 to 1: 0 where nothing is positive, 1 where everything is. At least `average_precision`.

    Raises:
        HlkitError: for rows of different lengths, or values that are not finite.
    """
    wanted = check_labels(positive)
    values = check_scores(wanted.size, scores)
    if wanted.all() or not wanted.any():
        return float(wanted.any())
    order, last_of_tie = ranked(values)
    hits = np.cumsum(wanted[order])[last_of_tie]
    best = np.maximum.accumulate((hits / (last_of_tie + 1))[::-1])[::-1]
    return float(best[np.diff(hits, prepend=0) > 0].mean())


def _check_against(against: str) -> None:
    if against not in get_args(Against):
        raise HlkitError(f"against is '{against}'; {' and '.join(get_args(Against))} are allowed.")


def _check_people(annotators: npt.ArrayLike) -> np.ndarray:
    """Scores as float64 (annotators, n) of those who prefer any frame to another."""
    scores = np.asarray(annotators, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] < 2 or not np.isfinite(scores).all():
        raise HlkitError(
            f"Annotators {scores.shape} must be finite numbers (annotators, frames), two frames or more. "
            "A single annotator is one row."
        )
    people = scores[(scores != scores[:, :1]).any(axis=1)]
    if not len(people):
        raise HlkitError(f"None of {len(scores)} annotators prefers any frame, so there is no order to agree with.")
    if blank := len(scores) - len(people):
        reason = f"{blank} of {len(scores)} annotators gave every frame the same score"
        warnings.warn(f"{reason}, which has no order; leaving them out.", HlkitWarning, stacklevel=3)
    return people


def _correlate(one: np.ndarray, other: np.ndarray) -> RankCorrelation:
    from scipy.stats import kendalltau, spearmanr

    if (one == one[0]).all() or (other == other[0]).all():
        return RankCorrelation(0.0, 0.0)
    found = [np.asarray(measure(one, other))[0] for measure in (kendalltau, spearmanr)]
    return RankCorrelation(*map(float, found))


def _average(found: list[RankCorrelation]) -> RankCorrelation:
    return RankCorrelation(*np.mean(found, axis=0).tolist())
