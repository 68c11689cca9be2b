"""The stages as commands: `hlkit STAGE ...`. Nothing of its own: each command is one call of `hlkit.stages`.

Exit status: 0 done, 1 failed with the reason on one line, 2 wrong usage, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from hlkit import stages
from hlkit.labels import LabelFormat
from hlkit.project import HlkitError, HlkitWarning, Project, parse_time
from hlkit.sampling import Accelerator, Decoding, read_box

# The choices of `hlkit.training.fit` and `hlkit.reel.write_reel`, again: their modules are slow to import, and the type
# checker holds these lists against theirs.
Augment = Literal["all", "place", "none"]
Monitor = Literal["val_ap", "val_precision", "val_recall", "val_f1", "val_accuracy", "val_loss"]
LoggerName = Literal["csv", "mlflow", "wandb"]
Overlay = Literal["none", "score"]
CutMode = Literal["smart", "keyframe", "encode"]
Shape = Literal["source", "16:9", "9:16"]
ReelSource = Literal["local", "remote"]
SequenceKind = Literal["gru", "lstm", "none"]
Rest = Literal["background", "near"]

# The shell's number for a program that Ctrl-C has ended.
STOPPED = 130

DEFAULT_PROJECT = Path("hlkit-project")

app = typer.Typer(
    name="hlkit",
    help="Find the highlights of long game streams and cut them into a reel.",
    epilog="Start with: hlkit demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _verbose(value: bool) -> None:
    if value:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("hlkit").setLevel(logging.DEBUG)


def _time(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


ProjectOption = Annotated[Path, typer.Option("--project", metavar="DIR", help="The project's folder.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", callback=_verbose, help="Say more, and show the traceback of a failure.")
]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do it again, even if it is already done.")]
VideosOption = Annotated[list[str] | None, typer.Option("--video", metavar="ID", help="Only this video (repeatable).")]
RunOption = Annotated[str | None, typer.Option("--run", help="The name of the training run.")]
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
TimeOption = Annotated[float | None, typer.Option(parser=_time, metavar="TIME", help="Seconds or h:mm:ss.")]


def _example(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose help ends with an example."""
    return app.command(epilog=f"Example: hlkit {command}")


@_example("download https://www.twitch.tv/videos/1234567 --video saturday")
def download(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, lists of links (.csv, .txt), Twitch VODs (link or number), clips or channels, "
            "links to other video sites.",
        ),
    ],
    video: Annotated[str | None, typer.Option("--video", metavar="ID", help="The id it gets in the project.")] = None,
    quality: Annotated[
        str, typer.Option(help="analysis (about 360p), source (the best), or a name such as 720p60.")
    ] = "analysis",
    limit: Annotated[int, typer.Option(min=1, help="Of a channel, the newest so many.")] = 1,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Take the chat of Twitch VODs too.")] = True,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring recordings into the project."""
    stages.download(Project(project), sources, video=video, quality=quality, limit=limit, chat=chat, redo=redo)


@_example("channel streamer --limit 5")
def channel(
    name: Annotated[str, typer.Argument(help="A Twitch channel, or the link of another channel or playlist.")],
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 10,
    verbose: VerboseOption = False,
) -> None:
    """List the newest videos of a channel."""
    stages.channel(name, limit=limit)


@_example("frames --fps 3 --size 128")
def frames(
    videos: VideosOption = None,
    fps: Annotated[str, typer.Option(help="Pictures a second: 3, 0.5 or 30000/1001.")] = "3",
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of a picture in pixels.")] = 128,
    start: TimeOption = None,
    end: TimeOption = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="The part of the picture, 0 to 1; else all."),
    ] = None,
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
        accelerator=accelerator,
        decoding=decoding,
        redo=redo,
    )


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
    return None if pairs is None else dict(map(_old_and_new, pairs))


def _old_and_new(text: str) -> tuple[str, str]:
    old, sign, new = text.rpartition("=")
    if not sign or not old:
        raise typer.BadParameter(f"'{text}' is no pair of classes. Give OLD=NEW, as in 'Boss fight=highlight' or '*='.")
    return old.strip(), new.strip()


@_example("label saturday.csv")
def label(
    source: LabelFileArgument,
    video: LabelVideoOption = None,
    fps: LabelFpsOption = None,
    format: LabelFormatOption = None,
    classes: LabelClassesOption = None,
    add: Annotated[bool, typer.Option("--add", help="Keep the labels that are there, too.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take label spans into the project."""
    stages.label(
        Project(project),
        source,
        video=video,
        fps=fps,
        format=format,
        classes=_class_names(classes),
        add=add,
        redo=redo,
    )


@_example("agree brother.csv --video saturday")
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


@_example("export-labels labels.json --format labelstudio --fps 30")
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


@_example("match best-of-saturday.mp4 --video saturday")
def match(
    video: Annotated[str, typer.Option("--video", metavar="ID", help="The stream's recording in the project.")],
    reels: Annotated[
        list[Path] | None, typer.Argument(metavar="[REEL]...", help="Highlight videos that were cut from the stream.")
    ] = None,
    clips: Annotated[bool, typer.Option("--clips", help="Use the clips that viewers made on Twitch.")] = False,
    rest: Annotated[
        Rest | None,
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


@_example("push r2://my-bucket/my-stream")
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


@_example("pull r2://my-bucket/my-stream --only models")
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


@_example("status")
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


@_example("verify --repair")
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


@_example("delete --only frames --video saturday --yes")
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


@_example("link sunday --hours 48")
def link(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Whose reel.")],
    store: StoreArgument = None,
    hours: Annotated[float, typer.Option(help="How long the link holds, at most 168.")] = 24.0,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Print a link under which anyone can watch a pushed reel for some hours."""
    stages.link(Project(project), video, store, hours=hours)


@_example("train --video saturday --epochs 12")
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
    monitor: Annotated[Monitor, typer.Option(help="The validation metric whose best epoch is kept.")] = "val_ap",
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
        weights=weights,
        epochs=epochs,
        learning_rate=learning_rate,
        augment=augment,
        monitor=monitor,
        sequence=sequence,
        seed=seed,
        logger=logger,
        redo=redo,
    )


@_example("review --video sunday --limit 5")
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


@_example("relearn")
def relearn(run: RunOption = None, project: ProjectOption = DEFAULT_PROJECT, verbose: VerboseOption = False) -> None:
    """Learn anew from the labels as they are now, in seconds, and score again what was scored."""
    stages.relearn(Project(project), run=run)


ThresholdsOption = Annotated[
    list[str] | None,
    typer.Option("--above", metavar="CLASS=SHARE", help="A class counts above this share of a file (repeatable)."),
]


def _shares(pairs: list[str] | None) -> dict[str, float]:
    try:
        return {name: float(share) for name, share in map(_old_and_new, pairs or ())}
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Give CLASS=SHARE, as in blurred=0.75.") from error


@_example("infer --video sunday")
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
    keep_cut: Annotated[bool, typer.Option("--keep-cut", help="Keep FILE's stretch as NAME_cut.mp4.")] = False,
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
        keep_cut=keep_cut,
        target=target,
        redo=redo,
    )


@_example("sort clips --model hlkit-project/models/focus/model.ckpt --above blurred=0.75 --into sorted")
def sort(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Videos, or folders of them.")],
    model: Annotated[Path, typer.Option(help="A model.ckpt that tells the classes apart.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder for each class.")],
    thresholds: ThresholdsOption = None,
    target: Annotated[Path | None, typer.Option("--csv", help="Where the shares of each file go.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Move them; without, only say what would be moved.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Sort video files into a folder for each class."""
    stages.sort(files, model=model, into=into, thresholds=_shares(thresholds), target=target, yes=yes)


@_example("unsort sorted")
def unsort(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Into which files were sorted.")],
    verbose: VerboseOption = False,
) -> None:
    """Move back what was sorted into a folder."""
    stages.unsort(folder)


@_example("pictures sorted-pictures --video holidays")
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


@_example("timeline --minutes 10")
def timeline(
    videos: VideosOption = None,
    run: RunOption = None,
    window_seconds: Annotated[float | None, typer.Option(help="Of the mean that makes the intensity.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Pick where the intensity is at least this.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Pick the best, so many minutes at most.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Pick so that this share of it was right on held-back chunks, such as 0.8.")
    ] = None,
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
        snap=snap,
        redo=redo,
    )


@_example("reel --title auto --fade 0.3 --shape 9:16 --face 0.46,0.84,0.54,1")
def reel(
    videos: VideosOption = None,
    cut: Annotated[
        CutMode | None,
        typer.Option(
            help="smart copies what needs no encoding, to the picture; keyframe goes from keyframe to keyframe, in no "
            "time; encode encodes all. Left out: smart, or encode with an overlay or another shape."
        ),
    ] = None,
    overlay: Annotated[Overlay, typer.Option(help="none, or score to draw the score on the picture.")] = "none",
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
        ReelSource, typer.Option(help="local, or remote to cut the site's best quality, fetching the highlights only.")
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


@_example("export sunday --to edl --to chapters")
def export(
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO]...", help="All that have highlights, unless named.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="KIND",
            help="otio, fcpxml, edl, resolve, losslesscut, chapters, twitch or srt (repeatable); all, unless named.",
        ),
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the highlights for video editors, YouTube, Twitch and players."""
    stages.export(Project(project), videos=videos, to=to, redo=redo)


@_example("score")
def score(
    videos: VideosOption = None,
    run: RunOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Judge the scores by your labels, beside loudness, picture change and chance, and write a one-page report."""
    stages.score(Project(project), videos=videos, run=run, redo=redo)


@_example("compare first second")
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more; each is held against the first.")],
    videos: VideosOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    verbose: VerboseOption = False,
) -> None:
    """Set runs side by side: which is better, and whether by more than chance."""
    stages.compare(Project(project), runs=runs, videos=videos)


@_example("explain")
def explain(
    videos: VideosOption = None,
    run: RunOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    redo: RedoOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what in a picture, and which seconds of sound and motion, spoke for the highest score."""
    stages.explain(Project(project), videos=videos, run=run, redo=redo)


@_example("demo --project my-demo")
def demo(project: ProjectOption = Path("hlkit-demo"), verbose: VerboseOption = False) -> None:
    """Run every stage on the two recordings that come with hlkit, and print how well it did."""
    from hlkit import demo as recordings

    recordings.run(Project(project))
    stages.score(Project(project))


def main() -> None:
    """The `hlkit` command."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", HlkitWarning)
    try:
        app()
    except SystemExit as end:
        if end.code == STOPPED:
            sys.stderr.write("\nhlkit: stopped. Run the same command again; it goes on where it stopped.\n")
        raise
    except (HlkitError, OSError) as error:
        if logging.getLogger("hlkit").isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        sys.exit(f"hlkit: {_one_line(error)}")


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    # What a library wants to tell its caller is no news for a user; a fall-back of hlkit's is.
    if issubclass(category, HlkitWarning):
        sys.stderr.write(f"hlkit: {message}\n")
    else:
        logging.getLogger("hlkit").debug("%s", message)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Free some space and run the same command again; it goes on where it stopped."
    return " ".join(str(error).split())
