"""What spoke for a run's scores, in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hlkit.frames import FrameReader, read_index
from hlkit.project import Project, fingerprint, format_time
from hlkit.stages import runs, tables
from hlkit.stages.common import Say, already_done, current_run
from hlkit.stages.materials import with_sound
from hlkit.stages.sequences import explains_peaks, reads_pictures, stored_sources


def explain(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    redo: bool = False,
    say: Say = print,
) -> list[Path]:
    """Draw what spoke for the highest score of each video: pictures in `scores/<run>`. Returns them.

    `<id>-peak.png` shows it in the seconds of sound and motion around it, as the sequence model read them, and
    `<id>-lime.png` in the picture, as the picture network saw it; where that network began from random weights, it has
    no part in the score of a sequence model, and the picture says so.

    Args:
        project: must hold the run's model and scores, and frames of the videos.
        videos: those that the run has scored, unless named.
        run: whose scores; the project's last run.
        redo: draw again.
        say: takes the lines for the user.
    """
    run = current_run(project, run)
    checkpoint = runs.checkpoint(project, run)
    pictures = []
    for video in tables.scored_videos(project, run, videos):
        scores = project.scores(run, video)
        made_from = {"scores": fingerprint(scores)}
        lime, peak = (scores.with_name(f"{video}-{kind}.png") for kind in ("lime", "peak"))
        targets = [lime, peak] if explains_peaks(project, run, video) else [lime]
        pictures += targets
        if already_done(project, "explain", f"{run}-{video}", made_from, redo, say):
            continue
        _draw_lime(project, video, run, checkpoint, lime)
        if peak in targets:
            _draw_peak(project, video, run, peak)
        project.mark_done("explain", f"{run}-{video}", made_from, targets)
        say(f"{video}: drew {', '.join(target.name for target in targets)} in {scores.parent}.")
    return pictures


def _draw_lime(project: Project, video: str, run: str, checkpoint: Path, target: Path) -> None:
    """What spoke for the frame that scored highest."""
    from hlkit.charts import save_figure
    from hlkit.explain import explain_frame, find_frame, lime_figure, read_picture
    from hlkit.training import load_model

    model, config = load_model(checkpoint)
    best = _best_time(project, video, run)
    frames = read_index(project.frames / video)
    if config.sound != "none":
        frames = with_sound(project, frames, fps=config.fps, heard=config.sound, progress=False)
    row = find_frame(frames, video=video, time=best)
    sound = None if config.sound == "none" else np.asarray(row["sound"], dtype=np.float32)
    explanation = explain_frame(model, config, read_picture(FrameReader(project.frames), row), sound=sound)
    title = f"{video} at {format_time(best)}"
    if not reads_pictures(project, run):
        title += ", its highest score by sound and motion\nthe picture network alone:"
    save_figure(lime_figure(explanation, title=title), target)


def _draw_peak(project: Project, video: str, run: str, target: Path) -> None:
    """What drove the frame that scored highest, second by second."""
    from hlkit.charts import save_figure
    from hlkit.peaks import explain_peak, peak_chart

    model, sources, frames = stored_sources(project, run, video)
    best = _best_time(project, video, run)
    found = explain_peak(model, sources, frames, best)
    save_figure(peak_chart(found, time=best, title=f"What drove {format_time(best)} of {video}"), target)


def _best_time(project: Project, video: str, run: str) -> float:
    """When the score is highest, s; unknown scores are no highest ones."""
    scores = tables.read_scores(project, video, run=run)
    return float(scores.sort("score", descending=True, nulls_last=True)["time"][0])
