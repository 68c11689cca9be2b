"""`hlkit train`, `review`, `relearn` and `infer`: from labels to scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hlkit import stages
from hlkit.cli.common import (
    DEFAULT_PROJECT,
    ProjectOption,
    RedoOption,
    RunOption,
    TimeOption,
    VerboseOption,
    VideosOption,
    example,
)
from hlkit.project import Project
from hlkit.sampling import read_box
from hlkit.split import CHUNK_SECONDS
from hlkit.stages.learning import SequenceKind

app = typer.Typer()

# The choices of `hlkit.training.fit`, again: its module is slow to import, and the type checker holds these lists
# against its own.
Monitor = Literal["val_ap", "val_precision", "val_recall", "val_f1", "val_accuracy", "val_loss"]
Augment = Literal["all", "place", "none"]
Heard = Literal["none", "power", "spectrum"]
RNNKind = Literal["lstm", "gru"]
LoggerName = Literal["csv", "mlflow", "wandb"]


@example(app, "train --video saturday --epochs 12")
def train(
    videos: VideosOption = None,
    run: RunOption = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="LABEL",
            help="A label to tell apart (repeatable), the first standing for all other time; all, unless named.",
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(help="A torchvision classifier (resnet18, convnext_tiny ...), or measures: no network."),
    ] = "resnet18",
    head: Annotated[
        list[int] | None,
        typer.Option("--head", min=1, metavar="WIDTH", help="A layer before the classes (repeatable)."),
    ] = None,
    num_frames_per_clip: Annotated[
        int | None, typer.Option(min=2, help="An RNN over so many frames; left out: single frames.")
    ] = None,
    rnn: Annotated[RNNKind, typer.Option(help="The kind of that RNN.")] = "gru",
    sound: Annotated[
        Heard,
        typer.Option(help="What the picture network hears of the second around a picture: its power, or spectrum."),
    ] = "none",
    weights: Annotated[str | None, typer.Option(help="DEFAULT for pretrained weights, or a file.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Passes over the pictures; unless given {stages.DEFAULT_EPOCHS}, or {stages.ASIDE_EPOCHS} where they "
            "have no part in the scores.",
        ),
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="The highest of the schedule.")] = 1e-3,
    augment: Annotated[
        Augment, typer.Option(help="What is varied in pictures: all, place (not the light), none.")
    ] = "all",
    background_ratio: Annotated[
        float | None,
        typer.Option(min=0.0, help="Drop background until there is at most so many times as much as highlights."),
    ] = None,
    monitor: Annotated[Monitor, typer.Option(help="The validation metric whose best epoch is kept.")] = "val_ap",
    chunk_seconds: Annotated[
        float,
        typer.Option(
            "--chunk",
            metavar="SECONDS",
            help="Stretches of this length are held back; longer than any clip: whole clips.",
        ),
    ] = CHUNK_SECONDS,
    sequence: Annotated[
        SequenceKind, typer.Option(help="The network over sound and motion; none: pictures alone.")
    ] = "lstm",
    seed: Annotated[int, typer.Option(help="Of split, sampling, augmentation and initial weights.")] = 0,
    logger: Annotated[LoggerName, typer.Option(help="csv, or mlflow or wandb beside it.")] = "csv",
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train a model on the labelled videos."""
    stages.train(
        Project(project),
        videos=videos,
        run=run,
        classes=classes,
        backbone=backbone,
        head=head,
        num_frames_per_clip=num_frames_per_clip,
        rnn=rnn,
        sound=sound,
        weights=weights,
        epochs=epochs,
        learning_rate=learning_rate,
        augment=augment,
        background_ratio=background_ratio,
        monitor=monitor,
        chunk_seconds=chunk_seconds,
        sequence=sequence,
        seed=seed,
        logger=logger,
        redo=redo,
    )


@example(app, "review --video sunday --limit 5")
def review(
    videos: VideosOption = None,
    run: RunOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Stretches at most.")] = 10,
    span_seconds: Annotated[float, typer.Option(min=2.0, help="Length of a stretch.")] = 10.0,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Name the stretches that are worth a look: their labels would teach the most."""
    stages.review(Project(project), videos=videos, run=run, limit=limit, span_seconds=span_seconds)


@example(app, "relearn")
def relearn(run: RunOption = None, project: ProjectOption = DEFAULT_PROJECT, verbose: VerboseOption = False) -> None:
    """Learn anew from the labels as they are now, in seconds, and score again what was scored."""
    stages.relearn(Project(project), run=run)


@example(app, "infer --video sunday")
def infer(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="With --model: videos or folders of them, of no project."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A model.ckpt, to score FILEs by its picture network.")] = None,
    videos: VideosOption = None,
    run: RunOption = None,
    start: TimeOption = None,
    end: TimeOption = None,
    duration: TimeOption = None,
    fps: Annotated[
        str | None, typer.Option(metavar="FPS", help="Score so many frames a second (models of single pictures).")
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="With FILEs: the part of their picture that counts.")
    ] = None,
    keep_cut: Annotated[
        bool, typer.Option("--keep-cut", help="Keep FILE's stretch as NAME_cut.mp4, in place of one kept before.")
    ] = False,
    target: Annotated[Path | None, typer.Option("--csv", help="Where the scores of FILEs go.")] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score every frame of the videos that the model did not learn from, or of any files."""
    stages.infer(
        Project(project),
        files=files,
        model=model,
        videos=videos,
        run=run,
        start=start,
        end=end,
        duration=duration,
        fps=fps,
        box=None if box is None else read_box(box),
        keep_cut=keep_cut,
        target=target,
        redo=redo,
    )
