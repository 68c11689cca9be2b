"""Stages in which a person marks in the page: labeller, reviewer, explorer, box picker. Each returns its widget."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hlkit.frames import read_index
from hlkit.labels import DEFAULT_LABEL, REVIEW, read_labels
from hlkit.project import HlkitError, Project, format_time
from hlkit.sampling import WHOLE_PICTURE, box_of
from hlkit.split import CHUNK_SECONDS
from hlkit.stages import tables, views
from hlkit.stages.common import current_run, window_of
from hlkit.stages.labelling import check_names, label_spans
from hlkit.stages.materials import kept_levels
from hlkit.timeline import add_intensity

if TYPE_CHECKING:
    from hlkit.widgets.box_widget import BoxWidget
    from hlkit.widgets.journal import Journal
    from hlkit.widgets.span_widget import SpanWidget
    from hlkit.widgets.video_server import VideoServer

# Wide enough for a box to be drawn to the pixel of a 720p recording's face cam, at about 60 KB.
STILL_PIXELS, STILL_QUALITY = 640, 85
# Before the end there is a picture for certain, whatever length the container states.
LAST_PICTURE_SECONDS = 0.5


def labeller(
    project: Project,
    *,
    video: str | None = None,
    classes: Sequence[str] = (),
    chunk_seconds: float = CHUNK_SECONDS,
) -> SpanWidget:
    """A widget to mark the highlights of a recording with keys and buttons, chunk by chunk.

    Args:
        project: must hold the recording or its frames; with frames, each chunk is shown as a sheet of pictures.
        video: its id; unless named, the first one that nobody has labelled, else the first.
        classes: what can be marked; "highlight" and the classes that the labels have, unless named.
        chunk_seconds: how long the stretches are that are passed at once.

    Returns:
        A widget: `hlkit.notebook.show` shows it. Each mark goes into `labels/<id>.csv` at once.

    Raises:
        HlkitError: when there is no such video, or its label file has faults.
    """
    if not 1 <= chunk_seconds <= 3600:
        raise HlkitError(f"chunk_seconds={chunk_seconds:g} is not allowed; give 1 to 3600 seconds, such as 30.")
    video = video or _next_to_label(project)
    starts = np.arange(0.0, tables.length(project, video), chunk_seconds)
    chunks = pl.DataFrame({"start": starts}).with_columns(end=pl.col("start") + chunk_seconds)
    return _widget(project, video, classes=classes, queue=chunks)


def reviewer(project: Project, queue: pl.DataFrame, *, video: str, classes: Sequence[str] = ()) -> SpanWidget:
    """A widget that asks about spans one after the other: yes, no, or yes with other ends.

    A highlight with other ends decides the span that it touches: what is left of that was looked at and is background.

    Args:
        project: as for `labeller`.
        queue: the spans in the order in which they are asked, such as `hlkit.stages.review` gives: `start`, `end`, and
            optionally `video` (others are left out) and `reason`, a few words for the person.
        video: the id of the recording.
        classes: as for `labeller`.

    Returns:
        A widget; what is accepted, adjusted or rejected becomes a label with the origin `review`.

    Raises:
        HlkitError: as for `labeller`, or when the queue lacks its columns.
    """
    if missing := {"start", "end"} - set(queue.columns):
        raise HlkitError(f"The queue lacks {', '.join(sorted(missing))}; it has {', '.join(queue.columns)}.")
    if "video" in queue.columns:
        queue = queue.filter(pl.col("video") == video)
    return _widget(project, video, classes=classes, queue=queue, whole=False, origin=REVIEW)


def explorer(
    project: Project,
    *,
    video: str | None = None,
    run: str | None = None,
    window_seconds: float | None = None,
    classes: Sequence[str] = (),
) -> SpanWidget:
    """A widget of a video's timeline: scores, signals, picked and labelled spans, with threshold and length to set.

    Args:
        project: must hold scores of the video.
        video: its id; the first that the run has scored, unless named.
        run: whose scores; the project's last run.
        window_seconds: of the intensity; the project's setting, or 30.
        classes: as for `labeller`.

    Returns:
        A widget; its button writes the highlights as they are picked to `reels/<id>.csv`, as the stage `timeline` does.

    Raises:
        HlkitError: when the run has not scored the video.
    """
    run = current_run(project, run)
    video = video or tables.scored_videos(project, run)[0]
    window = window_of(project, window_seconds)
    scores = tables.read_scores(project, video, run=run)
    curve = add_intensity(scores.select("video", "time", "score"), window_seconds=window)

    def keep(threshold: float | None = None, target_seconds: float | None = None) -> str:
        from hlkit.stages.results import timeline

        said: list[str] = []
        minutes = None if target_seconds is None else target_seconds / 60
        chosen: dict[str, Any] = {"threshold": threshold, "minutes": minutes, "window_seconds": window}
        timeline(project, videos=[video], run=run, say=said.append, **chosen)
        return f"{said[-1]} Next: cut the reel."

    timeline = curve.join(_signals(project, video, curve), on="time", how="left")
    picked = project.reel(video, ".csv")
    wanted = read_labels(picked, video=video) if picked.is_file() else None
    target = None if wanted is None else float((wanted["end"] - wanted["start"]).sum())
    return _widget(project, video, classes=classes, timeline=timeline, target_seconds=target, keep=keep)


def box_picker(project: Project, *, video: str | None = None, time: float | None = None) -> BoxWidget:
    """A widget to draw the part of the picture that counts, such as a face cam, on a picture of the recording.

    Args:
        project: must hold the recording.
        video: its id; unless named, the first that has no box, else the first.
        time: of the picture that is shown first, in seconds; unless given, the middle of the recording.

    Returns:
        A widget: `hlkit.notebook.show` shows it. The box is kept for this video at once, as by `hlkit.stages.box`;
        `hlkit.stages.frames` then stores it.

    Raises:
        HlkitError: when there is no such video.
    """
    from hlkit.video import probe
    from hlkit.widgets.box_widget import BoxWidget

    known = tables.chosen_videos(project, [video] if video else None)
    video = next((name for name in known if views.kept_box(project, name) is None), known[0])
    info = probe(project.video(video))
    return BoxWidget(
        title=f"{video} ({format_time(info.duration)})",
        duration=info.duration,
        aspect=info.width / info.height,
        picture=functools.partial(_still, project.video(video), info.duration),
        read=lambda: views.kept_box(project, video),
        keep=lambda box: views.keep_box(project, video, box, origin=views.BY_HAND),
        time=info.duration / 2 if time is None else time,
    )


def _still(recording: Path, length: float, time: float) -> bytes:
    """The picture of a recording at a time, squashed to a square, as a JPEG."""
    import io

    from PIL import Image

    from hlkit.frames import stream_pictures

    start = min(max(time, 0.0), max(length - LAST_PICTURE_SECONDS, 0.0))
    with closing(stream_pictures(recording, fps=1, size=STILL_PIXELS, start=start, batch_size=1)) as batches:
        picture = next(batches)[0]
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG", quality=STILL_QUALITY)
    return target.getvalue()


def journal_of(project: Project, video: str) -> Journal:
    """The journal of a video's marks, `labels/<id>.jsonl`, which keeps `labels/<id>.csv` up to date."""
    from hlkit.widgets.journal import Journal

    table = project.labels(video)
    return Journal(
        table.with_name(f"{video}.jsonl"),
        video=video,
        duration=tables.length(project, video),
        read=lambda: read_labels(table, video=video) if table.is_file() else None,
        write=lambda spans: label_spans(project, spans, video=video, origin="hand", say=lambda line: None),
    )


def _next_to_label(project: Project) -> str:
    known = tables.chosen_videos(project, None)
    labelled = set(tables.labelled_videos(project))
    return next((video for video in known if video not in labelled), known[0])


def _widget(project: Project, video: str, *, classes: Sequence[str], **parts: Any) -> SpanWidget:
    """The widget of a video with whatever the project has to show of it."""
    from hlkit.widgets.pictures import Pictures
    from hlkit.widgets.span_widget import Recording, SpanWidget

    check_names(classes, what="class")  # before a mark rests on it
    duration, fps, aspect, url = tables.length(project, video), 30.0, 16 / 9, ""
    journal = journal_of(project, video)
    settings = views.frame_settings(project, video)
    if video in project.video_ids():
        from hlkit.video import probe

        info = probe(project.video(video))
        fps, aspect = float(info.fps), info.width / info.height
        url = _server().address(project.video(video))
    elif settings is not None:
        from hlkit.video import frame_rate

        fps = float(frame_rate(settings.fps))
    pictures = None
    if settings is not None:
        x0, y0, x1, y1 = box_of(settings.part or WHOLE_PICTURE)
        shown = aspect * (x1 - x0) / (y1 - y0)
        pictures = Pictures(project.frames, read_index(project.frames / video), aspect=shown)
    labels = {mark.label for mark in journal.marks.values()}
    names = tuple(dict.fromkeys([*(classes or (DEFAULT_LABEL,)), *sorted(labels)]))
    recording = Recording(f"{video} ({format_time(duration)})", duration, fps, aspect, url)
    return SpanWidget(recording, journal, pictures=pictures, classes=names, **parts)


@functools.cache
def _server() -> VideoServer:
    """One for all widgets of this process, so that a cell that is run again takes no further port."""
    from hlkit.widgets.video_server import VideoServer

    return VideoServer()


def _signals(project: Project, video: str, curve: pl.DataFrame) -> pl.DataFrame:
    """What earlier stages have kept of a video's sound, motion and chat, a row a time; `time` alone without any."""
    table = curve.select("time").sort("time")
    if views.frame_settings(project, video) is not None:
        table = table.join_asof(kept_levels(project, video), on="time", strategy="nearest")
    chat = tables.chat_of(project, video)
    if chat is not None:
        from hlkit.signals import chat_activity

        table = table.with_columns(chat_activity(chat, table["time"])["chat_rate"].alias("messages a second"))
    return table
