"""`hlkit timeline`, `reel` and `export`: from scores to highlights, and out of the project."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hlkit import stages
from hlkit.cli.common import (
    DEFAULT_PROJECT,
    ProjectOption,
    RedoOption,
    RunOption,
    VerboseOption,
    VideosOption,
    example,
)
from hlkit.gops import CutMode
from hlkit.layout import Shape
from hlkit.project import Project
from hlkit.sampling import read_box
from hlkit.timeline import PickRules

app = typer.Typer()


@example(app, "timeline --minutes 10")
def timeline(
    videos: VideosOption = None,
    run: RunOption = None,
    window_seconds: Annotated[float | None, typer.Option(help="Of the mean that makes the intensity.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Pick where the intensity is at least this.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Pick the best, so many minutes at most.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Pick so that this share of it was right on held-back chunks, such as 0.8.")
    ] = None,
    merge_gap_seconds: Annotated[
        float, typer.Option("--merge-gap", metavar="SECONDS", help="Stretches at most this far apart become one.")
    ] = PickRules.merge_gap_seconds,
    min_seconds: Annotated[
        float, typer.Option("--shortest", metavar="SECONDS", help="Shorter stretches are left out.")
    ] = PickRules.min_seconds,
    pad_seconds: Annotated[
        float, typer.Option("--pad", metavar="SECONDS", help="Added on both sides of a highlight.")
    ] = PickRules.pad_seconds,
    snap: Annotated[
        bool, typer.Option("--snap", help="Move ends to a shot change or a quiet moment within a second.")
    ] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Draw the intensity, and pick the highlights."""
    stages.timeline(
        Project(project),
        videos=videos,
        run=run,
        window_seconds=window_seconds,
        threshold=threshold,
        minutes=minutes,
        precision=precision,
        merge_gap_seconds=merge_gap_seconds,
        min_seconds=min_seconds,
        pad_seconds=pad_seconds,
        snap=snap,
        redo=redo,
    )


@example(app, "reel --title auto --fade 0.3 --shape 9:16 --face 0.46,0.84,0.54,1")
def reel(
    videos: VideosOption = None,
    cut: Annotated[
        CutMode | None,
        typer.Option(
            help="smart copies what needs no encoding, to the picture; keyframe goes from keyframe to keyframe, in no "
            "time; encode encodes all. Left out: smart, or encode with an overlay or another shape."
        ),
    ] = None,
    overlay: Annotated[
        Literal["none", "score"], typer.Option(help="none, or score to draw the score on the picture.")
    ] = "none",
    title: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Shown for 2 s from each cut's start; {name}, {number}, {time}, {score} may stand in it. Or auto.",
        ),
    ] = None,
    fade_seconds: Annotated[
        float, typer.Option("--fade", metavar="SECONDS", help="Cross-fade cuts, such as 0.3; 0 does not.")
    ] = 0.0,
    shape: Annotated[Shape, typer.Option(help="source, 16:9, or 9:16: vertical, the middle of the game.")] = "source",
    face: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Where the face cam is, 0 to 1, to stand above a 9:16 game."),
    ] = None,
    source: Annotated[
        Literal["local", "remote"],
        typer.Option(help="local, or remote to cut the site's best quality, fetching the highlights only."),
    ] = "local",
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Cut the highlights into a reel."""
    stages.reel(
        Project(project),
        videos=videos,
        cut=cut,
        overlay=overlay,
        title=title,
        fade_seconds=fade_seconds,
        shape=shape,
        face=None if face is None else read_box(face),
        source=source,
        redo=redo,
    )


@example(app, "export sunday --to edl --to chapters")
def export(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO]...", help="All that have highlights, unless named.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="KIND",
            help="otio, fcpxml, edl, resolve, losslesscut, chapters, twitch, youtube or srt (repeatable); else all.",
        ),
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the highlights for video editors, YouTube, Twitch and players."""
    stages.export(Project(project), videos=videos, to=to, redo=redo)
