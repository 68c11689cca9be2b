"""How good a run is: its scorecard on labelled videos, its worst mistakes, and what in a picture spoke for a score.

These stages look at what the others made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hlkit.frames import FrameReader, read_index
from hlkit.labels import covered, read_labels
from hlkit.project import HlkitError, Project, atomic_path, fingerprint, format_time
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done, current_run, window_of
from hlkit.stages.sequences import explains_peaks, stored_sources


def score(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    redo: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Judge a run on the labelled videos that it has scored, beside loudness, picture change and chance.

    Args:
        project: must hold the run's scores, and labels of the videos.
        videos: those that the run has scored, unless named; what has no labels is passed over.
        run: whose scores; the project's last run.
        redo: judge again.
        say: takes the lines for the user.

    Returns:
        The table of `hlkit.metrics.scorecard` for each video, with `video` first; it is also kept in
        `scores/<run>/<id>.csv`.

    Raises:
        HlkitError: when no scored video has labels.
    """
    from hlkit.metrics import CARD_SCHEMA, macro_average, scorecard

    run = current_run(project, run)
    chosen = tables.scored_videos(project, run, videos)
    labels = {video: spans for video in chosen if (spans := tables.labels_of(project, video)) is not None}
    if not labels:
        raise HlkitError(f"None of {', '.join(chosen)} has labels to judge by. Label one (notebook 04, `hlkit label`).")
    window, results = window_of(project, None), []
    for video, spans in labels.items():
        scores, target = project.scores(run, video), project.scores(run, video).with_suffix(".csv")
        made_from = {"scores": fingerprint(scores), "labels": spans.write_csv(), "window": window}
        made_from["columns"] = CARD_SCHEMA.names()
        if not already_done(project, "score", f"{run}-{video}", made_from, redo, say):
            frames = tables.read_scores(project, video, run=run)
            frames = frames.with_columns(pl.Series("label", covered(frames, spans), dtype=pl.Int8))
            table = scorecard(frames, _signals(project, video, frames), window_seconds=window, true=spans)
            with atomic_path(target) as temporary:
                table.write_csv(temporary)
            project.mark_done("score", f"{run}-{video}", made_from, [target])
        table = pl.read_csv(target, schema_overrides=CARD_SCHEMA)
        say(_text(project, video, run, table, spans, window))
        results.append(table.select(pl.lit(video).alias("video"), pl.all()))
    cards = pl.concat(results)
    if len(results) > 1:
        say("\n".join([f"Mean over {len(results)} videos:", *_rows(macro_average(cards).drop("videos"), window)]))
    return cards


def _signals(project: Project, video: str, frames: pl.DataFrame) -> dict[str, pl.Series]:
    """The run's score and the simple signals at the same times; loudness needs the recording, change the frames."""
    from hlkit.signals import loudness, picture_change

    signals = {"hlkit": frames["score"]}
    if video in project.video_ids():
        signals["loudness"] = loudness(project.video(video), frames["time"], progress=False)["loudness"]
    if project.index(video).is_file():
        change = picture_change(read_index(project.frames / video), project.frames, progress=False)
        signals["picture change"] = frames.join(change, on=["video", "time"], how="left")["picture_change"]
    return signals


def _text(
    project: Project, video: str, run: str, table: pl.DataFrame, labels: pl.DataFrame, window_seconds: float
) -> str:
    """The scorecard in words, for a person."""
    from hlkit.metrics import events_hit

    learned = "learned from" if video in project.settings().get("train_videos", ()) else "not learned from"
    lines = [f"Scorecard of '{run}' on {video} ({learned}): average precision; a reel as long as the labels:"]
    lines += _rows(table, window_seconds)
    picked = project.reel(video, ".csv")
    if picked.is_file():
        highlights = read_labels(picked, video=video)
        hit = events_hit(highlights, labels)
        seconds = float((highlights["end"] - highlights["start"]).sum())
        lines.append(f"  The reel lasts {format_time(seconds)} of {format_time(tables.length(project, video))}.")
        lines.append(f"  Highlights found: {hit.hit} of {hit.total} (at least half of each is in the reel).")
    return "\n".join(lines)


def _rows(table: pl.DataFrame, window_seconds: float) -> list[str]:
    """The scorecard's head and a line for each signal."""
    head = f"  {'':<16}{'frames':>8}{f'over {window_seconds:g} s':>12}   {'95 % interval':<16}{'AUROC':>8}"
    lines = [f"{head}{'precision':>12}{'events':>9}"]
    for name, ap, smoothed, low, high, area, precision, events in table.iter_rows():
        shown = "     (none)"
        if ap is not None:
            shown = f"{ap:>8.3f}{smoothed:>12.3f}   {f'{low:.3f} to {high:.3f}':<16}{area:>8.3f}"
            shown += f"{precision:>12.3f}{events:>8.0%}"
        lines.append(f"  {name:<16}{shown}")
    return lines


def explain(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    redo: bool = False,
    say: Say = print,
) -> list[Path]:
    """Draw the worst mistakes and what in a picture spoke for its score: pictures in `scores/<run>`. Returns them.

    Args:
        project: must hold the run's model and scores, and frames of the videos.
        videos: those that the run has scored, unless named. One without labels gets no gallery of mistakes.
        run: whose scores; the project's last run.
        redo: draw again.
        say: takes the lines for the user.
    """
    run = current_run(project, run)
    checkpoint = tables.checkpoint(project, run)
    pictures = []
    for video in tables.scored_videos(project, run, videos):
        labels = tables.labels_of(project, video)
        scores = project.scores(run, video)
        made_from = {"scores": fingerprint(scores), "labels": None if labels is None else labels.write_csv()}
        targets = [scores.with_name(f"{video}-lime.png")]
        targets += [scores.with_name(f"{video}-mistakes.png")] if labels is not None else []
        peak = scores.with_name(f"{video}-peak.png")
        targets += [peak] if explains_peaks(project, run, video) else []
        pictures += targets
        if already_done(project, "explain", f"{run}-{video}", made_from, redo, say):
            continue
        _draw_lime(project, video, run, checkpoint, targets[0])
        if labels is not None:
            _draw_mistakes(project, video, run, labels, targets[1])
        if peak in targets:
            _draw_peak(project, video, run, peak)
        project.mark_done("explain", f"{run}-{video}", made_from, targets)
        say(f"{video}: drew {', '.join(target.name for target in targets)}.")
    return pictures


def _draw_lime(project: Project, video: str, run: str, checkpoint: Path, target: Path) -> None:
    """What spoke for the frame that scored highest."""
    from hlkit.charts import save_figure
    from hlkit.explain import explain_frame, find_frame, lime_figure, read_picture
    from hlkit.training import load_model

    model, config = load_model(checkpoint)
    best = tables.read_scores(project, video, run=run).sort("score", descending=True).row(0, named=True)
    row = find_frame(read_index(project.frames / video), video=video, time=best["time"])
    explanation = explain_frame(model, config, read_picture(FrameReader(project.frames), row))
    save_figure(lime_figure(explanation, title=f"{video} at {format_time(best['time'])}"), target)


def _draw_peak(project: Project, video: str, run: str, target: Path) -> None:
    """What drove the frame that scored highest, second by second."""
    from hlkit.charts import save_figure
    from hlkit.peaks import explain_peak, peak_chart

    model, sources, frames = stored_sources(project, run, video)
    best = tables.read_scores(project, video, run=run).sort("score", descending=True).row(0, named=True)
    found = explain_peak(model, sources, frames, best["time"])
    title = f"What drove {format_time(best['time'])} of {video}"
    save_figure(peak_chart(found, time=best["time"], title=title), target)


def _draw_mistakes(project: Project, video: str, run: str, labels: pl.DataFrame, target: Path) -> None:
    from hlkit.charts import save_figure
    from hlkit.mistakes import find_mistakes, mistakes_gallery

    frames = read_index(project.frames / video)
    frames = frames.with_columns(pl.Series("label", covered(frames, labels), dtype=pl.Int8))
    found = find_mistakes(frames, tables.read_scores(project, video, run=run))
    save_figure(mistakes_gallery(found, project.frames, title=f"Worst mistakes of '{run}' on {video}"), target)
