"""`hlkit download`, `channel`, `frames`, `box` and `pictures`: recordings and sorted pictures into the project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hlkit import stages
from hlkit.cli.common import (
    DEFAULT_PROJECT,
    ProjectOption,
    RedoOption,
    TimeOption,
    VerboseOption,
    VideosOption,
    example,
)
from hlkit.project import Project
from hlkit.sampling import Accelerator, Decoding, read_box

app = typer.Typer()


@example(app, "download https://www.twitch.tv/videos/1234567 --video saturday")
def download(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, lists of links (.csv, .txt), of stretches with their labels too (Kinetics' CSV), "
            "Twitch VODs (link or number), clips or channels, links to other video sites.",
        ),
    ],
    video: Annotated[str | None, typer.Option("--video", metavar="ID", help="The id it gets in the project.")] = None,
    quality: Annotated[
        str, typer.Option(help="analysis (about 360p), source (the best), or a name such as 720p60.")
    ] = "analysis",
    limit: Annotated[int, typer.Option(min=1, help="Of a channel, the newest so many.")] = 1,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="LABEL", help="Of a list with labels, those of this one (repeatable)."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Take the chat of Twitch VODs too.")] = True,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring recordings into the project."""
    stages.download(
        Project(project), sources, video=video, quality=quality, limit=limit, classes=classes, chat=chat, redo=redo
    )


@example(app, "channel streamer --limit 5")
def channel(
    name: Annotated[str, typer.Argument(help="A Twitch channel, or the link of another channel or playlist.")],
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 10,
    verbose: VerboseOption = False,
) -> None:
    """List the newest videos of a channel."""
    stages.channel(name, limit=limit)


@example(app, "frames --fps 3 --size 128")
def frames(
    videos: VideosOption = None,
    fps: Annotated[str, typer.Option(help="Pictures a second: 3, 0.5 or 30000/1001.")] = "3",
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of a picture in pixels.")] = 128,
    start: TimeOption = None,
    end: TimeOption = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="The part of the picture, 0 to 1; kept, as by `hlkit box`."),
    ] = None,
    whole_too: Annotated[
        bool, typer.Option("--whole-too", help="Store the whole picture below the box, in one square picture.")
    ] = False,
    accelerator: Annotated[Accelerator, typer.Option(help="cpu, cuda, or auto for the faster one.")] = "auto",
    decoding: Annotated[Decoding, typer.Option(help="fast, or exact: more work, smoother edges.")] = "fast",
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Store small pictures of every video at a steady rate."""
    stages.frames(
        Project(project),
        videos=videos,
        fps=fps,
        size=size,
        start=start,
        end=end,
        box=None if box is None else read_box(box),
        whole_too=whole_too,
        accelerator=accelerator,
        decoding=decoding,
        redo=redo,
    )


@example(app, "box 0.46,0.84,0.54,1 --video saturday")
def box(
    part: Annotated[
        str | None, typer.Argument(metavar="[X0,Y0,X1,Y1]", help="From 0 to 1, or: whole. Left out: says what is kept.")
    ] = None,
    videos: VideosOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Say which part of the picture counts, such as a face cam: of a video, or of all."""
    stages.box(Project(project), part, videos=videos)


@example(app, "pictures sorted-pictures --video holidays")
def pictures(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder of folders, one a class, or a CSV with path,label.")
    ],
    video: Annotated[str | None, typer.Option("--video", metavar="ID", help="The id they get in the project.")] = None,
    fps: Annotated[str, typer.Option(help="Pictures a second at which videos will be looked at.")] = "1",
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of a picture in pixels.")] = 128,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take sorted pictures into the project, to train on."""
    stages.pictures(Project(project), source, video=video, fps=fps, size=size, redo=redo)
