"""The loop of student and teacher: what to look at next, learning from the answers, and how far that got.

Answers are labels with the origin `review`, and `background` for what was rejected: a person gives them in the widget
of `hlkit.stages.reviewer`, a program by `hlkit.stages.label_spans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.labels import REVIEW, SPAN_SCHEMA, partly_seen
from hlkit.project import HlkitError, Project, format_time
from hlkit.review import QUEUE_SCHEMA, SPAN_SECONDS, review_queue
from hlkit.stages import runs, tables
from hlkit.stages.common import Say, current_run
from hlkit.stages.keeping import keep_finished_run
from hlkit.stages.learning import infer, picture_metrics, train
from hlkit.stages.materials import stored_material
from hlkit.stages.sequences import has_sequence, read_rounds, reads_pictures, rounds_file, train_sequence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Times of the same picture may differ by a rounding.
LEAST_STEP = 1e-3


def review(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    limit: int = 10,
    span_seconds: float = SPAN_SECONDS,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """The stretches whose labels would teach a run the most: a table as `hlkit.review.review_queue` gives it.

    A video that the run has not scored is gone through by its loudness, so that one can begin without any label.

    Args:
        project: must hold frames of the videos.
        videos: what to look through; unless given those that the run has scored, or else all, without those that count
            as looked at throughout (see `hlkit.labels.partly_seen`).
        run: the model; the project's last run.
        limit, span_seconds: as for `review_queue`.
        progress: show a progress bar where something is worked out for the first time.
        say: takes the lines for the user.

    Raises:
        HlkitError: when there are no frames, or no video.
    """
    run = current_run(project, run)
    chosen = tables.chosen_videos(project, videos) if videos else _to_look_through(project, run, say)
    if not chosen:
        return pl.DataFrame(schema=QUEUE_SCHEMA)
    scores, features = zip(*(_known(project, video, run, progress, say) for video in chosen), strict=True)
    marks = [table for video in chosen if (table := tables.marks_of(project, video)) is not None]
    looked = pl.concat([pl.DataFrame(schema=SPAN_SCHEMA), *(table.select(SPAN_SCHEMA.names()) for table in marks)])
    queue = review_queue(
        pl.concat(scores), looked, limit=limit, span_seconds=span_seconds, features=np.concatenate(features)
    )
    for video, start, end, reason, score in queue.iter_rows():
        say(f"{video}: {format_time(start)} to {format_time(end)}, {reason} (score {score:.2f}).")
    if queue.is_empty():
        say(f"{', '.join(chosen)}: all of it was looked at, so there is nothing left to ask.")
    return queue


def relearn(project: Project, *, run: str | None = None, progress: bool = True, say: Say = print) -> dict[str, float]:
    """Learn a run anew from the labels as they are now, and score again what the run has scored.

    Of a run with a sequence model that one learns; its picture network stays as it is at its last checkpoint, and what
    was heard and seen is kept, so this takes seconds. A run without one trains its picture network anew, as it was
    trained before. Videos with answers from a review join those that the run learns from.

    Returns:
        What it reaches on chunks that were held back, `val_ap` and `val_base_rate` among others; empty where the
        highlights lie too near to each other to hold some back.

    Raises:
        HlkitError: when the run does not say how it was trained, or the labels have other classes than it learned.
    """
    run = current_run(project, run)
    config, is_sequence = runs.run_config(project, run), has_sequence(project, run)
    if not is_sequence and not isinstance(config.get("options"), dict):
        raise HlkitError(
            f"{project.model(run) / 'config.json'} does not say how '{run}' was trained. Train it anew: "
            f"`hlkit train --run {run} --redo`."
        )
    if is_sequence and (config.get("sequence") not in ("gru", "lstm") or "seed" not in config["training"]):
        raise HlkitError(
            f"{project.model(run) / 'config.json'} does not say what sequence model '{run}' has. Train it anew: "
            f"`hlkit train --run {run} --redo`."
        )
    known = runs.learned_from(project, run) or tables.train_videos(project)  # a run from elsewhere does not say
    chosen = [*known, *(video for video in _reviewed(project) if video not in known)]
    _, classes = tables.labelled_frames(project, chosen, classes=runs.chosen_classes(project, run))
    learned = tuple(config["model"]["classes"])
    if classes != learned:
        raise HlkitError(
            f"The labels have the classes {', '.join(classes)}, but '{run}' learned {', '.join(learned)}. "
            f"Train it anew: `hlkit train --run {run} --redo`."
        )
    if is_sequence:
        reached = train_sequence(
            project,
            run,
            chosen,
            rnn=config["sequence"],
            with_pictures=reads_pictures(project, run),
            seed=int(config["training"]["seed"]),
            progress=progress,
        )
        runs.record_run(project, run, videos=chosen, sequence=config["sequence"])
        project.save_settings(run=run, train_videos=chosen)
        keep_finished_run(project, run)
    else:
        chosen_classes = runs.chosen_classes(project, run)
        options = {"classes": chosen_classes, **config["options"], "sequence": "none", "progress": progress}
        train(project, videos=chosen, run=run, say=say, **options)
        reached = picture_metrics(project, run)
    if "val_ap" in reached:
        say(
            f"{run}: average precision {reached['val_ap']:.3f} on chunks that were held back; chance has "
            f"{reached['val_base_rate']:.3f}."
        )
    for video in _scored(project, run):
        fps = project.made_from("infer", f"{run}-{video}").get("fps")
        infer(project, videos=[video], run=run, fps=fps, progress=progress, say=say)
    return reached


def review_chart(project: Project, *, run: str | None = None) -> Figure:
    """The rounds of a run: how much was looked at, and the average precision that it led to."""
    from hlkit.curves import rounds_chart

    run = current_run(project, run)
    return rounds_chart(read_rounds(rounds_file(project, run)), title=run)


def _to_look_through(project: Project, run: str, say: Say) -> list[str]:
    """The videos that a run has scored, or else all, as far as there is something in them that nobody looked at."""
    known = tables.chosen_videos(project, None)
    for videos in (_scored(project, run), known):
        if chosen := [video for video in videos if not _seen_throughout(project, video)]:
            return chosen
    say(
        f"{', '.join(known)}: labelled, with nothing rejected, so all of it counts as looked at and there is nothing "
        "to ask. Name a video to be asked about it all the same; from its first no on, only what is marked counts."
    )
    return []


def _seen_throughout(project: Project, video: str) -> bool:
    marks = tables.marks_of(project, video)
    return marks is not None and not marks.is_empty() and partly_seen(marks).is_empty()


def _scored(project: Project, run: str) -> list[str]:
    return sorted(file.stem for file in project.scores(run, "any").parent.glob("*.parquet"))


def _reviewed(project: Project) -> list[str]:
    """The videos with labels that came from a review and frames to learn from."""
    found = []
    for video in project.video_ids():
        marks = tables.marks_of(project, video)
        if marks is not None and "origin" in marks.columns and project.index(video).is_file():
            found += [video] if (marks["origin"] == REVIEW).any() else []
    return found


def _known(project: Project, video: str, run: str, progress: bool, say: Say) -> tuple[pl.DataFrame, np.ndarray]:
    """A score for each stored frame of a video, and what is heard and seen there."""
    from hlkit.signals import loudness
    from hlkit.sound import BANDS

    material = stored_material(project, video, progress=progress)
    # What a video lacks is alike everywhere in it, so it has no part in what is new.
    heard = np.zeros((len(material.frames), BANDS)) if material.sound is None else np.asarray(material.sound).mean(1)
    assert material.motion is not None
    features = np.concatenate([np.asarray(material.motion, dtype=np.float32), heard], axis=1, dtype=np.float32)
    if not project.scores(run, video).is_file():
        say(f"{video}: not scored by '{run}' yet, so the loudest moments stand for likely ones.")
        loud = loudness(project.video(video), material.frames["time"], progress=progress)["loudness"]
        scores = (loud.fill_null(0.0).rank() / len(loud)).cast(pl.Float32)
        return material.frames.select("video", "time", scores.alias("score")), features
    scores = tables.read_scores(project, video, run=run).drop_nulls("score").select("time", "score").sort("time")
    # Scores may have been taken at another rate: each stands until the next, and not beyond a gap.
    step = float(np.median(np.diff(scores["time"].to_numpy()))) if len(scores) > 1 else 0.0
    scores = scores.with_columns(pl.col("time") - LEAST_STEP)
    rows = material.frames.with_row_index("row").sort("time")
    both = rows.join_asof(scores, on="time", tolerance=max(step, 2 * LEAST_STEP)).drop_nulls("score")
    return both.select("video", "time", pl.col("score").cast(pl.Float32)), features[both["row"].to_numpy()]
