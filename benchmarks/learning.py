"""How much a model finds in a recording that it did not learn from, beside the base rate and simple signals.

    python benchmarks/learning.py ../shared/vods/vod_a ../shared/vods/vod_b

Each argument is a recording and its labels without their suffixes (`vod_a.mp4` and `vod_a.csv`). The first is learned
from, the second measured. Prints one table a model (median of the seeds), seconds of training, and the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import polars as pl

from hlkit import stages
from hlkit.project import Project

MODELS = {"frames": None, "clips": 8}


def main() -> None:
    """Train each model with each seed, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="recording to learn from, without suffix")
    parser.add_argument("test", type=Path, help="recording to measure on, without suffix")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="single frames, clips of 8")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--window-seconds", type=float, default=5.0, help="of the smoothed scores")
    parser.add_argument("--project", type=Path, help="keep the work here (a temporary folder unless set)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Project(arguments.project or Path(folder))
        prepare(project, arguments.train, arguments.test, arguments.window_seconds)
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        for name in arguments.models:
            measure(project, name, MODELS[name], arguments)


def prepare(project: Project, train: Path, test: Path, window_seconds: float) -> None:
    """Recordings, frames and labels of both videos."""
    for base in (train, test):
        stages.download(project, str(base.with_suffix(".mp4")), video=base.name)
        stages.label(project, base.with_suffix(".csv"), video=base.name)
    stages.frames(project)
    project.save_settings(train_videos=[train.name], window_seconds=window_seconds)


def measure(project: Project, name: str, num_frames: int | None, arguments: argparse.Namespace) -> None:
    """Train and score with every seed; print the median table."""
    tables, seconds = [], []
    for seed in range(arguments.seeds):
        run = f"{name}-{seed}"
        start = time.perf_counter()
        stages.train(project, run=run, num_frames_per_clip=num_frames, seed=seed)
        seconds.append(time.perf_counter() - start)
        stages.infer(project, run=run, videos=[arguments.test.name])
        stages.timeline(project, run=run, videos=[arguments.test.name])
        tables.append(stages.score(project, run=run, videos=[arguments.test.name]))
    table = pl.concat(tables).drop("video").group_by("name", maintain_order=True).median()
    print(f"\n{name}: trained in {sorted(seconds)[len(seconds) // 2]:.0f} s, median of {arguments.seeds} seeds")
    print(table)


if __name__ == "__main__":
    main()
