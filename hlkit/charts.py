"""The chart of a video's timeline, and what all charts share.

Figures are made without pyplot, so nothing is kept open and no display is needed; `save_figure` writes one. Colours are
those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which stay apart for the colour-blind; what differs in colour
also differs in line style, hatch or place, so that a black-and-white print says the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hlkit.project import HlkitError, atomic_path, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, VERMILLION, GREEN, PURPLE = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7"
CLASS_COLOURS = (BLUE, GREEN, PURPLE, ORANGE)

TICK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MAX_TICKS = 10

# About one column a pixel of the plot's width at 150 dpi: more cannot be seen, and 64,800 points draw as fast as 1,500.
ENVELOPE_COLUMNS = 1500
LONG = 2 * ENVELOPE_COLUMNS  # points; beyond, single ones lie too close to be told apart

# A hole longer than this many frame steps is drawn as a hole, not bridged by a line.
GAP_STEPS = 3.0

SIGNAL_NAMES = {"loudness": "loudness\n(dBFS)", "picture_change": "picture\nchange\n(0 to 255)"}


@dataclass(frozen=True)
class _Strip:
    """One row of bars under the curve."""

    name: str
    spans: pl.DataFrame
    colour: str
    hatched: bool


def time_ticks(start: float, end: float, *, max_ticks: int = MAX_TICKS) -> tuple[np.ndarray, list[str]]:
    """Times (s) and their `h:mm:ss` texts for an axis from `start` to `end`: round steps, at most about `max_ticks`.

    Example: `time_ticks(0, 20)` has a tick every 2 s, from "0:00:00" to "0:00:20".
    """
    length = max(end - start, 1e-6)
    longest = TICK_STEPS[-1] * math.ceil(length / max_ticks / TICK_STEPS[-1])
    step = next((step for step in TICK_STEPS if length / step <= max_ticks), longest)
    first, last = math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9)
    times = np.arange(first, last + 1) * step
    return times, [format_time(time, decimals=0 if step >= 1 else 1) for time in times.tolist()]


def envelope(times: np.ndarray, values: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest value in each of `columns` equal stretches of time.

    Args:
        times: (n,) seconds, ascending, n >= 1.
        values: (n,) floats; NaN counts as missing.
        columns: how many stretches, at least 1.

    Returns:
        Three (columns,) arrays: middle of the stretch, lowest, highest; NaN where a stretch has no value.
    """
    edges = np.linspace(times[0], times[-1], columns + 1)
    column = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, columns - 1)
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    np.fmin.at(low, column, values)
    np.fmax.at(high, column, values)
    return (edges[:-1] + edges[1:]) / 2, low, high


def timeline_chart(
    timeline: pl.DataFrame,
    *,
    highlights: pl.DataFrame | None = None,
    labels: pl.DataFrame | None = None,
    threshold: float | None = None,
    column: str = "score",
    title: str = "",
    signals: Sequence[str] = (),
) -> Figure:
    """Draw one video's timeline: score faint under the intensity, threshold, picked and labelled spans, other signals.

    Args:
        timeline: timeline table of one video: `video`, `time` (s), `column` and/or `intensity` (0 to 1), other signals.
            Rows with NaN or null, and holes in time, are drawn as holes.
        highlights: span table of what was picked; spans of other videos are left out. Empty means "nothing picked".
        labels: span table of what a person marked, drawn hatched.
        threshold: the intensity (0 to 1) above which highlights were picked; None or infinite draws none.
        column: the raw score; "score_<class>" for one of several classes.
        title: "" writes the video's name.
        signals: names of further columns, each drawn in a strip of its own.

    Raises:
        HlkitError: for an empty timeline, several videos in it, or a missing column.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    timeline = _one_video(timeline, column, signals)
    threshold = threshold if threshold is not None and math.isfinite(threshold) else None
    video, times = str(timeline["video"][0]), timeline["time"].to_numpy()
    step = _frame_step(times)
    start, end = float(times[0]), float(times[-1]) + step
    picked = None if highlights is None else _spans_between(highlights, video, start, end)
    labelled = None if labels is None else _spans_between(labels, video, start, end)
    strips = _strips(picked, labelled)

    heights = [5.0, *[0.42] * len(strips), *[1.2] * len(signals)]
    layout = ConstrainedLayoutEngine(hspace=0.0, h_pad=0.03)
    figure = Figure(figsize=(12, 1.15 + 0.56 * sum(heights)), layout=layout)
    axes = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])

    _draw_scores(axes[0], timeline, column, step)
    axes[0].set_ylim(0, _top(timeline, column, threshold))
    _draw_picked(axes[0], threshold, picked)
    for axis, strip in zip(axes[1:], strips, strict=False):
        _draw_strip(axis, strip, length=end - start)
    for axis, name in zip(axes[1 + len(strips) :], signals, strict=True):
        _draw_raw(axis, times, column_values(timeline, name), step, color=GREEN, alpha=0.8)
        axis.set_ylabel(SIGNAL_NAMES.get(name, short_text(name)), fontsize="small")
        tidy(axis)

    ticks, texts = time_ticks(start, end)
    axes[-1].set_xticks(ticks, texts)
    axes[-1].set(xlim=(start, end), xlabel="time in the video (h:mm:ss)")
    for axis in axes[:-1]:
        axis.tick_params(axis="x", length=0, labelbottom=False)
    title = title or video
    # The legend stands above the plot, right: a long title needs a row of its own.
    axes[0].set_title(short_text(title), loc="left", fontweight="bold", pad=6 if len(title) <= 32 else 24)
    legend = axes[0].legend(loc="lower right", ncols=3, frameon=False, fontsize="small", borderaxespad=0.1)
    legend.set_bbox_to_anchor((1, 1))
    return figure


def save_figure(figure: Figure, target: Path, *, dpi: int = 150) -> Path:
    """Write `figure` to `target` in the format of its suffix (.png, .svg, .pdf), whole or not at all; return `target`.

    Raises:
        HlkitError: when matplotlib has no such format.
    """
    formats = sorted(figure.canvas.get_supported_filetypes())
    if target.suffix.lower().removeprefix(".") not in formats:
        raise HlkitError(f"A chart cannot be written as '{target.name}'. Name it with one of: .{', .'.join(formats)}.")
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return target


def _one_video(timeline: pl.DataFrame, column: str, signals: Sequence[str]) -> pl.DataFrame:
    """The timeline in order of time, checked: one video, its columns there, one row at least."""
    missing = [name for name in ("video", "time", *signals) if name not in timeline.columns]
    if missing or not {column, "intensity"} & set(timeline.columns):
        wanted = ", ".join(missing) or f"{column} or intensity"
        raise HlkitError(f"The timeline lacks the column {wanted}. It has: {', '.join(timeline.columns)}.")
    timeline = timeline.filter(pl.col("time").is_finite()).sort("time")
    if timeline.is_empty():
        raise HlkitError("The timeline is empty, so there is nothing to draw. Score the video first (`hlkit infer`).")
    if (videos := timeline["video"].unique().sort().to_list())[1:]:
        raise HlkitError(f"A chart shows one video; this timeline has {', '.join(videos)}. Filter it by its `video`.")
    return timeline


def _spans_between(spans: pl.DataFrame, video: str, start: float, end: float) -> pl.DataFrame:
    """The spans of `video` that touch `[start, end)`; all have a label."""
    if "video" in spans.columns:
        spans = spans.filter(pl.col("video") == video)
    if "label" not in spans.columns:
        spans = spans.with_columns(label=pl.lit("highlight"))
    return spans.filter((pl.col("start") < end) & (pl.col("end") > start))


def _frame_step(times: np.ndarray) -> float:
    """The usual distance between two rows in seconds; 1 when there is only one row."""
    steps = np.diff(times)
    return float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0


def column_values(table: pl.DataFrame, name: str) -> np.ndarray:
    """One column as (n,) f64, null as NaN."""
    return table[name].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _with_holes(times: np.ndarray, values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Put a NaN into each hole in time, so that no line bridges it."""
    holes = np.flatnonzero(np.diff(times) > GAP_STEPS * step) + 1
    return np.insert(times, holes, times[holes - 1] + step), np.insert(values, holes, np.nan)


def _top(timeline: pl.DataFrame, column: str, threshold: float | None) -> float:
    """Where the score axis ends: at 1, or lower when all of it lies in the lower half and would be a flat line."""
    columns = [column_values(timeline, name) for name in (column, "intensity") if name in timeline.columns]
    highest = float(np.nanmax(np.concatenate([*columns, [threshold or 0.0]])))
    return 1.1 * highest if 0 < highest < 0.5 else 1.02


def _draw_raw(axis: Axes, times: np.ndarray, values: np.ndarray, step: float, **style: Any) -> None:
    """A line when its points can be told apart, else the band between lowest and highest."""
    if len(times) > LONG:
        axis.fill_between(*envelope(times, values, ENVELOPE_COLUMNS), linewidth=0.4, **style)
    else:
        marker = "." if len(times) <= 60 else ""
        axis.plot(*_with_holes(times, values, step), linewidth=0.9, marker=marker, **style)


def _draw_scores(axis: Axes, timeline: pl.DataFrame, column: str, step: float) -> None:
    """The raw score faint, the intensity strong over it."""
    times = timeline["time"].to_numpy()
    if column in timeline.columns:
        colour = "0.78" if "intensity" in timeline.columns else BLUE
        _draw_raw(axis, times, column_values(timeline, column), step, color=colour, label="score of a frame", zorder=2)
    if "intensity" in timeline.columns:
        line = _with_holes(times, column_values(timeline, "intensity"), step)
        marker, width = "o" if len(times) == 1 else "", 1.2 if len(times) > LONG else 2.0
        axis.plot(*line, color=BLUE, linewidth=width, marker=marker, label="intensity (mean over the window)", zorder=4)
    axis.set_ylabel("probability of a highlight (0 to 1)")
    tidy(axis)


def _draw_picked(axis: Axes, threshold: float | None, picked: pl.DataFrame | None) -> None:
    """The threshold, what was picked as a shade behind the curve, and in the margin how much that is."""
    lines = []
    if threshold is not None:
        axis.axhline(threshold, color=VERMILLION, linestyle=(0, (6, 3)), linewidth=1.4, label="threshold", zorder=5)
        lines.append(f"threshold {threshold:.3g}")
    if picked is not None:
        bars = list(zip(picked["start"], picked["end"] - picked["start"], strict=True))
        whole_height = axis.get_xaxis_transform()
        axis.broken_barh(bars, (0, 1), transform=whole_height, color=BLUE, alpha=0.13, linewidth=0, zorder=3)
        whole = round(sum(picked["end"] - picked["start"]))
        lines.append(f"{_count(len(picked), 'highlight')},\n{whole // 60}:{whole % 60:02d} minutes")
    height = 0.5 if threshold is None else min(max(threshold / axis.get_ylim()[1], 0.12), 0.88)
    colour = "black" if threshold is None else VERMILLION
    axis.text(1.008, height, "\n".join(lines), transform=axis.transAxes, va="center", color=colour)


def _strips(picked: pl.DataFrame | None, labelled: pl.DataFrame | None) -> list[_Strip]:
    """The strips from top to bottom: for each class what was picked, then what is labelled."""
    tables = [table for table in (picked, labelled) if table is not None]
    classes = sorted({name for table in tables for name in table["label"]}) or ["highlight"]
    strips = []
    for number, name in enumerate(classes):
        prefix = f"{short_text(name, 16)}: " if len(classes) > 1 else ""
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        if picked is not None:
            strips.append(_Strip(f"{prefix}picked", picked.filter(pl.col("label") == name), colour, hatched=False))
        if labelled is not None:
            strips.append(_Strip(f"{prefix}labelled", labelled.filter(pl.col("label") == name), colour, hatched=True))
    return strips


def _draw_strip(axis: Axes, strip: _Strip, *, length: float) -> None:
    """Spans as bars, solid or hatched; each about a pixel wide at least, so that none vanishes in a long video."""
    spans, least = strip.spans, length / ENVELOPE_COLUMNS
    bars = [(start, max(end - start, least)) for start, end in spans.select("start", "end").iter_rows()]
    # Thick edges would fill narrow bars.
    width = 0.5 if any((spans["end"] - spans["start"]) < 8 * least) else 0.8
    if strip.hatched:
        axis.broken_barh(bars, (0.12, 0.76), linewidth=width, facecolor="white", edgecolor="black", hatch="////")
        axis.text(1.008, 0.5, _count(len(spans), "label"), transform=axis.transAxes, va="center")
    else:
        axis.broken_barh(bars, (0.12, 0.76), linewidth=width, color=strip.colour)
    axis.set_ylabel(strip.name, rotation=0, ha="right", va="center")
    axis.set(ylim=(0, 1), yticks=[])
    axis.spines["left"].set_visible(False)
    tidy(axis)


def tidy(axis: Axes) -> None:
    """A faint grid behind the data, and no box around it."""
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def short_text(text: str, length: int = 60) -> str:
    """`text` cut to `length` characters, its dollar signs kept from starting a formula."""
    return plain_text(text if len(text) <= length else text[: length - 1] + "…")


def plain_text(text: str) -> str:
    """`text` with its dollar signs kept from starting a formula."""
    return text.replace("$", r"\$")
