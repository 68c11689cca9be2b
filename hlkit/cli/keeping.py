"""`hlkit push`, `pull`, `status`, `verify`, `delete` and `link`: the project and a store of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from hlkit import stages
from hlkit.cli.common import DEFAULT_PROJECT, ProjectOption, VerboseOption, VideosOption, example
from hlkit.project import Project

app = typer.Typer()

StoreArgument = Annotated[
    str | None,
    typer.Argument(help="A folder, r2://bucket/prefix or s3://bucket/prefix; the last one used if left out."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="PART", help="Only this part: videos, frames, labels, models ... (repeatable)."),
]
RunsOption = Annotated[
    list[str] | None, typer.Option("--run", metavar="RUN", help="Only this training run (repeatable).")
]


@example(app, "push r2://my-bucket/my-stream")
def push(
    store: StoreArgument = None,
    only: OnlyOption = None,
    videos: VideosOption = None,
    runs: RunsOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Copy what changed in the project to Cloudflare R2, another S3 store, or a folder."""
    stages.push(Project(project), store, only=only, videos=videos, runs=runs)


@example(app, "pull r2://my-bucket/my-stream --only models")
def pull(
    store: StoreArgument = None,
    only: OnlyOption = None,
    videos: VideosOption = None,
    runs: RunsOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Copy what the store has and the project lacks."""
    stages.pull(Project(project), store, only=only, videos=videos, runs=runs)


@example(app, "status")
def status(
    store: StoreArgument = None,
    only: OnlyOption = None,
    videos: VideosOption = None,
    runs: RunsOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Say how the project and a store differ; nothing moves."""
    stages.status(Project(project), store, only=only, videos=videos, runs=runs)


@example(app, "verify --repair")
def verify(
    store: StoreArgument = None,
    only: OnlyOption = None,
    videos: VideosOption = None,
    runs: RunsOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="Push what is damaged or missing there again.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Read every byte in a store again and compare it with what was pushed."""
    stages.verify(Project(project), store, only=only, videos=videos, runs=runs, repair=repair)


@example(app, "delete --only frames --video saturday --yes")
def delete(
    store: StoreArgument = None,
    only: OnlyOption = None,
    videos: VideosOption = None,
    runs: RunsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would go.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Remove files from a store; the project stays as it is."""
    stages.delete(Project(project), store, only=only, videos=videos, runs=runs, yes=yes)


@example(app, "link sunday --hours 48")
def link(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Whose reel.")],
    store: StoreArgument = None,
    hours: Annotated[float, typer.Option(help="How long the link holds, at most 168.")] = 24.0,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Print a link under which anyone can watch a pushed reel for some hours."""
    stages.link(Project(project), video, store, hours=hours)
