"""`hlkit label`, `agree`, `export-labels` and `match`: labels from files, and from what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hlkit import stages
from hlkit.cli.common import (
    DEFAULT_PROJECT,
    ProjectOption,
    RedoOption,
    VerboseOption,
    VideosOption,
    example,
    old_and_new,
)
from hlkit.labels import LabelFormat
from hlkit.project import Project
from hlkit.stages.matched import Unshown

app = typer.Typer()

LabelFileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A CSV with the columns video,start,end,label; a TSV of times, boxed lines, Scalabel's or Label Studio's "
        "JSON, two-minute blocks in YAML, Kinetics' or LosslessCut's CSV, OpenTimelineIO, an EDL, YouTube chapters.",
    ),
]
LabelVideoOption = Annotated[str | None, typer.Option("--video", metavar="ID", help="The video all spans belong to.")]
LabelFpsOption = Annotated[
    str | None, typer.Option(metavar="FPS", help="Frames a second, where the file counts frames: 30 or 30000/1001.")
]
LabelFormatOption = Annotated[
    LabelFormat | None, typer.Option(help="What FILE is; told by what it holds, unless given.")
]
LabelClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="OLD=NEW",
        help="Another class for one of the file; * stands for all others, an empty NEW drops (repeatable).",
    ),
]


def _class_names(pairs: list[str] | None) -> dict[str, str] | None:
    return None if pairs is None else dict(map(old_and_new, pairs))


@example(app, "label saturday.csv")
def label(
    source: LabelFileArgument,
    video: LabelVideoOption = None,
    fps: LabelFpsOption = None,
    format: LabelFormatOption = None,
    classes: LabelClassesOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace all labels of its videos, those by hand too.")
    ] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take label spans into the project; what was marked by hand stays."""
    stages.label(
        Project(project),
        source,
        video=video,
        fps=fps,
        format=format,
        classes=_class_names(classes),
        replace=replace,
        redo=redo,
    )


@example(app, "agree brother.csv --video saturday")
def agree(
    source: LabelFileArgument,
    video: LabelVideoOption = None,
    fps: LabelFpsOption = None,
    format: LabelFormatOption = None,
    classes: LabelClassesOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Say how far another person's labels agree with the project's; nothing changes."""
    stages.agree(Project(project), source, video=video, fps=fps, format=format, classes=_class_names(classes))


@example(app, "export-labels labels.json --format labelstudio --fps 30")
def export_labels(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where they go; replaced if it is there.")],
    videos: VideosOption = None,
    format: Annotated[
        LabelFormat, typer.Option(help="csv, tsv, boxed, scalabel, kinetics or labelstudio; others are only read.")
    ] = "csv",
    fps: LabelFpsOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Write the project's labels to a file for another program."""
    stages.export_labels(Project(project), target, videos=videos, format=format, fps=fps)


@example(app, "match best-of-saturday.mp4 --video saturday")
def match(
    video: Annotated[str, typer.Option("--video", metavar="ID", help="The stream's recording in the project.")],
    reels: Annotated[
        list[Path] | None, typer.Argument(metavar="[REEL]...", help="Highlight videos that were cut from the stream.")
    ] = None,
    clips: Annotated[bool, typer.Option("--clips", help="Use the clips that viewers made on Twitch.")] = False,
    rest: Annotated[
        Unshown | None,
        typer.Option(
            help="What they don't show was seen and rejected: all of it (background), or what is near to what they "
            "show. Left out: background for reels, near for clips."
        ),
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Label a stream by what was published of it: highlight videos, or clips."""
    if bool(reels) == clips:
        raise typer.BadParameter("Give highlight videos, or --clips.")
    if clips:
        stages.match_clips(Project(project), video=video, rest=rest or "near", redo=redo)
    elif reels:
        stages.match(Project(project), reels, video=video, rest=rest or "background", redo=redo)
