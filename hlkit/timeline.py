"""The timeline: scores smoothed to intensity, and the highlights picked from it by a threshold or a wanted length.

Smoothing comes before the threshold, since a mean of yes-or-no answers would throw away how sure each score was. All
windows, gaps and lengths are seconds, so tables of any frame rate, with or without gaps, mean the same.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from hlkit.labels import DEFAULT_LABEL, SPAN_SCHEMA, TIME_TOLERANCE, merge_spans
from hlkit.project import HlkitError, HlkitWarning

Align = Literal["centre", "trailing"]

# Neighbours further apart than this many steps have a gap between them. The half step leaves room for times that
# jitter, and one missing frame still is a gap.
_GAP_STEPS = 1.5


@dataclass(frozen=True)
class PickRules:
    """How stretches above a threshold become highlights. Under each rule a lower threshold never shortens the reel.

    Attributes:
        release: a highlight reaches the threshold somewhere, and lasts while the value stays at or above `release`
            times the threshold. Above 0 and at most 1; 1 is no hysteresis, and values below 0 never have any.
        merge_gap_seconds: stretches at most this far apart become one.
        min_seconds: shorter stretches are left out, after merging and before padding.
        pad_seconds: added on both sides, inside the video.
    """

    release: float = 0.8
    merge_gap_seconds: float = 4.0
    min_seconds: float = 2.0
    pad_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.release <= 1:
            raise HlkitError(f"release={self.release} is not allowed; give a share above 0 and at most 1, such as 0.8.")
        for name in ("merge_gap_seconds", "min_seconds", "pad_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise HlkitError(f"{name}={getattr(self, name)} is not allowed; give 0 or more seconds.")


class Level(NamedTuple):
    """What a wanted length comes to: `pick_highlights(..., threshold=level.threshold, release=level.release)`."""

    threshold: float
    release: float


def add_intensity(
    scores: pl.DataFrame, *, window_seconds: float = 30.0, align: Align = "centre", column: str = "score"
) -> pl.DataFrame:
    """Add `intensity` (f32): the mean of `column` over a window of time around each row, within its video.

    Args:
        scores: columns `video`, `time` (seconds) and `column` (any unit; intensity has the same). Rows in any order.
            Missing values (null or NaN) are left out of the mean.
        window_seconds: length of the window, more than 0. At the edges of a video, and at gaps, the mean is over what
            exists.
        align: "centre" takes times in `[t - w/2, t + w/2]`. "trailing" takes `(t - w, t]`, which lags by half the
            window; the rolling sum of other tools is this curve times the number of rows in the window.

    Returns:
        `scores` in its order with `intensity`; null where the window holds no value.

    Raises:
        HlkitError: for a missing column, an infinite value, or a window that is not positive.
    """
    if not 0 < window_seconds < math.inf:
        raise HlkitError(f"window_seconds={window_seconds} is not allowed; give a length above 0, such as 30.")
    half = window_seconds / 2
    # Trailing leaves out the row exactly one window ago: with it, 3 s at 1 fps would hold four rows.
    earliest, latest = (-half, half) if align == "centre" else (2 * TIME_TOLERANCE - window_seconds, 0.0)
    table = _values(scores, column).with_row_index("row").sort("time")
    if table.get_column("value").is_infinite().any():
        raise HlkitError(f"The column '{column}' has infinite values. Set them to a number, or to null for 'missing'.")
    means = np.full(scores.height, np.nan, dtype=np.float32)
    for _, part in table.group_by("video"):
        times = part.get_column("time").to_numpy()
        first = np.searchsorted(times, times + (earliest - TIME_TOLERANCE), side="left")
        stop = np.searchsorted(times, times + (latest + TIME_TOLERANCE), side="right")
        means[part.get_column("row").to_numpy()] = _window_means(part.get_column("value"), first, stop)
    return scores.with_columns(pl.Series("intensity", means).fill_nan(None))


def smooth(values: np.ndarray, frames: pl.DataFrame, seconds: float) -> np.ndarray:
    """A centred mean over `seconds` of float (rows, columns), within each video; 0 leaves it as it is.

    Values that are NaN are left out, and a window of nothing else gives NaN.
    """
    if seconds == 0:
        return values
    columns = []
    for column in values.T:
        table = frames.select("video", "time").with_columns(pl.Series("score", column))
        columns.append(add_intensity(table, window_seconds=seconds)["intensity"].to_numpy())
    return np.stack(columns, axis=1)


def pick_highlights(
    timeline: pl.DataFrame,
    *,
    threshold: float | None = None,
    target_seconds: float | None = None,
    release: float = PickRules.release,
    merge_gap_seconds: float = PickRules.merge_gap_seconds,
    min_seconds: float = PickRules.min_seconds,
    pad_seconds: float = PickRules.pad_seconds,
    column: str = "intensity",
    durations: Mapping[str, float] | None = None,
    label: str = DEFAULT_LABEL,
) -> pl.DataFrame:
    """Pick the stretches where `column` is high: above a threshold, or as many as last as long as wanted.

    A row stands for the time of one step, the median distance to the next row of its video.

    Args:
        timeline: columns `video`, `time` (seconds) and `column`; missing values count as low.
        threshold: a value of `column`. Give either this or `target_seconds`.
        target_seconds: the highlights of all videos together last at most this long, and as near to it as one threshold
            for all of them can bring them.
        release: see `PickRules`, as for the next three.
        merge_gap_seconds: see `PickRules`.
        min_seconds: see `PickRules`.
        pad_seconds: see `PickRules`.
        column: what to pick by.
        durations: seconds of each video. A video that is not named ends one step after its last row.
        label: the class that the spans get.

    Returns:
        Span table, sorted by video and start; the spans of a video are disjoint and lie inside it. Empty when nothing
        is high enough, or, with an `HlkitWarning`, when nothing is short enough for `target_seconds`. When hysteresis
        alone makes the strongest highlight too long for it, `release` becomes 1, with an `HlkitWarning`.

    Raises:
        HlkitError: for a missing column, a rule out of range, or both or neither of `threshold` and `target_seconds`.
    """
    rules = PickRules(release, merge_gap_seconds, min_seconds, pad_seconds)
    points = _points(timeline, column, durations or {})
    if threshold is None and target_seconds is not None:
        threshold, rules = _search(points, rules, target_seconds)
    elif threshold is None or target_seconds is not None:
        raise HlkitError("Give either a threshold or a wanted length in seconds, and not both.")
    return _pick(points, rules, threshold).with_columns(label=pl.lit(label))


def find_threshold(
    timeline: pl.DataFrame,
    target_seconds: float,
    *,
    rules: PickRules | None = None,
    column: str = "intensity",
    durations: Mapping[str, float] | None = None,
) -> Level:
    """The threshold and the release that `pick_highlights` takes for `target_seconds`, with its warnings and errors.

    The threshold is infinite when nothing is short enough, and then picks nothing.
    """
    threshold, rules = _search(_points(timeline, column, durations or {}), rules or PickRules(), target_seconds)
    return Level(threshold, rules.release)


def _values(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """`video`, `time` and, as `value` (f64, null where missing), one column."""
    if missing := [name for name in ("video", "time", column) if name not in table.columns]:
        raise HlkitError(f"The table lacks the column {', '.join(missing)}. It has: {', '.join(table.columns)}.")
    return table.select("video", pl.col("time").cast(pl.Float64), value=pl.col(column).cast(pl.Float64).fill_nan(None))


def _window_means(values: pl.Series, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The mean of `values[first:stop]` for each window; NaN where it holds none."""
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(part.to_numpy())]) for part in (values.fill_null(0.0), values.is_not_null())
    )
    with np.errstate(invalid="ignore"):
        return (sums[stop] - sums[first]) / (counts[stop] - counts[first])


def _points(timeline: pl.DataFrame, column: str, durations: Mapping[str, float]) -> pl.DataFrame:
    """The timeline by video and time: `start` and `end` of each row, `value`, the `length` of its video, and `follows`.

    `follows` says that a row comes after another of its video without a gap.
    """
    table = _values(timeline, column).sort("video", "time")
    distance = pl.col("time").diff().over("video")
    length = pl.col("video").replace_strict(dict(durations), default=None, return_dtype=pl.Float64)
    return (
        table.with_columns(distance=distance)
        .with_columns(step=pl.col("distance").filter(pl.col("distance") > TIME_TOLERANCE).median().over("video"))
        .with_columns(end=pl.col("time") + pl.col("step").fill_null(0.0))
        .select(
            "video",
            "end",
            start=pl.col("time"),
            value=pl.col("value").fill_null(-math.inf),
            length=pl.coalesce(length, pl.col("end").max().over("video")),
            follows=(pl.col("distance") <= _GAP_STEPS * pl.col("step")).fill_null(False),
        )
    )


def _pick(points: pl.DataFrame, rules: PickRules, threshold: float) -> pl.DataFrame:
    """The highlights at one threshold, with an empty `label`."""
    on = pl.lit(_reach(points, rules) >= threshold)
    begins = on & ~(pl.col("follows") & on.shift(1, fill_value=False))
    runs = (
        points.with_columns(on=on, run=begins.cum_sum(), peak=pl.col("value") >= threshold)
        .filter("on")
        .group_by("run")
        .agg(pl.first("video"), pl.min("start"), pl.max("end"), pl.any("peak"), label=pl.lit(""))
        .filter("peak")
    )
    merged = merge_spans(runs.select(SPAN_SCHEMA.names()), gap_seconds=rules.merge_gap_seconds)
    long_enough = pl.col("end") - pl.col("start") > max(rules.min_seconds - TIME_TOLERANCE, 0.0)
    length = points.group_by("video").agg(pl.first("length"))
    padded = (
        merged.filter(long_enough)
        .join(length, on="video")
        .with_columns(
            start=(pl.col("start") - rules.pad_seconds).clip(lower_bound=0.0),
            end=pl.min_horizontal(pl.col("end") + rules.pad_seconds, "length"),
        )
        .filter(pl.col("start") < pl.col("end"))
    )
    return merge_spans(padded)


def _reach(points: pl.DataFrame, rules: PickRules) -> pl.Series:
    """The highest threshold at which each row still belongs to a highlight that another row began."""
    value = points.get_column("value")
    return points.select(pl.when(value > 0).then(value / rules.release).otherwise(value)).to_series()


def _search(points: pl.DataFrame, rules: PickRules, target_seconds: float) -> tuple[float, PickRules]:
    """The lowest threshold whose highlights last at most `target_seconds` together, and the rules that allow it."""
    if not 0 < target_seconds < math.inf:
        raise HlkitError(f"A reel of {target_seconds} s is not possible; give a length above 0, such as 60.")
    threshold, _ = _lowest(points, rules, target_seconds)
    if threshold is not None:
        return threshold, rules
    steep = replace(rules, release=1.0)
    threshold, shortest = _lowest(points, steep, target_seconds)
    if threshold is not None:
        reason = f"With release={rules.release:g} no highlight fits into {target_seconds:g} s"
        warnings.warn(f"{reason}; picking without hysteresis (release=1).", HlkitWarning, stacklevel=3)
        return threshold, steep
    advice = f"the shortest choice lasts {shortest:.1f} s. Ask for more, or set smaller min_seconds and pad_seconds"
    if not shortest:
        advice = f"nothing lasts min_seconds={rules.min_seconds:g}. Set a smaller one"
    warnings.warn(f"No highlight fits into {target_seconds:g} s: {advice}.", HlkitWarning, stacklevel=3)
    return math.inf, rules


def _lowest(points: pl.DataFrame, rules: PickRules, target_seconds: float) -> tuple[float | None, float]:
    """The lowest threshold that keeps to the target, if it leaves anything, and the total length just above the target.

    The highlights change only where the threshold passes a row's value or reach, and a lower threshold never takes time
    away, so halving the list of those finds it in about 17 steps for six hours at 3 fps.
    """

    def total(threshold: float) -> float:
        spans = _pick(points, rules, threshold)
        return float((spans.get_column("end") - spans.get_column("start")).sum())

    thresholds = np.unique(np.concatenate([points.get_column("value"), _reach(points, rules)]))
    thresholds = thresholds[np.isfinite(thresholds)].tolist()
    fits = bisect_left(thresholds, True, key=lambda threshold: total(threshold) <= target_seconds + TIME_TOLERANCE)
    above = total(thresholds[fits - 1]) if fits else 0.0
    if fits < len(thresholds) and total(thresholds[fits]) > 0:
        return thresholds[fits], above
    return None, above
