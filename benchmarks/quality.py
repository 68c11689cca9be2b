"""How well exposure and focus are told of clips of a recording that nothing was learned from.

    python benchmarks/quality.py ../shared/vods/vod_a.mp4 ../shared/vods/vod_b.mp4
    python benchmarks/quality.py TRAIN TEST --networks measures:20:0.03 resnet18:4:0.001 --project quality

Learns from pictures of TRAIN and judges clips of TEST, both with defects of known amounts (`hlkit.defects`). A network
is `backbone:passes:learning rate`. What is done is not done again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl

from hlkit import stages
from hlkit.class_metrics import ALL
from hlkit.project import Project

CLASSES = {"exposure": ("good", "under", "over"), "focus": ("sharp", "blurred")}


def measure(project: Project, clips: Path, task: str, network: str) -> None:
    """Train one network for one question and print a row of the table."""
    backbone, passes, rate = network.split(":")
    run, began = f"{task}-{backbone}", time.process_time()
    model = stages.train(
        project,
        videos=[task],
        run=run,
        classes=CLASSES[task],
        backbone=backbone,
        epochs=int(passes),
        learning_rate=float(rate),
        sequence="none",
        augment="place",
        positive_share=None,
        monitor="val_loss",
        say=lambda line: None,
    )
    seconds = time.process_time() - began
    found = stages.infer_files(clips, model=model, say=lambda line: None)
    cells = []
    for card in stages.judge_files(found, clips / f"{task}.csv", say=lambda line: None):
        row = card.filter(pl.col("class") == ALL).row(0, named=True)
        cells += [f"{row['base_rate']:.1%}", f"{row['precision']:.1%}", f"{row['ap']:.3f}"]
        cells += [f"{row['low']:.3f} to {row['high']:.3f}"]
    print(f"| {task} | {backbone} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def main() -> None:
    """Make the pictures and clips, and measure every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--networks", nargs="+", default=["measures:20:0.03", "resnet18:6:0.001"])
    parser.add_argument("--tasks", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--project", type=Path, help="kept; a folder that is deleted unless given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = Project(arguments.project or Path(temporary))
        pictures = stages.defects(project, arguments.train, what="pictures")
        clips = stages.defects(project, arguments.test, what="clips", seed=1)
        for task in arguments.tasks:
            stages.pictures(project, pictures / f"{task}.csv")
        print("| question | network | frames: guess | right | AP | 95 % | clips: guess | right | AP | 95 % | CPU s |")
        for network in arguments.networks:
            for task in arguments.tasks:
                measure(project, clips, task, network)


if __name__ == "__main__":
    main()
