"""`hlkit score`, `compare` and `explain`: how good the scores are, and why. `hlkit demo`: all of it on an example."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hlkit import stages
from hlkit.cli.common import DEFAULT_PROJECT, ProjectOption, RedoOption, RunOption, VerboseOption, VideosOption, example
from hlkit.project import Project

app = typer.Typer()


@example(app, "score")
def score(
    videos: VideosOption = None,
    run: RunOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Judge the scores by your labels, beside loudness, picture change and chance, and write a one-page report."""
    stages.score(Project(project), videos=videos, run=run, redo=redo)


@example(app, "classes --block 0 --block 5")
def classes(
    videos: VideosOption = None,
    run: RunOption = None,
    blocks: Annotated[
        list[float] | None,
        typer.Option("--block", min=0.0, metavar="SECONDS", help="Judge blocks of so long; 0: frames (repeatable)."),
    ] = None,
    target: Annotated[Path | None, typer.Option("--csv", help="Where the table goes.")] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Say how well each class is told: precision, recall and F1 of what was learned from and what was not."""
    stages.classes(Project(project), videos=videos, run=run, blocks=blocks, target=target)


@example(app, "compare first second")
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more; each is held against the first.")],
    videos: VideosOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Set runs side by side: which is better, and whether by more than chance."""
    stages.compare(Project(project), runs=runs, videos=videos)


@example(app, "explain")
def explain(
    videos: VideosOption = None,
    run: RunOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what in a picture, and which seconds of sound and motion, spoke for the highest score."""
    stages.explain(Project(project), videos=videos, run=run, redo=redo)


@example(app, "demo --project my-demo")
def demo(project: ProjectOption = Path("hlkit-demo"), verbose: VerboseOption = False) -> None:
    """Run every stage on the two recordings that come with hlkit, and print how well it did."""
    from hlkit import demo as recordings

    recordings.run(Project(project))
    stages.score(Project(project))
    typer.echo(f"To go on with it, name the project: hlkit explain --project {shlex.quote(str(project))}")
