"""What drove a peak: how much each second, and each source in it, raised the score of one moment.

By occlusion (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks"): a stretch of a source is
replaced by what is average for it, and the fall of the score is that stretch's contribution. It is told in log-odds,
since a sure model's probability hardly moves. Contributions need not add up: one second can say what another says too.
"""

from __future__ import annotations

import math
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from hlkit.charts import plain_text
from hlkit.clips import find_runs
from hlkit.labels import TIME_TOLERANCE
from hlkit.project import HlkitError, format_time
from hlkit.sequence import SequenceModel, Sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACH_SECONDS = 15.0
# What a network reads beyond the outermost second that is hidden, so that its answer there rests on something.
CONTEXT_SECONDS = 15.0
# The last frame stands for no longer than this, so a later time has none.
LAST_FRAME_SECONDS = 1.0
EVERYTHING = "all together"
# Told apart in black and white by their hatching, and by the colour-blind (Okabe and Ito).
STYLES = (("#0072B2", ""), ("#E69F00", "///"), ("#009E73", "..."), ("#CC79A7", "xxx"))


def explain_peak(
    model: SequenceModel,
    sources: Sources,
    frames: pl.DataFrame,
    time: float,
    *,
    reach_seconds: float = REACH_SECONDS,
    step_seconds: float = 1.0,
) -> pl.DataFrame:
    """How much each second around a moment, and each source in it, contributed to the moment's score.

    Args:
        model: a sequence model.
        sources: of the video, a row a frame.
        frames: `video`, `frame`, `time`, of one video in order of time.
        time: the moment, seconds; the score is that of the last frame that is not later, before
            it is set off against its surroundings and smoothed. In a gap that is the frame before the gap.
        reach_seconds: how far before and after the moment to look, within its run of consecutive frames; 0 or more.
        step_seconds: length of what is hidden at once; above 0.

    Returns:
        A row for each step and source, and one a step for all sources together (`source` "all together"): `start` f64
        and `end` f64, s; `source` str; `contribution` f32: by how much the log-odds of a highlight fall when that
        source is average in `[start, end)`; 1 stands for odds 2.7 times as high.

    Raises:
        HlkitError: when the video has no frame at that time, or for a reach or step that can't be.
    """
    if not 0 <= reach_seconds < math.inf or not 0 < step_seconds < math.inf:
        raise HlkitError(
            f"reach_seconds is {reach_seconds} and step_seconds {step_seconds}; give 0 or more and more than 0 seconds."
        )
    if frames.is_empty():
        raise HlkitError("There are no frames to explain. Give those of the video.")
    times, run = frames["time"].to_numpy(), find_runs(frames)
    if not times[0] - TIME_TOLERANCE <= time <= times[-1] + LAST_FRAME_SECONDS:
        asked = format_time(time) if math.isfinite(time) else str(time)
        span = f"{format_time(times[0])} to {format_time(times[-1])}"
        raise HlkitError(f"There is no frame at {asked}; the frames go from {span}. Give a time among them.")
    peak = int(np.searchsorted(times, time + TIME_TOLERANCE, side="right")) - 1
    inputs = model.inputs(sources, len(frames))
    near = np.flatnonzero((run == run[peak]) & (np.abs(times - times[peak]) <= reach_seconds))
    starts = np.arange(float(times[near[0]]), float(times[near[-1]]) + TIME_TOLERANCE, step_seconds)
    # The last column of a source tells that it is there, and stays.
    values = {name: list(range(part.start, part.stop - 1)) for name, part in model.columns().items()}
    values[EVERYTHING] = [column for part in values.values() for column in part]
    # Every variant is a window of its own around the peak, so that all are scored at once.
    context = model.config.frames_in(reach_seconds + CONTEXT_SECONDS)
    first, last = np.searchsorted(run, [run[peak], run[peak] + 1])
    window = slice(max(int(first), peak - context), min(int(last), peak + context + 1))
    rows, variants = [], [inputs[window]]
    for start in starts:
        inside = torch.from_numpy(
            (times[window] >= start - TIME_TOLERANCE) & (times[window] < start + step_seconds - TIME_TOLERANCE)
        )
        for source, columns in values.items():
            variant = inputs[window].clone()
            variant[inside.nonzero(), torch.tensor(columns)] = 0
            variants.append(variant)
            rows.append((float(start), float(start + step_seconds), source))
    scores = model.score_windows(torch.stack(variants))[:, peak - window.start].double().logit(eps=1e-6)
    table = pl.DataFrame(rows, schema=["start", "end", "source"], orient="row")
    return table.with_columns(contribution=pl.Series((scores[0] - scores[1:]).numpy(), dtype=pl.Float32))


def peak_chart(contributions: pl.DataFrame, *, time: float, title: str = "") -> Figure:
    """Draw what `explain_peak` found: bars a second, a row of them for each source, the moment marked.

    Args:
        contributions: as `explain_peak` returns them, one row at least.
        time: the moment, seconds.
        title: above the chart.

    Raises:
        HlkitError: for no contributions.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    if contributions.is_empty():
        raise HlkitError("There are no contributions to draw. Give the table of `explain_peak`.")
    names = contributions["source"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(9, 0.8 + 1.3 * len(names)), layout="constrained")
    figure.suptitle(plain_text(title), fontweight="bold")
    limit = max(0.5, float(contributions["contribution"].abs().max() or 0))  # pyright: ignore[reportArgumentType]
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name, (colour, hatch) in zip(axes, names, cycle(STYLES), strict=False):
        part = contributions.filter(pl.col("source") == name)
        width = part["end"] - part["start"]
        axis.bar(part["start"], part["contribution"], width, align="edge", color=colour, hatch=hatch, edgecolor="white")
        axis.axhline(0, color="black", linewidth=0.6)
        axis.axvline(time, color="black", linestyle="--", linewidth=1)
        axis.set_ylim(-limit * 1.1, limit * 1.1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_time(max(0, value))))
    axes[-1].set_xlabel("time (h:mm:ss); bars: fall of the log-odds when this second of the source is hidden")
    return figure
