"""How well clips are told apart by a CNN with an RNN over them, beside the mean of what a CNN says of each picture.

    python benchmarks/actions.py ../shared/vods/vod_a.mp4 ../shared/vods/vod_b.mp4
    python benchmarks/actions.py TRAIN TEST --sets changes --count 120 --passes 15 --project actions

Two sets of classes, learned from clips of TRAIN and judged on clips of TEST:

- *changes*: made clips of which no picture by itself tells the class (`hlkit.changes`);
- *events*: clips around what the game itself counted, where `TRAIN.events.csv` and `TEST.events.csv` lie beside them
  (`second,event,amount`): kill, hurt, item, and nothing.

Both networks see the same clips, as many pictures in a pass, and as many passes. What is done is not done again, so a
run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import polars as pl

from hlkit import stages
from hlkit.changes import CHANGES
from hlkit.project import Project
from hlkit.video import probe

EVENTS = ("nothing", "kill", "hurt", "item")
# What else the game counts, and so is not nothing.
OTHERS = ("damage", "death")


def event_clips(video: Path, target: Path, *, seconds: float) -> Path:
    """Write the list of clips around a recording's events: one event in the middle, and no other class in the clip."""
    events = pl.read_csv(video.with_suffix(".events.csv")).filter(pl.col("event").is_in([*EVENTS, *OTHERS]))
    times = {name: events.filter(pl.col("event") == name)["second"].to_list() for name in (*EVENTS, *OTHERS)}
    half, length, rows = seconds / 2, probe(video).duration, []

    def is_free(at: float, names: tuple[str, ...]) -> bool:
        return all(abs(at - other) > half for name in names for other in times[name])

    for name in EVENTS[1:]:
        last = 0.0
        for at in times[name]:
            if half < at < length - half and at >= last and is_free(at, tuple({*EVENTS[1:], "death"} - {name})):
                rows.append((at, name))
                last = at + seconds
    most = max(sum(name == each for _, name in rows) for each in EVENTS[1:])
    empty = [at for at in range(2, int(length) - 2, int(2 * seconds)) if is_free(at, (*EVENTS[1:], *OTHERS))]
    rows += [(float(at), "nothing") for at in empty[:: max(1, len(empty) // most)][:most]]
    table = pl.DataFrame(
        [(str(video.resolve()), round(at - half, 3), round(at + half, 3), name) for at, name in sorted(rows)],
        schema=["link", "start", "end", "label"],
        orient="row",
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    table.write_csv(target)
    return target


def measure(
    root: Path, name: str, classes: tuple[str, ...], lists: tuple[Path, Path], options: argparse.Namespace
) -> None:
    """Learn from the clips of one list by both ways, and print both tables for those of the other."""
    project, test = Project(root / name), Project(root / f"{name}-test")
    quiet = {"say": lambda line: None}
    stages.download(project, lists[0], **quiet)
    stages.download(test, lists[1], **quiet)
    stages.frames(project, fps=options.fps, size=options.size)
    found = {}
    for way, clip in {"mean of pictures": None, "CNN + RNN": options.clip}.items():
        began = time.process_time()
        model = stages.train(
            project,
            videos=project.video_ids(),
            run=f"{options.backbone}-{clip or 'frame'}",
            classes=classes,
            backbone=options.backbone,
            num_frames_per_clip=clip,
            epochs=options.passes,
            learning_rate=options.learning_rate,
            sequence="none",
            # A flip would turn left into right, and other light is a class of its own.
            augment="none" if name == "changes" else "place",
            positive_share=None,
            monitor="val_loss",
            **quiet,
        )
        seconds = time.process_time() - began
        found[way] = stages.infer_files(
            test.videos, model=model, target=root / f"{name}-{clip or 'frame'}.csv", **quiet
        )
        print(f"{name}, {way}: {seconds:.0f} s of CPU to learn", flush=True)
    table = stages.compare_files(found, lists[1])
    print_table(table)


def print_table(table: pl.DataFrame) -> None:
    """A Markdown table of what `stages.compare_files` found."""
    print("| " + " | ".join(table.columns) + " |")
    for row in table.iter_rows():
        print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def main() -> None:
    """Make the clips, and measure both ways on each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--sets", nargs="+", choices=("changes", "events"), default=("changes", "events"))
    parser.add_argument("--kinds", nargs="+", choices=CHANGES, default=("closer", "away", "brighter", "darker"))
    parser.add_argument("--count", type=int, default=480, help="made clips to learn from; half as many to judge on")
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--fps", default="2")
    parser.add_argument("--clip", type=int, default=5, help="pictures that the RNN sees")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--project", type=Path, help="kept; a folder that is deleted unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.project or Path(temporary)
        for name in options.sets:
            if name == "changes":
                made = {"kinds": options.kinds, "seconds": options.seconds}
                folders = (
                    stages.changes(Project(root / "made"), options.train, count=options.count, **made),
                    stages.changes(Project(root / "made"), options.test, count=options.count // 2, seed=1, **made),
                )
                lists, classes = (folders[0] / "clips.csv", folders[1] / "clips.csv"), tuple(options.kinds)
            else:
                given = ((video, root / f"{video.stem}-events.csv") for video in (options.train, options.test))
                lists = tuple(event_clips(video, target, seconds=options.seconds) for video, target in given)
                classes = EVENTS
            measure(root, name, classes, lists, options)


if __name__ == "__main__":
    main()
