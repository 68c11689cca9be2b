"""How little of a stream must be looked at: a review queue with an oracle that answers, beside looking at random.

    python benchmarks/review.py ../shared/vods/vod_a ../shared/vods/vod_b

TRAIN's labels are hidden. In each round some spans of 10 s are asked of an oracle that knows them, a sequence model
learns from all answers so far, and its AP on TEST, which it never learns from, is measured. The first round goes by
loudness. Figures are medians over the seeds, and the least and the most of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from measures import Recording, prepare

from hlkit.features import learn_recipe
from hlkit.labels import SPAN_SCHEMA, covered
from hlkit.metrics import average_precision, base_rate
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.review import SPAN_SECONDS, Reason, review_queue
from hlkit.sequence_training import fit_sequence
from hlkit.signals import loudness

ROUNDS, SPANS_A_ROUND = 5, 4
ORDERS = ("queue", "random")


def learn(train: Recording, looked: np.ndarray, test: Recording, seed: int) -> tuple[np.ndarray, float]:
    """Scores of the train recording, and the AP on the test one, after learning from the frames that were looked at."""
    labels = np.where(looked, train.truth, -1).astype(np.int8)
    frames = train.frames.select("video", "frame", "time").with_columns(label=pl.Series(labels))
    recipe = learn_recipe([train.material], [labels], seed=seed)
    model = fit_sequence(frames, {frames["video"][0]: recipe.sources(train.material)}, seed=seed).model
    scores, theirs = (
        model.probabilities(recipe.sources(each.material), each.material.frames)[:, 1] for each in (train, test)
    )
    return scores, average_precision(test.truth, theirs)


def rounds(
    project: Project, train: Recording, test: Recording, order: str, seed: int
) -> list[tuple[float, float, float]]:
    """After each round: the share of TRAIN that was looked at, of its highlights, and the AP on TEST."""
    rng = np.random.default_rng(seed)
    heard, moved = train.material.sound, train.material.motion
    assert heard is not None and moved is not None
    features = np.concatenate(
        [np.asarray(moved, dtype=np.float32), np.asarray(heard, dtype=np.float32).mean(1)], axis=1
    )
    path = project.video(train.frames["video"][0])
    loud = loudness(path, train.frames["time"], progress=False)["loudness"]
    scores = (loud.rank() / len(loud)).to_numpy()
    looked, found = pl.DataFrame(schema=SPAN_SCHEMA), []
    for _ in range(ROUNDS):
        table = train.frames.select("video", "time").with_columns(score=pl.Series(scores, dtype=pl.Float32))
        reasons: tuple[Reason, ...] = ("likely", "uncertain", "new")
        if order == "random":
            table = table.with_columns(score=pl.Series(rng.random(len(table)), dtype=pl.Float32))
            reasons = ("likely",)
        queue = review_queue(table, looked, limit=SPANS_A_ROUND, features=features, reasons=reasons)
        looked = pl.concat([looked, queue.select("video", "start", "end", label=pl.lit("looked at"))])
        seen = covered(train.frames, looked)
        try:
            scores, ap = learn(train, seen, test, seed)
        except HlkitError:  # no highlight was seen yet, so nothing can be learned
            ap = base_rate(test.truth)
        found.append((float(seen.mean()), float(train.truth[seen].sum() / train.truth.sum()), ap))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="recording to learn from, without suffix")
    parser.add_argument("test", type=Path, help="recording to measure on, without suffix")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HlkitWarning)  # few answers hold nothing back, which each first round would tell
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        train, test = prepare(project, arguments.train), prepare(project, arguments.test)
        everything = np.ones(len(train.truth), dtype=bool)
        full = [learn(train, everything, test, seed)[1] for seed in range(arguments.seeds)]
        print(
            f"All labels: AP {statistics.median(full):.3f}; nine tenths of it are {0.9 * statistics.median(full):.3f}."
        )
        print(f"Spans of {SPAN_SECONDS:g} s, {SPANS_A_ROUND} a round.\n")
        print("| order | looked at | of the highlights | AP | of the seeds |\n|---|---|---|---|---|")
        for order in ORDERS:
            runs = [rounds(project, train, test, order, seed) for seed in range(arguments.seeds)]
            for states in zip(*runs, strict=True):
                share, seen, ap = (statistics.median(column) for column in zip(*states, strict=True))
                aps = sorted(state[2] for state in states)
                spread = f"{aps[0]:.3f} to {aps[-1]:.3f}"
                print(f"| {order} | {share:.0%} | {seen:.0%} | {ap:.3f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
