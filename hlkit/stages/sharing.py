"""Labels for others and of others: written for another program, and held against those of a second labeller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from hlkit.agreement import Agreement, agreement
from hlkit.labels import Fps, LabelFormat, write_labels
from hlkit.project import VIDEO_SUFFIXES, HlkitError, Project, format_time
from hlkit.stages import tables
from hlkit.stages.common import Say
from hlkit.stages.labelling import imported
from hlkit.stages.views import kept_box


def export_labels(
    project: Project,
    target: Path | str,
    *,
    videos: Sequence[str] | None = None,
    format: LabelFormat = "csv",
    fps: Fps | None = None,
    say: Say = print,
) -> Path:
    """Write the labels of the project to one file for another program.

    Args:
        project: must hold labels.
        target: the file; one that is there is replaced.
        videos: those that have labels, unless named.
        format: one of `hlkit.labels.WRITTEN_FORMATS`.
        fps: frames a second, for the formats that count frames.
        say: takes the lines for the user.

    Returns:
        The file.

    Raises:
        HlkitError: when there are no labels, the format can't hold them, or the target is a recording's or a label
            file of the project; the file does not change then.
    """
    target = Path(target)
    is_own = target.suffix.lower() in VIDEO_SUFFIXES or target.resolve().parent == project.root / "labels"
    if is_own or target.is_dir():
        raise HlkitError(
            f"Labels are not written over {target}, the name of a recording, a folder or the project's own labels. "
            "Give another one, such as labels.csv."
        )
    chosen = list(videos or tables.labelled_videos(project))
    spans = _marks(project, chosen)
    boxes = {video: part for video in chosen if (part := kept_box(project, video)) is not None}
    write_labels(spans, target, format=format, fps=fps, boxes=boxes)
    say(f"{len(spans)} spans of {', '.join(chosen)} in {target}, as {format}.")
    return target


def agree(
    project: Project,
    source: Path | str,
    *,
    video: str | None = None,
    fps: Fps | None = None,
    format: LabelFormat | None = None,
    classes: Mapping[str, str] | None = None,
    say: Say = print,
) -> Agreement:
    """Hold the labels of a file against the project's: how far two labellers agree. Nothing changes.

    Args:
        project: must have labels of the videos that the file names.
        source, video, fps, format, classes: as for `label`.
        say: takes the lines for the user.

    Raises:
        HlkitError: for a faulty file, one that names no video, or when the project has no labels of one of its videos.
    """
    spans = imported(project, Path(source), video, fps, format, classes)
    if spans.is_empty() and video is None:
        dropped = " but of classes that are dropped" if classes else ""
        raise HlkitError(
            f"{source} holds no labels{dropped}, so it names no video to compare. Give a file with a row for each "
            "span, or the video that it is of (--video ID)."
        )
    videos: list[str] = [video] if video else spans["video"].unique().sort().to_list()
    result = agreement(
        _marks(project, videos), spans, durations={name: tables.length(project, name) for name in videos}
    )
    seen = format_time(result.seconds)
    say(
        f"{', '.join(videos)}: Cohen's kappa {result.kappa:.2f} (1 is full agreement, 0 that of chance); the same "
        f"class in {result.same:.1%} of {seen} that both looked at; F1 of spans {result.event_f1:.2f}."
    )
    return result


def _marks(project: Project, videos: Sequence[str]) -> pl.DataFrame:
    """All that was said of these videos, with its origin where that is known."""
    marks = {video: tables.marks_of(project, video) for video in videos}
    there = [table for table in marks.values() if table is not None]
    if not there or len(there) < len(marks):
        missing = ", ".join(video for video, table in marks.items() if table is None) or project.root
        raise HlkitError(f"{missing}: no labels. Mark some highlights first (notebook 04, or `hlkit label FILE`).")
    return pl.concat(there, how="diagonal")
