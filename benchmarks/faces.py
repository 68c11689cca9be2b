"""How well a face tells that something happened, on a recording that nothing was learned from.

    python benchmarks/faces.py ../shared/vods/vod_a.mp4 ../shared/vods/vod_b.mp4 --labels FACES --project faces
    python benchmarks/faces.py data/demo/demo_a.mp4 data/demo/demo_b.mp4 --labels data/demo/demo_faces.txt

Learns from TRAIN and judges TEST by the lines `path "[box]" "(start, end)" ...` of FACES. A *view* is what the network
is shown: the `face` (the box), the `whole` picture, or `both`, the face above the whole in one square. Where the
recordings have lists of events beside them (`<name>.events.csv`: second, event), FACES is made of those: a second from
each that is called `--event`. What is done is not done again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl

from hlkit import stages
from hlkit.labels import merge_spans, read_labels, write_labels
from hlkit.project import Project
from hlkit.sampling import Box, read_box
from hlkit.video import probe

SIDE = 64


def event_labels(videos: list[Path], event: str, box: Box, target: Path) -> Path:
    """Boxed lines of a second from each event of that name."""
    rows = [
        (video.stem, second, min(second + 1.0, probe(video).duration), "highlight")
        for video in videos
        for second, name in pl.read_csv(video.with_suffix(".events.csv")).select("second", "event").iter_rows()
        if name == event
    ]
    spans = merge_spans(pl.DataFrame(rows, schema=["video", "start", "end", "label"], orient="row"))
    write_labels(spans, target, format="boxed", boxes={video.stem: box for video in videos})
    return target


def prepare(project: Project, view: str, videos: list[Path], labels: Path, fps: str) -> None:
    """Bring recordings, labels and frames of one view into a project."""
    for video in videos:
        stages.download(project, video, progress=False, say=quiet)
    lengths = {video.stem: probe(video).duration for video in videos}
    spans = project.root / "spans.csv"
    write_labels(read_labels(labels, durations=lengths), spans)  # without the boxes
    stages.label(project, spans if view == "whole" else labels, say=quiet)
    stages.frames(project, fps=fps, size=SIDE, whole_too=view == "both", progress=False, say=quiet)
    project.save_settings(window_seconds=1.0)


def measure(project: Project, train: str, test: str, view: str, sound: str, network: str) -> None:
    """Train one network and print a row of the table."""
    backbone, passes, rate = network.split(":")
    run, began = f"{backbone}-{sound}", time.process_time()
    options = {"backbone": backbone, "epochs": int(passes), "learning_rate": float(rate), "sound": sound}
    stages.train(
        project, videos=[train], run=run, monitor="val_precision", sequence="none", say=quiet, progress=False, **options
    )
    seconds = time.process_time() - began
    stages.infer(project, videos=[test], run=run, progress=False, say=quiet)
    card = stages.score(project, run=run, videos=[test], say=quiet)
    for name, ap, smoothed, low, high in card.select("name", "ap", "ap_smoothed", "low", "high").iter_rows():
        what = f"{view}, {sound}, {network}" if name == "hlkit" else name
        print(f"| {what} | {ap:.3f} | {smoothed:.3f} | {low:.3f} to {high:.3f} | {seconds:.0f} |", flush=True)


def quiet(line: str) -> None:
    """Take a line and say nothing."""


def main() -> None:
    """Measure every view and network that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--labels", type=Path, help="lines with boxes; made of the events unless given")
    parser.add_argument("--event", default="hurt")
    parser.add_argument("--box", default="0.465,0.84,0.535,1", help="of the events' lines")
    parser.add_argument("--views", nargs="+", choices=("face", "whole", "both"), default=["face", "whole", "both"])
    parser.add_argument("--sounds", nargs="+", choices=("none", "power", "spectrum"), default=["none"])
    parser.add_argument("--networks", nargs="+", default=["resnet18:8:0.001"])
    parser.add_argument("--fps", default="3")
    parser.add_argument("--project", type=Path, help="kept, a folder a view; deleted unless given")
    arguments = parser.parse_args()
    videos = [arguments.train, arguments.test]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.project or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / "faces.txt"
        labels = arguments.labels or event_labels(videos, arguments.event, read_box(arguments.box), made)
        print("| shown, heard, network | AP | over 1 s | its 95 % | CPU s |")
        for view in arguments.views:
            project = Project(folder / view)
            prepare(project, view, videos, labels, arguments.fps)
            for sound in arguments.sounds:
                for network in arguments.networks:
                    measure(project, videos[0].stem, videos[1].stem, view, sound, network)


if __name__ == "__main__":
    main()
