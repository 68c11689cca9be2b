"""Stages that make what a person wanted: the timeline, the highlights, the reel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from hlkit.cuts import Cut, count_beyond, plan_cuts
from hlkit.events import row_seconds
from hlkit.gops import CutMode
from hlkit.labels import TIME_TOLERANCE, covered, read_labels, write_labels
from hlkit.layout import Look, Shape, check_copying
from hlkit.project import HlkitError, HlkitWarning, Project, fingerprint, format_time, put_aside
from hlkit.sampling import Box
from hlkit.stages import runs, tables
from hlkit.stages.common import Say, already_done, current_run, window_of
from hlkit.stages.sequences import held_out_scores
from hlkit.timeline import Level, PickRules, add_intensity, find_threshold, pick_highlights
from hlkit.video import probe

# Thresholds that a wanted precision is looked for among: they are quantiles of the intensity.
THRESHOLDS = 400


def timeline(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    window_seconds: float | None = None,
    threshold: float | None = None,
    minutes: float | None = None,
    precision: float | None = None,
    merge_gap_seconds: float = PickRules.merge_gap_seconds,
    min_seconds: float = PickRules.min_seconds,
    pad_seconds: float = PickRules.pad_seconds,
    snap: bool = False,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[Path]:
    """Draw the timeline and pick the highlights: `reels/<id>.png` and `reels/<id>.csv`. Returns the pictures.

    The CSV is a label file, and may be edited by hand before the reel is cut. Run again with `snap`, the edited ends
    are snapped too; ends that were snapped before stay.

    Args:
        project: must hold scores of the videos.
        videos: those that the run has scored, unless named.
        run: whose scores; the project's last run.
        window_seconds: of the intensity; the project's setting, or 30.
        threshold: pick where the intensity is at least this, 0 to 1.
        minutes: pick the best, so many minutes a video at most.
        precision: pick above the lowest threshold at which so large a share of what is picked (0 to 1, of its time) was
            right in the videos that the model learned from, on chunks that were held back.
            With none of the three, a video's highlights get the same share of it as the labels have of those videos.
        merge_gap_seconds, min_seconds, pad_seconds: which gaps are closed, how short a highlight may be, and what is
            added on both sides (see `hlkit.timeline.PickRules`).
        snap: move each end to a shot change, or else to a quiet moment, within a second (see `hlkit.snapping`). Needs
            the recordings. Without it, what was snapped before stays so until `redo`.
        redo: draw and pick again, also over a CSV that was edited, which is kept once more in `reels/<id>.csv.old`.
        progress: show a progress bar while snapping.
        say: takes the lines for the user.
    """
    wishes = {"threshold": threshold, "minutes": minutes, "precision": precision}
    if len(given := [f"{name}={value:g}" for name, value in wishes.items() if value is not None]) > 1:
        raise HlkitError(f"{' and '.join(given)} can't be told together; give one of them.")
    if minutes is not None and not 0 < minutes < np.inf:
        raise HlkitError(f"minutes={minutes:g} is not allowed; give a number above 0, such as 10.")
    if threshold is not None and not 0 < threshold <= 1:
        raise HlkitError(f"The threshold is {threshold:g}. Intensity is above 0 and at most 1, such as 0.4.")
    rules = PickRules(merge_gap_seconds=merge_gap_seconds, min_seconds=min_seconds, pad_seconds=pad_seconds)
    run = current_run(project, run)
    window = window_of(project, window_seconds)
    if precision is not None:
        threshold = _threshold_for(project, run, window, precision, rules, say)
    pictures = []
    for video in tables.scored_videos(project, run, videos):
        picture, table = project.reel(video, ".png"), project.reel(video, ".csv")
        pictures.append(picture)
        labels = tables.labels_of(project, video)
        length = tables.length(project, video)
        curve = add_intensity(tables.read_scores(project, video, run=run), window_seconds=window)
        # Of a video that is scored in part, the highlights get their share of that part.
        scored = float(row_seconds(curve).sum())
        target = None if threshold is not None else _wanted_seconds(project, run, minutes, scored)
        made_from = {"scores": fingerprint(project.scores(run, video)), "window": window, "threshold": threshold}
        made_from |= {"target": target, "labels": None if labels is None else labels.write_csv()}
        made_from |= {} if rules == PickRules() else {"rules": asdict(rules)}
        if table.is_file() and already_done(project, "timeline", video, made_from, redo, say):
            if snap:
                _snap(project, video, progress, say)
            continue
        durations = {video: length}
        level = Level(threshold or 0.0, rules.release)
        if target is not None:
            level = find_threshold(curve, target, rules=rules, durations=durations)
        chosen: dict[str, Any] = asdict(rules) | {"release": level.release}
        highlights = pick_highlights(curve, threshold=level.threshold, durations=durations, **chosen)
        _keep_edited(project, video, say)
        write_labels(highlights, table)
        _note_picks(project, video)
        _draw(picture, curve, highlights, labels, level.threshold, video)
        project.mark_done("timeline", video, made_from, [picture])
        seconds = float((highlights["end"] - highlights["start"]).sum())
        say(f"{video}: {len(highlights)} highlights, {format_time(seconds)} of {format_time(length)}.")
        if snap:
            _snap(project, video, progress, say)
    return pictures


def _note_picks(project: Project, video: str) -> None:
    project.mark_done("picks", video, {"list": fingerprint(project.reel(video, ".csv"))}, [])


def _is_edited(project: Project, video: str) -> bool:
    """Whether somebody has written into the list of highlights what was not picked."""
    table = project.reel(video, ".csv")
    return table.is_file() and project.made_from("picks", video) != {"list": fingerprint(table)}


def _keep_edited(project: Project, video: str, say: Say) -> None:
    if _is_edited(project, video):
        old = put_aside(project.reel(video, ".csv"))
        say(f"{video}: its highlights were not as they had been picked; those of before are in {old}.")


def _snap(project: Project, video: str, progress: bool, say: Say) -> None:
    """Move the ends of the highlights in the CSV, wherever they came from, to better cut points."""
    from hlkit.snapping import find_snap_points, snap_spans

    table, recording = project.reel(video, ".csv"), project.video(video)
    before, content = read_labels(table, video=video).sort("start", "end"), fingerprint(recording)
    times = [*before["start"], *before["end"]]
    known = project.made_from("snap", video)
    if already_done(project, "snap", video, {"video": content, "ends": times}, False, say):
        return
    # A second look from where an end was moved to might move it on.
    fixed = set(known.get("ends", ())) if known.get("video") == content else set()
    points = find_snap_points(recording, sorted(set(times) - fixed), progress=progress)
    snapped = snap_spans(before, points, duration=probe(recording).duration, fixed=fixed)
    edited = _is_edited(project, video)
    write_labels(snapped, table)
    if not edited:
        _note_picks(project, video)
    after = read_labels(table, video=video)
    ends = [*after["start"], *after["end"]]
    project.mark_done("snap", video, {"video": content, "ends": ends}, [])
    count = sum(abs(old - new) > TIME_TOLERANCE for old, new in zip(times, ends, strict=True))
    seconds = format_time(float((after["end"] - after["start"]).sum()))
    say(f"{video}: {count} of {len(times)} ends moved to a shot change or a quiet moment; {seconds} in all now.")


def _wanted_seconds(project: Project, run: str, minutes: float | None, length: float) -> float:
    if minutes is not None:
        return minutes * 60
    share = tables.marked_share(project, run)
    if not share:
        names = ", ".join(runs.learned_from(project, run) or tables.train_videos(project))
        raise HlkitError(
            f"{names}: no highlights are marked, so nothing tells how long a reel should be. "
            "Mark some (notebook 04, or `hlkit label FILE`), or give minutes or a threshold."
        )
    return share * length


def _threshold_for(project: Project, run: str, window: float, precision: float, rules: PickRules, say: Say) -> float:
    """The lowest threshold at which so much of what is picked from held-back chunks is highlight."""
    if not 0 < precision <= 1:
        raise HlkitError(f"The precision is {precision:g}. Give a share above 0 and at most 1, such as 0.8.")
    held_out = add_intensity(held_out_scores(project, run), window_seconds=window)
    truth = held_out["label"].to_numpy() > 0
    best = 0.0
    for threshold in np.unique(np.quantile(held_out["intensity"], np.linspace(0, 1, THRESHOLDS))).tolist():
        picks = pick_highlights(held_out, threshold=threshold, **asdict(rules)) if threshold > 0 else None
        picked = truth[:0] if picks is None else covered(held_out, picks)
        reached = float(truth[picked].mean()) if picked.any() else 0.0
        if reached >= precision:
            say(f"{run}: from {threshold:.3f} on, {reached:.0%} of what is picked on held-back chunks is highlight.")
            return threshold
        best = max(best, reached)
    raise HlkitError(
        f"No threshold has a precision of {precision:g}; the best has {best:.2f}. Ask for less, label more video and "
        f"train again, or use a window nearer to the length of a highlight than {window:g} s (window_seconds)."
    )


def _draw(
    picture: Path,
    curve: pl.DataFrame,
    highlights: pl.DataFrame,
    labels: pl.DataFrame | None,
    threshold: float,
    title: str,
) -> None:
    from hlkit.charts import save_figure, timeline_chart

    line = threshold if math.isfinite(threshold) else None
    save_figure(timeline_chart(curve, highlights=highlights, labels=labels, threshold=line, title=title), picture)


def reel(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    cut: CutMode | None = None,
    overlay: Literal["none", "score"] = "none",
    title: str | None = None,
    fade_seconds: float = 0.0,
    shape: Shape = "source",
    face: Box | None = None,
    source: Literal["local", "remote"] = "local",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[Path]:
    """Cut the highlights of `reels/<id>.csv` into `reels/<id>.mp4`. Returns the reels.

    Args:
        project: must have the recordings and their highlights.
        videos: those that have highlights, unless named.
        cut: `smart` copies what lies between the cuts' first and last keyframes and encodes the rest, exact to the
            picture; `keyframe` goes from keyframe to keyframe and encodes no picture; `encode` encodes all. None is
            `smart`, or `encode` with an overlay or another shape. The reel's own cuts are written to
            `reels/<id>.cuts.csv`.
        overlay: `score` draws the score on the picture.
        title: shown for the first two seconds of each cut; `{name}`, `{number}`, `{time}` and `{score}` may stand in
            it, and `auto` is the first three.
        fade_seconds: by how much cuts overlap, one passing over into the next, 0 to 5.
        shape: `source` is the recording's; `16:9` as high; `9:16` is vertical, the middle of the game (see
            `hlkit.layout`).
        face: where the face cam is (`x0, y0, x1, y1`, each 0 to 1), to stand above the game; with `9:16` only.
        source: cut the `local` recording, or the best rendition of the `remote` site that it came from: only the
            highlights' own stretches are fetched, and laid over the recording to the frame.
        redo: cut again.
        progress: show a progress bar.
        say: takes the lines for the user.

    Raises:
        HlkitError: when highlights or the recording are missing or none shows a picture, for wishes that don't go
            together, and as `hlkit.reel.write_reel` and `hlkit.remote.write_remote_reel` do.
    """
    from hlkit.reel import write_cut_list, write_reel
    from hlkit.remote import find_source, write_remote_reel

    look = Look(title, fade_seconds, shape, face)
    check_copying(cut, overlay, look)
    needs_scores = overlay == "score" or look.asks("score")
    reels = []
    for video in tables.highlight_videos(project, videos):
        table, target, recording = project.reel(video, ".csv"), project.reel(video), project.video(video)
        made_from = {"highlights": fingerprint(table), "video": fingerprint(recording), "overlay": overlay}
        made_from |= {"source": source, "cut": cut, **asdict(look)}
        if needs_scores:
            scored = project.scores(current_run(project, None), video)
            made_from["scores"] = fingerprint(scored) if scored.is_file() else None
        reels.append(target)
        if already_done(project, "reel", video, made_from, redo, say):
            continue
        highlights = read_labels(table, video=video)
        scores = tables.read_scores(project, video, run=current_run(project, None)) if needs_scores else None
        cuts = _plan(highlights, recording, table)
        if source == "remote" and cuts:
            distant = find_source(tables.source_of(project, video))
            cuts = write_remote_reel(
                recording, distant, cuts, target, cut=cut, overlay=overlay, scores=scores, look=look, progress=progress
            )
        else:
            cuts = write_reel(
                recording, cuts, target, cut=cut, overlay=overlay, scores=scores, look=look, progress=progress
            )
        shown = project.reel(video, ".cuts.csv")
        write_cut_list(cuts, shown)
        project.mark_done("reel", video, made_from, [target, shown])
        seconds = sum(cut.end - cut.start for cut in cuts) - (len(cuts) - 1) * fade_seconds
        say(f"{video}: a reel of {len(cuts)} highlights, {format_time(seconds)}: {target}")
    return reels


def _plan(highlights: pl.DataFrame, recording: Path, table: Path) -> tuple[Cut, ...]:
    """The cuts of the highlights of one video; says which lie outside of it."""
    info = probe(recording)
    cuts, length = plan_cuts(highlights, info), format_time(info.duration, decimals=1)
    if len(highlights) and not cuts:
        raise HlkitError(
            f"No highlight of {table} shows a picture of {recording.name}, which is {length} long. Correct the times, "
            "or delete the file and run `hlkit timeline` again."
        )
    if beyond := count_beyond(highlights, info):
        which = f"{beyond} of {len(highlights)} highlights of {table} reach beyond the end of {recording.name}"
        warnings.warn(f"{which}, {length}; what lies beyond is left out.", HlkitWarning, stacklevel=3)
    return cuts
