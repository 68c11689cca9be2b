"""Stages that learn and score: labelled frames in, a model out; a model and a recording in, scores out."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from hlkit.frames import read_index
from hlkit.project import HlkitError, HlkitWarning, Project, atomic_path, fingerprint
from hlkit.sampling import Box, PicturePart
from hlkit.split import CHUNK_SECONDS, drop_background, split_frames
from hlkit.stages import runs, tables, views
from hlkit.stages.common import ASIDE_EPOCHS, DEFAULT_EPOCHS, Say, already_done, current_run, listed
from hlkit.stages.files import infer_files
from hlkit.stages.keeping import checkpoint_keeper, keep_finished_run
from hlkit.stages.materials import with_sound
from hlkit.stages.sequences import (
    has_sequence,
    note_round,
    rounds_file,
    score_sequence,
    sequence_file,
    train_sequence,
)
from hlkit.video import frame_rate

if TYPE_CHECKING:
    from hlkit.callbacks import LoggerName
    from hlkit.dataset import Augment
    from hlkit.models import RNNKind
    from hlkit.sound import Heard
    from hlkit.training import Monitor

SequenceKind = Literal["gru", "lstm", "none"]


def train(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    classes: Sequence[str] | None = None,
    backbone: str = "resnet18",
    head: Sequence[int] | None = None,
    num_frames_per_clip: int | None = None,
    rnn: RNNKind = "gru",
    sound: Heard = "none",
    weights: str | None = None,
    epochs: int | None = None,
    learning_rate: float = 1e-3,
    augment: Augment = "all",
    positive_share: float | None = 0.3,
    background_ratio: float | None = None,
    monitor: Monitor = "val_ap",
    chunk_seconds: float = CHUNK_SECONDS,
    sequence: SequenceKind = "lstm",
    seed: int = 0,
    logger: LoggerName = "csv",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> Path:
    """Train a model on the labelled videos and return its checkpoint, `models/<run>/model.ckpt`.

    The picture network comes first. Then a sequence model (`sequence.ckpt`) learns from the sound, the motion, the chat
    where there is one, and the picture network's features where that began from pretrained weights: what a network
    learns from random weights and an hour of pictures does not carry over to the next stream.

    A run that was interrupted goes on after its last whole epoch. Where a store is set, checkpoints are pushed to it
    every few minutes, so that a machine that is lost takes no more with it. The run and its videos become the
    project's settings.

    Args:
        project: must have frames and labels of the videos.
        videos: what to learn from; the project's `train_videos`, or else every labelled video.
        run: the name of the result; the project's last run, or `first`.
        classes: the labels that it tells apart, first the one that stands for all other time; labels of others are
            passed over. All that are there, unless given.
        backbone: a torchvision classifier by name, or `measures`: sharpness and brightness, the classical method.
        head: widths of layers between the network's features and the classes, such as (1000, 500).
        num_frames_per_clip: a number makes it an RNN over that many frames; None scores each frame alone.
        rnn: the kind of that RNN, `gru` or `lstm`.
        sound: what the picture network hears beside each picture, of the second around it: `power` (how loud it is),
            `spectrum` (how loud each of 40 bands is) or `none`. The sequence model listens anyway.
        weights: `DEFAULT` for torchvision's pretrained weights, or a path; None starts from scratch.
        epochs: passes over the training part; unless given 12, or 1 where pictures have no part in the scores.
        learning_rate: the highest rate of the schedule.
        augment: what training varies in its pictures: `all`; their `place` alone where classes are about light; `none`.
        positive_share: the share of highlight frames in what a pass draws; None leaves it as it is.
        background_ratio: in place of that, background of the training part is dropped by blocks of five seconds, until
            there is at most so many times as much as highlights; each frame that is left is drawn once a pass.
        monitor: the validation metric whose best epoch is kept, such as `val_ap` or `val_precision`.
        chunk_seconds: of a video that stay together when some are held back from the picture network; longer than the
            longest video keeps whole clips together.
        sequence: the recurrent network over sound and motion, `gru` or `lstm`, whose scores are the run's; `none`
            leaves the scores to the picture network.
        seed: of split, sampling, augmentation and initial weights.
        logger: `csv`, or `mlflow` or `wandb` beside it.
        redo: train from the beginning.
        progress: show a progress bar.
        say: takes the lines for the user.

    Raises:
        HlkitError: when frames or labels are missing, or nothing can be learned from them.
    """
    if not 0 <= seed < 2**32:
        raise HlkitError(f"seed={seed} is not allowed; give a whole number from 0 to {2**32 - 1}.")
    if not 0 < learning_rate < np.inf:
        raise HlkitError(f"learning_rate={learning_rate:g} is not allowed; give a number above 0, such as 0.001.")
    run = current_run(project, run)
    chosen = tables.train_videos(project, videos)
    views.check_boxes(project, chosen)
    inputs = {video: [fingerprint(project.index(video)), fingerprint(project.labels(video))] for video in chosen}
    if epochs is None:
        epochs = DEFAULT_EPOCHS if weights or sequence == "none" else ASIDE_EPOCHS
    options = {"backbone": backbone, "num_frames_per_clip": num_frames_per_clip, "weights": weights, "epochs": epochs}
    made_from = {"videos": inputs, **options, "share": positive_share, "monitor": monitor, "seed": seed}
    # What is left at its default does not make a run of an earlier version count as another.
    chosen_options = {"classes": classes and list(classes), "head": head and list(head), "learning_rate": learning_rate}
    chosen_options |= {"augment": augment, "rnn": rnn, "sound": sound, "background_ratio": background_ratio}
    chosen_options["chunk_seconds"] = chunk_seconds
    defaults = {"learning_rate": 1e-3, "augment": "all", "rnn": "gru", "sound": "none", "chunk_seconds": CHUNK_SECONDS}
    made_from |= {name: value for name, value in chosen_options.items() if value not in (None, [], defaults.get(name))}
    made_from |= {"sequence": sequence, "content": [tables.content(project, video) for video in chosen]}
    folder = project.model(run)
    checkpoint = folder / "model.ckpt"
    if already_done(project, "train", run, made_from, redo, say):
        return checkpoint
    from hlkit.backbones import load_file
    from hlkit.models import ModelConfig
    from hlkit.training import check_table, fit

    labelled, names = tables.labelled_frames(project, chosen, classes=classes)
    longest = max(rows.height for rows in labelled.partition_by("video"))
    if num_frames_per_clip is not None and not 2 <= num_frames_per_clip <= longest:
        raise HlkitError(f"num_frames_per_clip={num_frames_per_clip} is not allowed; give 2 to {longest}, such as 8.")
    made = views.same_frame_settings(project, chosen)
    clip = {"kind": "clip", "num_frames_per_clip": num_frames_per_clip, "rnn": rnn} if num_frames_per_clip else {}
    clip |= {"head": tuple(head or ()), "sound": sound}
    config = ModelConfig(backbone=backbone, classes=names, fps=made.fps, size=made.size, box=made.box, **clip)
    if sound != "none":
        labelled = with_sound(project, labelled, fps=made.fps, heard=sound, progress=progress)
    labelled = split_frames(labelled.filter(pl.col("label") >= 0), chunk_seconds=chunk_seconds, seed=seed)
    if background_ratio is not None:
        labelled = drop_background(labelled, background_ratio, seed=seed)
    if redo:
        # A wish that can't be met must not cost the run that is there.
        check_table(labelled, config)
        if weights not in (None, "DEFAULT"):
            fingerprint(Path(weights))
        shutil.rmtree(folder, ignore_errors=True)
    fit(
        labelled,
        project.frames,
        folder,
        config=config,
        epochs=epochs,
        learning_rate=learning_rate,
        positive_share=positive_share if background_ratio is None else None,
        monitor=monitor,
        weights=weights,
        augment=augment,
        seed=seed,
        logger=logger,
        on_epoch=checkpoint_keeper(project, run),
        progress=progress,
    )
    runs.record_split(project, run, labelled)
    # Before the sequence model is there, so that without it the run is known to be unfinished.
    again = {**options, **chosen_options, "positive_share": positive_share, "monitor": monitor, "seed": seed}
    again = {name: value for name, value in again.items() if name != "classes"} | {"logger": logger}
    runs.record_run(project, run, videos=chosen, sequence=sequence, classes=classes, options=again)
    outputs = [checkpoint, folder / "metrics.csv", folder / "card.md"]
    if sequence == "none":
        sequence_file(project, run).unlink(missing_ok=True)
        rate = float(frame_rate(made.fps))
        note_round(rounds_file(project, run), labelled["label"], rate, picture_metrics(project, run))
    else:
        # Weights that could not be had have been replaced by random ones, with a warning.
        pretrained = load_file(checkpoint)["hlkit"]["is_pretrained"]
        reached = train_sequence(
            project, run, chosen, rnn=sequence, with_pictures=pretrained, seed=seed, progress=progress
        )
        outputs.append(sequence_file(project, run))
        if reached:
            say(
                f"{run}: average precision {reached['val_ap']:.3f} on chunks that were held back; chance has "
                f"{reached['val_base_rate']:.3f}."
            )
    project.save_settings(run=run, train_videos=chosen)
    project.mark_done("train", run, made_from, outputs)
    keep_finished_run(project, run)
    say(f"{run}: trained on {listed(chosen)}; what it is stands in {folder / 'card.md'}.")
    return checkpoint


def picture_metrics(project: Project, run: str) -> dict[str, float]:
    """What a run's picture network reached on chunks that were held back, at the epoch that was kept."""
    from hlkit.backbones import load_file
    from hlkit.callbacks import best_epoch

    kept = load_file(runs.checkpoint(project, run))["hlkit"]
    return dict(kept["history"][best_epoch(kept["history"], kept["run"]["monitor"])])


def infer(
    project: Project,
    *,
    files: Sequence[Path] | None = None,
    model: Path | None = None,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    start: float | None = None,
    end: float | None = None,
    duration: float | None = None,
    fps: str | None = None,
    box: Box | None = None,
    keep_cut: bool = False,
    target: Path | None = None,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[str]:
    """Score the videos with a run's model: `scores/<run>/<id>.parquet`, a score table. Returns their ids.

    Stored frames are read where they have the model's rate and size; otherwise the recording itself is decoded.

    Args:
        project: must hold the run's model.
        files, model, box, keep_cut, target: in place of videos of the project: score these files by that model, and
            store nothing in the project; see `infer_files`.
        videos: what to score; every video that the model did not learn from, or all when it learned from all.
        run: the model; the project's last run.
        start, end, duration: score this stretch of each recording only, in seconds; `duration` counts from `start`.
        fps: score so many frames a second, an exact number or fraction; the model's own rate unless given. For models
            of single pictures only: the others learned what goes on between frames.
        redo: score again.
        progress: show a progress bar.
        say: takes the lines for the user.

    Raises:
        HlkitError: for files without a model or a model without files, for another rate or a box where they have no
            meaning, and as `infer_files` does.
    """
    stretch: dict[str, Any] = {"start": start, "end": end, "duration": duration}
    if bool(files) != (model is not None):
        raise HlkitError("Files and a model belong together (--model); without both, videos of the project are scored.")
    if files and (videos or run):
        raise HlkitError(
            "Files are scored by --model and nothing else. Leave out the videos and the run, or the files."
        )
    if not files and (keep_cut or target is not None):
        raise HlkitError(
            "A CSV of scores and a kept cut are made of files (with --model). Scores of the project's videos go to "
            "scores/RUN/ID.parquet; leave out --csv and --keep-cut."
        )
    if files and model is not None:
        keep: dict[str, Any] = {"fps": fps, "box": box, "keep_cut": keep_cut, "target": target}
        return list(infer_files(files, model=model, **stretch, **keep, progress=progress, say=say).files)
    if box is not None:
        raise HlkitError("The box of a project's video is kept with it: `hlkit box X0,Y0,X1,Y1 --video ID`.")
    run = current_run(project, run)
    if fps is not None and has_sequence(project, run):
        raise HlkitError(
            f"'{run}' scores what goes on between frames, so it needs its own rate, not fps={fps}. Leave that out."
        )
    checkpoint = runs.checkpoint(project, run)
    chosen = list(videos) if videos else tables.new_videos(project, run)
    stretch["start"] = start or 0.0
    whole = start is end is duration is None
    settings = runs.run_settings(project, run)
    for video in chosen:
        made_from = {"model": _model_content(project, run), "video": tables.content(project, video), "stretch": stretch}
        part = views.box_for(project, video, settings.box)
        # What is as the model has it does not make scores of an earlier version count as others.
        rate = None if fps is None else str(frame_rate(fps))
        made_from |= {"fps": rate} if rate not in (None, str(frame_rate(settings.fps))) else {}
        made_from |= {"box": list(part)} if part is not None and part != settings.box else {}
        if already_done(project, "infer", f"{run}-{video}", made_from, redo, say):
            continue
        if has_sequence(project, run):
            wanted = None if whole else _wanted(project, run, video, stretch)
            scores, missing = score_sequence(project, run, video, wanted=wanted, progress=progress)
            if missing:
                say(f"{video}: it has no {' and no '.join(missing)}, which {run} learned from; scored by the rest.")
        else:
            scores = _picture_scores(
                project, checkpoint, video, stretch=None if whole else stretch, fps=fps, box=part, progress=progress
            )
        target = project.scores(run, video)
        with atomic_path(target) as temporary:
            scores.write_parquet(temporary)
        project.mark_done("infer", f"{run}-{video}", made_from, [target])
        say(f"{video}: {len(scores):,} frames scored by {run}.")
    return chosen


def _model_content(project: Project, run: str) -> str:
    """A short name for all that scores depend on in a run."""
    files = [runs.checkpoint(project, run), sequence_file(project, run)]
    return "-".join(fingerprint(file) for file in files if file.is_file())


def _wanted(project: Project, run: str, video: str, stretch: dict[str, Any]) -> range:
    from hlkit.models import ModelConfig
    from hlkit.predict import plan_frames

    return plan_frames(ModelConfig(fps=runs.run_settings(project, run).fps), tables.length(project, video), **stretch)


def _picture_scores(
    project: Project,
    checkpoint: Path,
    video: str,
    *,
    stretch: dict[str, Any] | None,
    fps: str | None,
    box: PicturePart | None,
    progress: bool,
) -> pl.DataFrame:
    """Scores by the picture network alone, of the part `box` of the picture."""
    from hlkit.predict import at_rate, predict, predict_frames
    from hlkit.training import load_model

    model, config = load_model(checkpoint)
    wanted = config if fps is None else at_rate(config, fps)
    made = views.frame_settings(project, video)
    if stretch is None and made is not None:
        every = frame_rate(made.fps) / wanted.frame_rate
        fits = views.frames_fit(made, views.FrameSettings(made.fps, wanted.size, box))
        if fits and (every == 1 or (every.denominator == 1 and wanted.kind == "frame")):
            frames = read_index(project.frames / video)
            if config.sound != "none":
                frames = with_sound(project, frames, fps=made.fps, heard=config.sound, progress=progress)
                if np.isnan(frames["sound"].to_numpy()).all():
                    reason = f"{video} has no sound, which the model hears; it counts as the mean of what it learned."
                    warnings.warn(reason, HlkitWarning, stacklevel=2)
            frames = frames.filter(pl.col("frame") % int(every) == 0)
            return predict_frames(model, wanted, frames, project.frames, progress=progress)
    return predict(model, wanted, project.video(video), video_id=video, box=box, progress=progress, **(stretch or {}))
