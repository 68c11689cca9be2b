"""How well a picture network with sound beside it tells highlights of a recording that it did not learn from.

    python benchmarks/digest.py ../shared/vods/vod_a ../shared/vods/vod_b
    python benchmarks/digest.py TRAIN TEST --networks lstm:power:8 gru:spectrum:8 frame:none:8 --project DIR

TRAIN and TEST are recordings and their labels without their suffixes (`vod_a.mp4` and `vod_a.csv`). The labels go
through Scalabel's JSON at 5 frames a second, as a tool for labelling exports them. A network is `lstm`, `gru` or
`frame`, what it hears, and passes; background is dropped from its training part by blocks. What is done is not done
again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl

from hlkit import stages
from hlkit.labels import DEFAULT_LABEL, read_labels, write_labels
from hlkit.project import Project

FPS = "5"


def silent(line: str) -> None:
    """Take the stages' lines and say nothing."""


def prepare(project: Project, base: Path, size: int) -> None:
    """Bring a recording, its frames and its labels, by way of Scalabel, into the project."""
    stages.download(project, str(base.with_suffix(".mp4")), video=base.name, progress=False, say=silent)
    stages.frames(project, videos=[base.name], fps=FPS, size=size, progress=False, say=silent)
    exported = project.root / f"{base.name}-scalabel.json"
    write_labels(read_labels(base.with_suffix(".csv")), exported, format="scalabel", fps=FPS)
    stages.label(project, exported, fps=FPS, say=silent)


def measure(project: Project, arguments: argparse.Namespace, network: str, seed: int) -> None:
    """Train one network and print its rows."""
    rnn, sound, passes = network.split(":")
    videos = [arguments.train.name, arguments.test.name]
    run, began = f"{arguments.backbone}-{rnn}-{sound}-{passes}-{arguments.rate:g}-{seed}", time.process_time()
    clip = {} if rnn == "frame" else {"num_frames_per_clip": 10, "rnn": rnn}
    stages.train(
        project,
        videos=videos[:1],
        run=run,
        backbone=arguments.backbone,
        sound=sound,  # pyright: ignore[reportArgumentType]
        epochs=int(passes),
        learning_rate=arguments.rate,
        background_ratio=arguments.ratio,
        sequence="none",
        seed=seed,
        progress=False,
        say=silent,
        **clip,  # pyright: ignore[reportArgumentType]
    )
    seconds = time.process_time() - began
    stages.infer(project, videos=videos, run=run, progress=False, say=silent)
    table = stages.classes(project, run=run, blocks=arguments.blocks, say=silent)
    for row in table.filter(pl.col("class") == DEFAULT_LABEL).iter_rows(named=True):
        names = ("base_rate", "precision", "recall", "f1", "ap")
        cells = " | ".join("-" if row[name] is None else f"{row[name]:.3f}" for name in names)
        interval = "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"| {run} | {row['part']} | {row['seconds']:g} | {cells} | {interval} | {seconds:.0f} |", flush=True)


def main() -> None:
    """Prepare both recordings and measure every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--networks", nargs="+", default=["lstm:power:8", "lstm:none:8"])
    parser.add_argument("--backbone", default="resnet18", help="or measures: brightness and sharpness, no network")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--rate", type=float, default=0.001, help="the highest learning rate")
    parser.add_argument("--ratio", type=float, default=1.0, help="background for each highlight frame")
    parser.add_argument("--blocks", type=float, nargs="+", default=[0, 1, 2, 5, 10], help="seconds; 0: frames")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--project", type=Path, help="kept; a folder that is deleted unless given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = Project(arguments.project or Path(temporary))
        for base in (arguments.train, arguments.test):
            prepare(project, base, arguments.size)
        print("| run | part | block, s | base rate | precision | recall | F1 | AP | 95 % | CPU s |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for seed in range(arguments.seeds):
            for network in arguments.networks:
                measure(project, arguments, network, seed)


if __name__ == "__main__":
    main()
