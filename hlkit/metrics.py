"""The scorecard: every signal beside a guess, on the same frames, by the same measures.

The measures and their conventions are in `hlkit.rankings` (frames) and `hlkit.events` (spans, picks and the top-scored
seconds); their names can be imported from here. What other fields of video summarisation use is in `hlkit.summaries`.

Conventions of the tables:

- A number without its baselines says little, so a table has one row for each signal (the model, loudness, picture
  change, chat rate, whatever is given) and a last one for `random`. Where a guess has an exact value it stands there:
  the base rate for AP and precision, 0.5 for AUROC. Events have none, so there it is the mean over draws of noise,
  smoothed like the signals.
- Every signal is smoothed by a centred mean of the same window before it is judged, apart from the column `ap`.
- Signals are compared at the same length of reel, that of all true spans together unless another is given: a
  threshold means nothing across signals of different units.
- Frames that nobody looked at (a `label` below 0) are neither right nor wrong: they take part in smoothing, since a
  signal is what it is, and in nothing else. Reels and picks are made of looked-at time alone; a pick ends where that
  ends.
- *Macro* is the mean over videos, each video counting the same whatever its length.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.events import (
    SPOT_SECONDS,
    EventScores,
    EventsHit,
    PicksHit,
    add_peaks,
    event_scores,
    events_hit,
    events_in_top_seconds,
    hit_at_k,
    precision_at_seconds,
    row_seconds,
    spans_of,
    spotting_scores,
    top_seconds,
    total_seconds,
)
from hlkit.labels import covered
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import (
    FrameMetrics,
    auroc,
    average_precision,
    base_rate,
    bootstrap_interval,
    check_length,
    check_ranking,
    difference_interval,
    frame_metrics,
    precision_recall,
)
from hlkit.split import assign_chunks
from hlkit.timeline import PickRules, add_intensity, pick_highlights

__all__ = [
    "CARD_SCHEMA",
    "EVENT_CARD_SCHEMA",
    "RANDOM",
    "SPOT_SECONDS",
    "EventScores",
    "EventsHit",
    "FrameMetrics",
    "PicksHit",
    "add_peaks",
    "auroc",
    "average_precision",
    "base_rate",
    "bootstrap_interval",
    "difference_interval",
    "event_card",
    "event_scores",
    "events_hit",
    "events_in_top_seconds",
    "frame_metrics",
    "hit_at_k",
    "macro_average",
    "precision_at_seconds",
    "precision_recall",
    "row_seconds",
    "scorecard",
    "spans_of",
    "spotting_scores",
    "top_seconds",
    "total_seconds",
]

RANDOM = "random"
"""The name that the tables give to a signal that knows nothing."""

CARD_SCHEMA = pl.Schema(
    {"name": pl.String}
    | dict.fromkeys(("ap", "ap_smoothed", "low", "high", "auroc", "reel_precision", "reel_events"), pl.Float64)
)
"""Columns of `scorecard`."""

_TIOUS = (0.3, 0.5)
_RATES = ("precision", "recall", "f1")

EVENT_CARD_SCHEMA = pl.Schema(
    {"name": pl.String}
    | dict.fromkeys(
        ("seconds", "frame_f1", *(f"{rate}_{round(100 * tiou)}" for tiou in _TIOUS for rate in _RATES)), pl.Float64
    )
    | dict.fromkeys((*(f"spot_{rate}" for rate in _RATES), "events_found", "hit_at_k"), pl.Float64)
)
"""Columns of `event_card`."""

# A hundred draws of noise give the share of events that chance finds to about a hundredth; picking is slower.
_NOISE_DRAWS = 100
_PICK_DRAWS = 20


def scorecard(
    frames: pl.DataFrame,
    signals: Mapping[str, npt.ArrayLike],
    *,
    window_seconds: float = 5.0,
    chunk_seconds: float = 30.0,
    resamples: int = 1000,
    seed: int = 0,
    true: pl.DataFrame | None = None,
    reel_seconds: float | None = None,
) -> pl.DataFrame:
    """Judge signals against the labels, beside a random one.

    Args:
        frames: columns `video`, `time` (seconds) and `label`; the frames to judge on, none of which has trained. A
            label below 0 stands for a frame that nobody looked at.
        signals: name -> float (rows of `frames`,), higher for likelier highlights. One with a value missing (NaN) can't
            be ranked and gets a row of nulls.
        window_seconds: of the centred mean that smooths a signal, see `hlkit.timeline.add_intensity`.
        chunk_seconds: of the blocks that the bootstrap draws.
        resamples: of the bootstrap.
        seed: of the bootstrap and of the noise.
        true: span table of the events; the stretches of labelled frames unless given.
        reel_seconds: length of the reel that the last two columns are about; that of all events together unless given.

    Returns:
        One row a signal, in the order given, and last "random": columns of `CARD_SCHEMA`, all but `name` 0 to 1. `ap`
        is of the signal as it is; the rest is of the smoothed signal: `ap_smoothed`; `low` and `high`, its 95 %
        interval; `auroc`; `reel_precision`, how much of a reel of the top-scored seconds is highlight; `reel_events`,
        the share of events that are in that reel by half or more. The random row is the base rate, with the interval
        that the draw of chunks gives it, and for `reel_events` the mean of noise.

    Raises:
        HlkitError: for a signal of another length or named "random", labels of one class only, fewer than two chunks,
            or events of a video without frames.
    """
    _check_names(frames, signals, true)
    seen = _seen(frames)
    judged = frames.filter(seen)
    labels = judged.get_column("label").to_numpy()
    chunks = assign_chunks(judged, chunk_seconds=chunk_seconds).get_column("chunk").to_numpy()
    check_ranking(labels, np.zeros(judged.height))
    true = spans_of(frames) if true is None else true
    length = total_seconds(true) if reel_seconds is None else reel_seconds

    def events(smooth: np.ndarray) -> float:
        hit = events_in_top_seconds(judged, smooth, true, seconds=length)
        return hit.hit / max(hit.total, 1)

    rows = []
    for name, signal in {**signals, RANDOM: np.zeros(frames.height)}.items():
        raw = check_length(frames.height, signal)
        if np.isnan(raw[seen]).any():
            rows.append((name, *(None,) * (len(CARD_SCHEMA) - 1)))
            continue
        ap = average_precision(labels, raw[seen])
        smooth = _smooth(frames, raw, window_seconds)[seen]
        interval = bootstrap_interval(labels, smooth, chunks, resamples=resamples, seed=seed)
        reel_precision = precision_at_seconds(judged, smooth, seconds=length)
        rows.append((name, ap, average_precision(labels, smooth), *interval, auroc(labels, smooth), reel_precision))
        rows[-1] += (events(smooth),) if name != RANDOM else ()
    noise = _noise(frames, window_seconds, draws=_NOISE_DRAWS, seed=seed)
    rows[-1] += (float(np.mean([events(smooth[seen]) for smooth in noise])),)
    return pl.DataFrame(rows, schema=CARD_SCHEMA, orient="row")


def event_card(
    frames: pl.DataFrame,
    signals: Mapping[str, npt.ArrayLike],
    true: pl.DataFrame,
    *,
    reel_seconds: float | None = None,
    rules: PickRules | None = None,
    window_seconds: float = 5.0,
    k: int = 5,
    tolerance_seconds: float = SPOT_SECONDS,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge the highlights that each signal picks for a reel of one length, beside those of random signals.

    Args:
        frames: columns `video`, `time` (seconds) and `label`, below 0 where nobody looked.
        signals: as for `scorecard`.
        true: span table of the events.
        reel_seconds: what the picks may last together, over all videos; as long as the events unless given.
        rules: of picking; as `hlkit.timeline.pick_highlights` has them, without hysteresis unless given, since its
            `release` is a share of the threshold and would mean something else in each signal's unit.
        window_seconds: of the centred mean that smooths a signal.
        k: of `hit_at_k`.
        tolerance_seconds: of the spotting scores and of `hit_at_k`.
        seed: of the noise.

    Returns:
        One row a signal and last "random": columns of `EVENT_CARD_SCHEMA`. `seconds` that the picks last (0 when
        nothing fits, with an `HlkitWarning`); all else 0 to 1: `frame_f1` of the frames inside the picks;
        `precision_30` to `f1_50` of spans at a tIoU of 0.3 and 0.5; `spot_precision`, `spot_recall`, `spot_f1` within
        `tolerance_seconds`; `events_found`, the share of events covered by half or more; `hit_at_k`, the share of the
        `k` best picks of each video that hit. Nulls for a signal with a value missing. The random row is a mean over 20
        draws.

    Raises:
        HlkitError: for a signal of another length or named "random", labels of one class only, or events of a video
            without frames.
    """
    _check_names(frames, signals, true)
    length = total_seconds(true) if reel_seconds is None else reel_seconds
    rules = PickRules(release=1.0) if rules is None else rules
    seen = _seen(frames)
    judged, stretches = frames.filter(seen), _stretches(frames, seen)

    def judge(smooth: np.ndarray) -> list[float]:
        intensity = pl.Series("intensity", smooth[seen])
        spans = pick_highlights(stretches.with_columns(intensity), target_seconds=length, **vars(rules))
        picks = add_peaks(_back(spans, stretches), judged.select("video", "time").with_columns(intensity))
        found, best = events_hit(picks, true), hit_at_k(picks, true, k=k, tolerance_seconds=tolerance_seconds)
        scores = [event_scores(picks, true, tiou=tiou) for tiou in _TIOUS]
        scores.append(spotting_scores(picks, true, tolerance_seconds=tolerance_seconds))
        f1 = frame_metrics(judged.get_column("label").to_numpy(), covered(judged, picks)).f1
        rates = [rate for score in scores for rate in score]
        return [total_seconds(picks), f1, *rates, found.hit / max(found.total, 1), best.hit / max(best.total, 1)]

    rows = []
    for name, signal in signals.items():
        raw = check_length(frames.height, signal)
        if np.isnan(raw[seen]).any():
            rows.append((name, *(None,) * (len(EVENT_CARD_SCHEMA) - 1)))
            continue
        check_ranking(judged.get_column("label"), raw[seen])
        rows.append((name, *judge(_smooth(frames, raw, window_seconds))))
    noise = _noise(frames, window_seconds, draws=_PICK_DRAWS, seed=seed)
    with warnings.catch_warnings():
        # A draw that picks nothing is part of the mean, and nobody can act on it.
        warnings.simplefilter("ignore", HlkitWarning)
        rows.append((RANDOM, *np.mean([judge(smooth) for smooth in noise], axis=0).tolist()))
    return pl.DataFrame(rows, schema=EVENT_CARD_SCHEMA, orient="row")


def macro_average(cards: pl.DataFrame) -> pl.DataFrame:
    """The mean over videos of the tables of `scorecard` or `event_card`.

    Args:
        cards: the rows of several videos' tables, with `video`; each signal at most once a video.

    Returns:
        One row a signal, in order: `name`, `videos` (u32, how many measured it), and the means of the other columns.
        Null where a video lacks the value, since means over different videos can't be compared. `low` and `high` are an
        interval for `ap_smoothed`: the distances of each video's interval from its AP, as of independent errors, are
        added in squares. It tells how sure the AP on these videos is, not how much streams differ.

    Raises:
        HlkitError: for a signal that stands twice for a video.
    """
    if cards.select("video", "name").is_duplicated().any():
        raise HlkitError("A signal stands twice for a video in the scorecards. Give each video's table once.")
    columns = [name for name, kind in cards.schema.items() if kind == pl.Float64 and name not in ("low", "high")]
    videos = cards.get_column("video").n_unique()
    measured = pl.all_horizontal(pl.col(columns).is_not_null())

    def over_all(value: pl.Expr) -> pl.Expr:
        return pl.when(value.is_not_null().sum() == videos).then(value.mean())

    means = [over_all(pl.col(name)).alias(name) for name in columns]
    if "low" in cards.columns:
        centre = pl.col("ap_smoothed")
        reach = [((pl.col(end) - centre).pow(2).sum().sqrt() / videos).alias(end) for end in ("low", "high")]
        table = cards.group_by("name", maintain_order=True).agg(measured.sum().alias("videos"), *means, *reach)
        table = table.with_columns(low=centre - pl.col("low"), high=centre + pl.col("high"))
    else:
        table = cards.group_by("name", maintain_order=True).agg(measured.sum().alias("videos"), *means)
    return table.select("name", "videos", *(name for name in cards.columns if name not in ("video", "name")))


def _check_names(frames: pl.DataFrame, signals: Mapping[str, npt.ArrayLike], true: pl.DataFrame | None) -> None:
    if RANDOM in signals:
        raise HlkitError(f"A signal is named '{RANDOM}', as the row of a guess is. Give it another name.")
    videos = set(frames.get_column("video"))
    if true is not None and (others := sorted(set(true.get_column("video")) - videos)):
        raise HlkitError(
            f"There are events of {', '.join(others)}, and frames of {', '.join(sorted(videos))} only. Give the events "
            "of the videos that are judged, under the same ids."
        )


def _seen(frames: pl.DataFrame) -> np.ndarray:
    """Which frames somebody looked at, bool (rows,). A label that is missing is a fault that `check_ranking` tells."""
    return ~(frames.get_column("label") < 0).fill_null(False).to_numpy()


def _stretches(frames: pl.DataFrame, seen: np.ndarray) -> pl.DataFrame:
    """The seen frames with each stretch of looked-at time as a video of its own, so that no pick leaves one.

    Returns:
        `video` (one a stretch) and `time` (s, from its start), and `of` and `offset` (s): where the stretch is from.
        What begins its video keeps its times.
    """
    table = frames.select(pl.col("time").cast(pl.Float64), of="video", seen=pl.Series(seen)).with_row_index("row")
    table = table.sort("of", "time").with_columns(stretch=pl.col("seen").rle_id().over("of"))
    first = pl.when(pl.col("stretch") == 0).then(0.0).otherwise(pl.col("time").min().over("of", "stretch"))
    table = table.with_columns(offset=first).filter("seen").sort("row")
    # No video's id has a line break.
    name = pl.concat_str("of", pl.col("stretch").cast(pl.String), separator="\n")
    return table.select("of", "offset", video=name, time=pl.col("time") - pl.col("offset"))


def _back(spans: pl.DataFrame, stretches: pl.DataFrame) -> pl.DataFrame:
    """Spans of stretches as spans of the videos that those are from."""
    places = stretches.select("video", "of", "offset").unique()
    moved = spans.join(places, on="video", maintain_order="left")
    edges = [(pl.col(edge) + pl.col("offset")).alias(edge) for edge in ("start", "end")]
    return moved.with_columns(pl.col("of").alias("video"), *edges).select(spans.columns).sort("video", "start")


def _smooth(frames: pl.DataFrame, signal: np.ndarray, window_seconds: float) -> np.ndarray:
    table = frames.select("video", "time").with_columns(pl.Series("score", signal))
    return add_intensity(table, window_seconds=window_seconds).get_column("intensity").to_numpy()


def _noise(frames: pl.DataFrame, window_seconds: float, *, draws: int, seed: int) -> list[np.ndarray]:
    """Draws of noise, smoothed."""
    rng = np.random.default_rng(seed)
    return [_smooth(frames, rng.random(frames.height), window_seconds) for _ in range(draws)]
