"""How far two people agree who labelled the same video: Cohen's kappa over time, and the F1 of their spans.

Conventions and sources:

- *Kappa* (Cohen 1960, "A coefficient of agreement for nominal scales") compares the class that both give to each moment
  of a time grid with what two labellers would agree on by chance, given how often each uses each class: 1 is full
  agreement, 0 that of chance, below 0 less. Where chance alone agrees everywhere (both know one class), it is 1.
- Moments count that both looked at: all of a video, or, where one of them gave spans of background, what their spans
  cover (as `label_frames` has it with `rest="auto"`). Where spans overlap, the class whose name sorts later wins, and
  any class wins over background.
- *Event F1* takes one labeller's highlights as predicted and the other's as true (see `hlkit.events.event_scores`); it
  is the same both ways. Spans of background are no events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from hlkit.events import event_scores
from hlkit.labels import BACKGROUND, SPAN_SCHEMA, label_frames
from hlkit.project import HlkitError

STEP_SECONDS = 1.0
"""The grid's step unless told: labels are given to the second or so, and a highlight has many."""


class Agreement(NamedTuple):
    """What two labellers have in common."""

    kappa: float
    """-1 to 1."""
    event_f1: float
    """0 to 1, at the tIoU asked for."""
    same: float
    """The share of moments with the same class, 0 to 1."""
    seconds: float
    """How much time both looked at."""


def agreement(
    one: pl.DataFrame,
    other: pl.DataFrame,
    *,
    durations: Mapping[str, float],
    step_seconds: float = STEP_SECONDS,
    tiou: float = 0.5,
) -> Agreement:
    """Compare the labels of two people.

    Args:
        one, other: columns of `SPAN_SCHEMA`.
        durations: seconds of each video that both labelled, whether or not they marked anything in it; spans of other
            videos don't count.
        step_seconds: of the grid, above 0.
        tiou: from which two spans are the same event, above 0 and at most 1.

    Raises:
        HlkitError: when there is no moment that both looked at, or for an argument out of range.
    """
    if not 0 < step_seconds < np.inf:
        raise HlkitError(f"step_seconds={step_seconds} is not allowed; give a step above 0, such as 1.")
    grid = _grid(durations, step_seconds)
    one, other = (
        each.select(SPAN_SCHEMA.names()).filter(pl.col("video").is_in(list(durations))) for each in (one, other)
    )
    classes = (BACKGROUND, *sorted({*one["label"], *other["label"]} - {BACKGROUND}))
    said = [label_frames(grid, each, classes=classes, rest="auto")["label"].to_numpy() for each in (one, other)]
    both = (said[0] >= 0) & (said[1] >= 0)
    if not both.any():
        raise HlkitError("There is no moment that both looked at. Let both label the same stretch of a video.")
    same = float((said[0] == said[1])[both].mean())
    events = [each.filter(pl.col("label") != BACKGROUND) for each in (one, other)]
    return Agreement(
        kappa=cohen_kappa(said[0][both], said[1][both]),
        event_f1=_shared_f1(*events, tiou=tiou),
        same=same,
        seconds=float(both.sum() * step_seconds),
    )


def cohen_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Cohen's kappa of two labellings, int (n,) each; see the module. Example: `[0, 0, 1, 1]`, `[0, 0, 1, 0]` give 0.5.

    Raises:
        HlkitError: for nothing to compare, or different numbers of labels.
    """
    if one.shape != other.shape or not one.size:
        raise HlkitError(f"{one.size} and {other.size} labels can't be compared; give as many of each, one at least.")
    classes = np.union1d(one, other)
    shares = [(each[:, None] == classes).mean(axis=0) for each in (one, other)]
    by_chance = float((shares[0] * shares[1]).sum())
    same = float((one == other).mean())
    return 1.0 if len(classes) == 1 else (same - by_chance) / (1 - by_chance)


def _shared_f1(one: pl.DataFrame, other: pl.DataFrame, *, tiou: float) -> float:
    """Event F1 where an event is a span with its class; 1 where neither marked anything."""
    if one.is_empty() and other.is_empty():
        return 1.0
    by_class = [each.with_columns(video=pl.concat_str("video", pl.lit("\n"), "label")) for each in (one, other)]
    return event_scores(by_class[0], by_class[1], tiou=tiou).f1


def _grid(durations: Mapping[str, float], step_seconds: float) -> pl.DataFrame:
    """The middles of the grid's cells."""
    times = {
        video: (np.arange(max(int(seconds / step_seconds), 1)) + 0.5) * step_seconds
        for video, seconds in durations.items()
    }
    tables = [pl.DataFrame({"video": [video] * len(each), "time": each}) for video, each in times.items()]
    return pl.concat(tables) if tables else pl.DataFrame(schema={"video": pl.String, "time": pl.Float64})
