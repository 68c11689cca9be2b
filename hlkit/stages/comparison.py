"""Runs side by side: which is better, by how much, whether that is more than chance, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hlkit.project import HlkitError, Project
from hlkit.stages import tables
from hlkit.stages.common import Say, window_of
from hlkit.stages.judged import judged_frames, judged_part, lacking
from hlkit.stages.runs import learned_from, run_config

_COMPARISON = {"video": pl.String, "run": pl.String} | dict.fromkeys(
    ("ap", "ap_smoothed", "difference", "low", "high"), pl.Float64
)


def compare(
    project: Project, *, runs: Sequence[str], videos: Sequence[str] | None = None, say: Say = print
) -> pl.DataFrame:
    """Set runs side by side on the labelled videos that all of them have scored, by the time that somebody looked at.

    Args:
        project: must hold the runs' scores, and labels of the videos.
        runs: two or more names; each is held against the first.
        videos: which to judge on; every labelled one that all runs have scored, unless named.
        say: takes the lines for the user.

    Returns:
        A row a video and run: `video`, `run` str; `ap` and `ap_smoothed` f64; `difference` f64, of `ap` to that of the
        first run, and `low`, `high` f64, its 95 % interval over draws of chunks (null for the first run).

    Raises:
        HlkitError: for fewer than two runs, or when they have no labelled video in common.
    """
    from hlkit.metrics import average_precision, difference_interval
    from hlkit.split import assign_chunks
    from hlkit.timeline import add_intensity

    if len(set(runs)) < 2:
        raise HlkitError(f"Give two different runs to compare; this is {', '.join(runs) or 'none'}.")
    scored = [set(tables.scored_videos(project, run, videos)) for run in runs]
    labelled = [video for video in sorted(set.intersection(*scored)) if project.labels(video).is_file()]
    rows: list[tuple[str | float | None, ...]] = []
    window, judged = window_of(project, None), {}
    for video in labelled:
        base, times = None, None
        for run in runs:
            frames = add_intensity(tables.read_scores(project, video, run=run), window_seconds=window)
            labelled_frames = judged_frames(project, video, frames)
            judged[video] = judged_part(project, video, labelled_frames)
            if base is None and (reason := lacking(labelled_frames)):
                say(f"{video}: not judged, since {reason}.")
                break
            frames = labelled_frames.filter(pl.col("label") >= 0)
            truth, scores = frames["label"].to_numpy(), frames["score"].to_numpy()
            figures = average_precision(truth, scores), average_precision(truth, frames["intensity"])
            if base is None or times is None:
                base, times, interval = scores, frames["time"], (None, None, None)
            elif not times.equals(frames["time"]):
                raise HlkitError(
                    f"The runs scored different frames of {video}. Score it again by both: `hlkit infer --redo`."
                )
            else:
                chunks = assign_chunks(frames)["chunk"]
                difference = figures[0] - average_precision(truth, base)
                interval = difference, *difference_interval(truth, scores, base, chunks)
            rows.append((video, run, *figures, *interval))
    if not rows:
        every = ", ".join(runs)
        raise HlkitError(f"No labelled video is scored by all of {every}. Score one by each: `hlkit infer --run RUN`.")
    table = pl.DataFrame(rows, schema=_COMPARISON, orient="row")
    say(_comparison_text(project, runs, table, judged))
    return table


def _comparison_text(project: Project, runs: Sequence[str], table: pl.DataFrame, judged: Mapping[str, str]) -> str:
    """The comparison in words, with the settings in which the runs differ."""
    width = max(len(run) for run in runs) + 2
    lines = []
    for (video,), part in table.group_by(["video"], maintain_order=True):
        teachers = [run for run in runs if video in learned_from(project, run)]
        learned = f" (learned from by {', '.join(teachers)})" if teachers else ""
        where = f" over {judged[video]}" if judged[video] else ""
        lines.append(f"Runs on {video}{learned}, average precision{where}:")
        lines.append(f"  {'':<{width}}{'frames':>8}{'smoothed':>10}   difference, 95 % interval")
        for _, run, ap, smoothed, difference, low, high in part.iter_rows():
            against = "" if difference is None else f"   {difference:+.3f}, {low:+.3f} to {high:+.3f}"
            lines.append(f"  {run:<{width}}{ap:>8.3f}{smoothed:>10.3f}{against}")
    settings = [_settings(project, run) for run in runs]
    for name in sorted(set().union(*settings)):
        values = [str(each.get(name, "-")) for each in settings]
        if len(set(values)) > 1:
            lines.append(f"  {name}: {', '.join(f'{run} {value}' for run, value in zip(runs, values, strict=True))}")
    return "\n".join(lines)


def _settings(project: Project, run: str) -> dict[str, Any]:
    """What a run was trained with, in one flat table."""
    config = run_config(project, run)
    flat = config["model"] | config["training"] | {"sequence": config.get("sequence", "none")}
    flat["videos"] = ", ".join(learned_from(project, run))
    return {key: value for key, value in flat.items() if key != "config"}
