"""What a model got most wrong: frames outside the labels that it scored high, frames inside them that it scored low.

One moment counts once: neighbours in time look alike, and twelve pictures of the same second teach nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hlkit.charts import plain_text
from hlkit.explain import read_picture
from hlkit.frames import FrameReader
from hlkit.gallery import draw_picture
from hlkit.project import HlkitError, format_time

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FALSE_ALARM, MISSED = "false alarm", "missed"
SECTIONS = {
    FALSE_ALARM: "Not labelled as highlights, but scored highest",
    MISSED: "Labelled as highlights, but scored lowest",
}


def find_mistakes(
    frames: pl.DataFrame, scores: pl.DataFrame, n: int = 12, *, spacing_seconds: float = 10.0
) -> pl.DataFrame:
    """The worst mistakes: `n` highest-scoring frames that are not highlights, `n` lowest-scoring ones that are.

    Args:
        frames: labelled frame table; rows without a label (null or below 0) are left out.
        scores: score table; each frame takes the score that is nearest in time, within half a frame step. With several
            classes the score is the sum over all but the background.
        n: at most this many of either kind.
        spacing_seconds: two of a kind from one video are at least this far apart, so that each shows another moment.

    Returns:
        The frame table's columns with `score` f32 (0 to 1) and `kind` ("false alarm" or "missed"), worst first.

    Raises:
        HlkitError: for an empty table, frames without labels, or scores that belong to other frames.
    """
    table = _scored(_labelled(frames), _highlight_scores(scores))
    highlights = pl.col("label") > 0
    alarms = _spread(table.filter(~highlights).sort("score", descending=True, maintain_order=True), n, spacing_seconds)
    missed = _spread(table.filter(highlights).sort("score", maintain_order=True), n, spacing_seconds)
    return pl.concat([alarms.with_columns(kind=pl.lit(FALSE_ALARM)), missed.with_columns(kind=pl.lit(MISSED))])


def mistakes_gallery(
    mistakes: pl.DataFrame, root: Path, *, columns: int = 6, title: str = "", shape: float | None = None
) -> Figure:
    """Draw what `find_mistakes` found: each frame's picture under its video, time (h:mm:ss) and score (0 to 1).

    Args:
        mistakes: as `find_mistakes` returns it.
        root: the folder of the frame stores.
        columns: pictures a row, at most.
        title: above all.
        shape: width by height of what the frames show; as they are stored, unless given.

    Raises:
        HlkitError: for an empty table, or a frame that cannot be read.
    """
    from matplotlib.figure import Figure

    if mistakes.is_empty():
        raise HlkitError("There are no mistakes to show: the table is empty.")
    reader, several = FrameReader(root), mistakes["video"].n_unique() > 1
    sections = [(text, mistakes.filter(pl.col("kind") == kind)) for kind, text in SECTIONS.items()]
    sections = [(text, table) for text, table in sections if len(table)]
    columns = min(columns, max(len(table) for _, table in sections))
    heights = [-(-len(table) // columns) for _, table in sections]
    size = (2.0 * columns, 0.3 + sum((0.35 + 2 / max(shape or 1, 1)) * rows + 0.35 for rows in heights))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(plain_text(title), fontweight="bold")
    parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (text, table), rows in zip(parts, sections, heights, strict=True):
        part.suptitle(text, x=0.01, ha="left", fontsize="medium")
        axes = part.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, row in zip(axes, table.iter_rows(named=True), strict=False):
            draw_picture(axis, read_picture(reader, row), shape)
            video = f"{row['video'][:24]}\n" if several else ""
            axis.set_title(plain_text(f"{video}{format_time(row['time'])}  score {row['score']:.2f}"), fontsize="small")
    return figure


def _labelled(frames: pl.DataFrame) -> pl.DataFrame:
    """The rows of a frame table that have a label."""
    if frames.is_empty():
        raise HlkitError("The frame table is empty. Extract frames first (notebook 02, or `hlkit frames`).")
    if "label" in frames.columns and len(known := frames.filter(pl.col("label") >= 0)):
        return known
    raise HlkitError(
        "The frames have no labels, so nothing is known to be a mistake. Label the video first (notebook 04)."
    )


def _highlight_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """`video`, `time`, `score`: the probability of any class but the background; rows without one are left out."""
    names = [name for name in scores.columns if name.startswith("score_")]
    if "score" not in scores.columns and not names:
        raise HlkitError(f"The score table has no column score. It has: {', '.join(scores.columns)}.")
    score = pl.col("score") if "score" in scores.columns else pl.sum_horizontal(names)
    return scores.select("video", "time", score=score.cast(pl.Float32)).filter(pl.col("score").is_finite())


def _frame_step(frames: pl.DataFrame) -> float:
    """The usual distance in seconds between two frames of one video; 1 when there is no second frame."""
    steps = frames.sort("video", "time").select(pl.col("time").diff().over("video")).to_series()
    median = steps.filter(steps > 0).median()
    return float(median) if isinstance(median, float) else 1.0


def _scored(frames: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """`frames` by video and time with the `score` nearest in time; rows without one within half a step are left out."""
    reach = 0.5 * _frame_step(frames) + 1e-6
    parts = []
    for (video,), part in frames.drop("score", strict=False).group_by("video"):
        theirs = scores.filter(pl.col("video") == video).select("time", "score").sort("time")
        parts.append(part.sort("time").join_asof(theirs, on="time", strategy="nearest", tolerance=reach))
    table = pl.concat(parts).filter(pl.col("score").is_not_null()).sort("video", "time")
    if table.is_empty():
        raise HlkitError("No score belongs to any labelled frame. Score the same videos first (`hlkit infer`).")
    return table


def _spread(table: pl.DataFrame, n: int, spacing_seconds: float) -> pl.DataFrame:
    """The first `n` rows that keep their distance in time from all those taken before them."""
    taken: list[int] = []
    times: dict[str, list[float]] = {}
    for number, (video, time) in enumerate(table.select("video", "time").iter_rows()):
        if len(taken) == n:
            break
        if all(abs(time - other) >= spacing_seconds for other in times.get(video, [])):
            taken.append(number)
            times.setdefault(video, []).append(time)
    return table[taken]
