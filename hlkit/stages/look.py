"""Looks at what a project holds, for a person: its videos, their pictures, their labels, their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.frames import FrameReader, read_index
from hlkit.project import HlkitError, Project, format_time
from hlkit.stages import runs, tables, views
from hlkit.stages.common import current_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overview(project: Project) -> pl.DataFrame:
    """One row a video: `video`, `length` (h:mm:ss), `frames` (stored), `labels` (spans) and `marked` (h:mm:ss)."""
    rows = []
    for video in tables.chosen_videos(project, None):
        spans = tables.labels_of(project, video)
        stored = len(read_index(project.frames / video)) if project.index(video).is_file() else 0
        marked = 0.0 if spans is None else float((spans["end"] - spans["start"]).sum())
        length = format_time(tables.length(project, video))
        rows.append((video, length, stored, 0 if spans is None else len(spans), format_time(marked)))
    return pl.DataFrame(rows, schema=["video", "length", "frames", "labels", "marked"], orient="row")


def contact_sheet(project: Project, video: str, *, pictures: int = 18) -> Figure:
    """Pictures of a video at even distances, with their times."""
    frames = _frames(project, video)
    rows = np.unique(np.linspace(0, len(frames) - 1, min(pictures, len(frames))).round().astype(int))
    return _sheet(project, video, frames[rows.tolist()], f"{video}: {len(frames):,} frames")


def label_sheet(project: Project, video: str) -> Figure:
    """The picture in the middle of each labelled span, with its time.

    Raises:
        HlkitError: when the video has no labels or no frames.
    """
    spans = tables.labels_of(project, video)
    if spans is None or spans.is_empty():
        raise HlkitError(
            f"'{video}' has no labels yet. Mark some highlights first (notebook 04, or `hlkit label FILE`)."
        )
    frames = _frames(project, video)
    middles = ((spans["start"] + spans["end"]) / 2).to_numpy()
    rows = np.searchsorted(frames["time"].to_numpy(), middles, side="right") - 1
    return _sheet(project, video, frames[rows.clip(min=0).tolist()], f"{video}: {len(spans)} labelled spans")


def score_chart(project: Project, video: str, *, run: str | None = None) -> Figure:
    """A video's scores over time."""
    from hlkit.charts import timeline_chart

    return timeline_chart(tables.read_scores(project, video, run=current_run(project, run)), title=video)


def training_chart(project: Project, *, run: str | None = None) -> Figure:
    """A run's loss and average precision by epoch."""
    from hlkit.curves import training_chart as chart

    run = current_run(project, run)
    return chart(runs.checkpoint(project, run).with_name("metrics.csv"), title=run)


def _frames(project: Project, video: str) -> pl.DataFrame:
    views.same_frame_settings(project, [video])
    return read_index(project.frames / video)


def _sheet(project: Project, video: str, frames: pl.DataFrame, title: str) -> Figure:
    from hlkit.explain import read_picture
    from hlkit.gallery import picture_gallery

    reader = FrameReader(project.frames)
    rows = list(frames.iter_rows(named=True))
    pictures, captions = [read_picture(reader, row) for row in rows], [format_time(row["time"]) for row in rows]
    return picture_gallery(pictures, captions, title=title, shape=views.shown_shape(project, video))
