"""Curves: how a training run and the rounds of a review went, and precision over recall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.charts import BLUE, CLASS_COLOURS, VERMILLION, column_values, short_text, tidy
from hlkit.project import HlkitError
from hlkit.rankings import base_rate, precision_recall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Beside the colour, so that a black-and-white print says the same.
LINE_STYLES = ("solid", (0, (6, 2)), (0, (2, 2)), "dashdot")


_METRICS = {"epoch", "train_loss", "val_loss", "val_ap", "val_base_rate"}


def training_chart(metrics: Path, *, title: str = "") -> Figure:
    """Draw a training run from its `metrics.csv` (one row an epoch): the loss, and validation AP over its base rate.

    Args:
        metrics: CSV with `epoch` (from 0) and any of `train_loss`, `val_loss` (cross-entropy, nats), `val_ap`,
            `val_base_rate` (0 to 1).
        title: above the chart; "" writes none.

    Raises:
        HlkitError: when there is no such file, or it holds no epoch, or text instead of numbers.
    """
    from matplotlib.figure import Figure

    table = _read_metrics(Path(metrics))
    epochs = table["epoch"].to_numpy() + 1
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(short_text(title), fontweight="bold")
    left, right = figure.subplots(1, 2)
    if "train_loss" in table.columns:
        left.plot(epochs, column_values(table, "train_loss"), "o-", color=BLUE, label="training")
    if "val_loss" in table.columns:
        left.plot(epochs, column_values(table, "val_loss"), "s--", color=VERMILLION, label="validation")
    left.set(title="Loss", ylabel="cross-entropy (nats)", ylim=(0, 1.05 * left.get_ylim()[1]))
    if "val_ap" in table.columns:
        values = column_values(table, "val_ap")
        right.plot(epochs, values, "o-", color=BLUE, label="model")
        if np.isfinite(values).any():
            best = int(np.nanargmax(values))
            right.plot(epochs[best], values[best], "o", markersize=12, markerfacecolor="none", color="black")
            right.text(epochs[best], values[best] - 0.05, f"best: {values[best]:.3f}", ha="center", va="top")
    if "val_base_rate" in table.columns:
        right.axhline(
            column_values(table, "val_base_rate")[-1], linestyle=":", color="black", label="base rate (guessing)"
        )
    right.set(title="Average precision on the validation frames", ylabel="average precision (0 to 1)", ylim=(0, 1.02))
    for axis in (left, right):
        axis.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        tidy(axis)
        if axis.get_lines():
            axis.legend(frameon=False)
    return figure


def rounds_chart(rounds: pl.DataFrame, *, title: str = "") -> Figure:
    """Draw what labelling in rounds led to: AP on chunks held back, over the minutes of video that were looked at.

    Args:
        rounds: `looked_minutes`, `highlight_minutes`, `val_ap` and `val_base_rate` (0 to 1, null where unknown), a row
            a round.
        title: above the chart; "" writes none.

    Raises:
        HlkitError: for no rounds.
    """
    from matplotlib.figure import Figure

    if rounds.is_empty():
        raise HlkitError("There is no round to draw. Train first (notebook 05, or `hlkit train`).")
    looked = column_values(rounds, "looked_minutes")
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(looked, column_values(rounds, "val_ap"), "o-", color=BLUE, label="model")
    axis.plot(looked, column_values(rounds, "val_base_rate"), "s:", color="black", label="base rate (guessing)")
    for row in rounds.iter_rows(named=True):
        if row["val_ap"] is not None:
            text = f"{row['highlight_minutes']:.1f} min"
            axis.annotate(text, (row["looked_minutes"], row["val_ap"]), (0, 7), textcoords="offset points", ha="center")
    axis.set(ylim=(0, 1.05), ylabel="average precision (0 to 1)")
    axis.set(xlabel="minutes of video that were looked at; the points tell how many of them are highlights")
    axis.set_title(short_text(title), loc="left", fontweight="bold")
    axis.legend(frameon=False, loc="lower right")
    axis.margins(x=0.08)
    tidy(axis)
    return figure


def precision_recall_chart(labels: npt.ArrayLike, signals: Mapping[str, npt.ArrayLike], *, title: str = "") -> Figure:
    """Draw the precision at each recall of some signals, and the base rate that a guess has at all of them.

    Args:
        labels: int or bool (n,), positive above 0, of both classes.
        signals: name -> float (n,), higher for likelier highlights; one with a value missing (NaN) is left out.
        title: above the chart.

    Raises:
        HlkitError: as for `hlkit.rankings.precision_recall`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axis = figure.subplots()
    known = {name: np.asarray(values, dtype=np.float64) for name, values in signals.items()}
    for number, (name, values) in enumerate(known.items()):
        if np.isnan(values).any():
            continue
        precision, recall, _ = precision_recall(labels, values)
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        style, width = LINE_STYLES[number % len(LINE_STYLES)], 2.2 if number == 0 else 1.4
        axis.step(
            recall, precision, where="pre", color=colour, linestyle=style, linewidth=width, label=short_text(name)
        )
    axis.axhline(base_rate(labels), linestyle=":", color="black", label="base rate (guessing)")
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.set(xlabel="recall: share of the highlight frames that are found")
    axis.set(ylabel="precision: share of what is found that is highlight")
    axis.set_title(short_text(title), loc="left", fontweight="bold")
    axis.legend(frameon=False)
    tidy(axis)
    return figure


def _read_metrics(path: Path) -> pl.DataFrame:
    """The epochs of a `metrics.csv`, one at least."""
    if not path.is_file():
        raise HlkitError(f"There is no {path}. Train first (notebook 05, or `hlkit train`).")
    try:
        table = pl.read_csv(path)
    except pl.exceptions.PolarsError as error:
        raise HlkitError(f"{path} is not a table of epochs: {error}. Train again to write it anew.") from error
    if "epoch" not in table.columns or table.is_empty():
        raise HlkitError(f"{path} holds no epoch. Train for at least one epoch (`hlkit train --epochs 8`).")
    remedy = "Train again to write it anew."
    try:
        # A column without any value is read as text.
        table = table.with_columns(pl.col(_METRICS & set(table.columns)).cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise HlkitError(f"{path} holds a value that is no number ({reason}). {remedy}") from error
    if not table["epoch"].is_finite().fill_null(False).all():
        raise HlkitError(f"{path} lacks the number of an epoch. {remedy}")
    return table
