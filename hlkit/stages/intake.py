"""Stages that bring things in: recordings, frames, labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hlkit.frames import extract_frames
from hlkit.labels import check_spans, merge_spans, parse_spans, read_labels, write_labels
from hlkit.project import Project, fingerprint, format_time
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done


def download(
    project: Project,
    source: str,
    *,
    video: str | None = None,
    quality: str = "analysis",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> str:
    """Bring one recording into the project and return its id.

    Args:
        project: where it goes (`videos/<id>.mp4` and `<id>.json`).
        source: a file on this computer, or the link or number of a Twitch VOD.
        video: the id it gets; made from the source's name unless given.
        quality: `analysis` (the rendition nearest to 360p), `source` (the best), or a name that the VOD offers.
        redo: fetch it again.
        progress: show a progress bar.
        say: takes the lines for the user.
    """
    from hlkit.download import default_id
    from hlkit.download import download as fetch

    video = video or default_id(source)
    made_from = {"source": source, "quality": quality}
    if already_done(project, "download", video, made_from, redo, say):
        return video
    target = fetch(source, project.videos, video_id=video, quality=quality, progress=progress)
    project.mark_done("download", video, made_from, [target, target.with_suffix(".json")])
    say(f"{video}: downloaded, {target.stat().st_size / 1e6:,.1f} MB.")
    return video


def frames(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    fps: str = "3",
    size: int = 128,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[str]:
    """Store `fps` pictures a second of `size` x `size` pixels for each video (all of them unless named)."""
    chosen = tables.chosen_videos(project, videos)
    for video in chosen:
        source = project.video(video)
        made_from = {"video": fingerprint(source), "fps": str(fps), "size": size}
        if already_done(project, "frames", video, made_from, redo, say):
            continue
        folder = project.frames / video
        if redo:
            shutil.rmtree(folder, ignore_errors=True)
        index = extract_frames(source, folder, video_id=video, fps=fps, size=size, progress=progress)
        project.mark_done("frames", video, made_from, [project.index(video), *sorted(folder.glob("*.tar"))])
        say(f"{video}: {len(index):,} frames of {size} px, {fps} a second.")
    return chosen


def label(
    project: Project, source: Path | str, *, video: str | None = None, redo: bool = False, say: Say = print
) -> pl.DataFrame:
    """Take the label spans of a CSV file into the project: `labels/<id>.csv` for each video that it names.

    Args:
        project: must already have the videos, so that the spans can be checked against their lengths.
        source: a CSV with the columns `video,start,end,label`; see `hlkit.labels.read_labels`.
        video: the video that all spans belong to; the column is then not needed.
        redo: take them again.
        say: takes the lines for the user.

    Raises:
        HlkitError: lists every fault of the file at once; no label changes then.
    """
    return _keep_labels(project, read_labels(Path(source), video=video), str(source), redo, say)


def label_text(project: Project, text: str, *, video: str, say: Say = print) -> pl.DataFrame:
    """Add typed highlights to a video's labels, such as `0:01:10-0:01:25, 0:07:00-0:07:31.5`.

    Raises:
        HlkitError: for a stretch that can't be read or lies outside the video; no label changes then.
    """
    spans = parse_spans(text, video=video)
    known = tables.labels_of(project, video)
    merged = merge_spans(spans if known is None else pl.concat([known, spans]))
    return _keep_labels(project, merged, "The typed times", redo=False, say=say)


def _keep_labels(project: Project, spans: pl.DataFrame, source: str, redo: bool, say: Say) -> pl.DataFrame:
    durations = {video: tables.length(project, video) for video in spans["video"].unique(maintain_order=True)}
    spans = check_spans(spans, durations, source=source)
    for video in durations:
        mine = spans.filter(pl.col("video") == video)
        made_from = {"spans": mine.write_csv()}
        if already_done(project, "label", video, made_from, redo, say):
            continue
        write_labels(mine, project.labels(video))
        project.mark_done("label", video, made_from, [project.labels(video)])
        seconds = float((mine["end"] - mine["start"]).sum())
        say(f"{video}: {len(mine)} spans, {format_time(seconds)} of {format_time(durations[video])}.")
    return spans
