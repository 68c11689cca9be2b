"""How much a model finds in a recording that it did not learn from, beside the base rate and simple signals.

    python benchmarks/learning.py ../shared/vods/vod_a ../shared/vods/vod_b            # every table
    python benchmarks/learning.py TRAIN TEST --tables methods labels --seeds 3
    python benchmarks/learning.py TRAIN TEST --tables speed --video ../shared/vods/perf_360p30.mp4

TRAIN and TEST are recordings and their labels without their suffixes (`vod_a.mp4` and `vod_a.csv`). The first is
learned from, the second measured. Figures are medians over the seeds; CPU seconds are of all threads, training alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from extraction import in_turns
from measures import (
    Recording,
    first_recipe,
    frame_network,
    prepare,
    silent,
    with_sequence,
    without_sequence,
)

from hlkit import stages
from hlkit.features import Material, learn_recipe, watch
from hlkit.frames import read_index, stream_pictures
from hlkit.metrics import auroc, average_precision, bootstrap_interval, events_in_top_seconds
from hlkit.project import Project
from hlkit.sampling import Decoding
from hlkit.sequence_training import fit_sequence
from hlkit.signals import loudness, picture_change
from hlkit.sound import log_mel
from hlkit.split import assign_chunks
from hlkit.stages import runs
from hlkit.stages.sequences import load_sequence
from hlkit.timeline import add_intensity
from hlkit.training import load_model
from hlkit.video import find_ffmpeg

TABLES = ("methods", "labels", "decoding", "long", "speed", "explain")
SPANS = (1, 2, 4, 8, 16)


def row(test: Recording, scores: np.ndarray, chunks: np.ndarray, cpu: float) -> tuple[float, ...]:
    """AP, its interval, AUROC, events in a reel of the true length, CPU seconds."""
    low, high = bootstrap_interval(test.truth, scores, chunks)
    hit = events_in_top_seconds(test.frames, scores, test.labels).hit
    return average_precision(test.truth, scores), low, high, auroc(test.truth, scores), hit, cpu


def methods(project: Project, train: Recording, test: Recording, seeds: int, slow_seeds: int) -> None:
    """Every method beside the simple signals."""
    chunks = assign_chunks(test.frames)["chunk"].to_numpy()
    path, index = project.video(test.frames["video"][0]), test.frames
    loud = loudness(path, index["time"], progress=False)["loudness"].to_numpy()
    change = picture_change(index, project.frames, progress=False)["picture_change"].to_numpy()
    found = {
        "random (base rate)": [
            row(test, np.random.default_rng(seed).random(len(index)), chunks, 0.0) for seed in range(9)
        ],
        "picture change, 5 s": [row(test, _mean(test, change, 5), chunks, 0.0)],
        "loudness": [row(test, loud, chunks, 0.0)],
        "loudness, 5 s": [row(test, _mean(test, loud, 5), chunks, 0.0)],
    }
    for name, measure, count in (
        ("first system's recipe", first_recipe, slow_seeds),
        ("frame network", frame_network, slow_seeds),
        ("motion, no sequence model", without_sequence("motion"), seeds),
        ("sound, no sequence model", without_sequence("sound"), seeds),
        ("both, no sequence model", without_sequence("sound", "motion"), seeds),
        ("motion, LSTM", with_sequence("motion"), seeds),
        ("sound, LSTM", with_sequence("sound"), seeds),
        ("hlkit: both, LSTM", with_sequence("sound", "motion"), seeds),
        ("both, GRU", with_sequence("sound", "motion", rnn="gru"), seeds),
    ):
        if not count:
            continue
        found[name] = [row(test, *_pair(measure(project, train, test, seed), chunks)) for seed in range(count)]
        _print_methods({name: found[name]})
    print()
    _print_methods(found)


def _pair(result: tuple[np.ndarray, float], chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    return result[0], chunks, result[1]


def _print_methods(found: dict[str, list[tuple[float, ...]]]) -> None:
    for name, rows in found.items():
        ap, low, high, area, hit, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"| {name} | {ap:.3f} | {low:.3f} to {high:.3f} | {area:.3f} | {hit:g} | {cpu:.0f} | {len(rows)} |",
            flush=True,
        )


def _mean(recording: Recording, values: np.ndarray, seconds: float) -> np.ndarray:
    table = recording.frames.select("video", "time").with_columns(pl.Series("score", values))
    return add_intensity(table, window_seconds=seconds)["intensity"].to_numpy()


def label_curve(train: Recording, test: Recording, seeds: int) -> None:
    """AP on the test recording when the training recording was looked at up to its first 1, 2, 4 ... highlights."""
    chunks = assign_chunks(test.frames)["chunk"].to_numpy()
    spans = train.labels.sort("start")
    for count in (*(count for count in SPANS if count < len(spans)), len(spans)):
        until = spans["start"][count] if count < len(spans) else np.inf
        looked = train.frames.with_columns(
            label=pl.when(pl.col("time") < until).then(pl.col("label")).otherwise(-1).cast(pl.Int8)
        )
        aps, intervals = [], []
        for seed in range(seeds):
            recipe = learn_recipe([train.material], [looked["label"].to_numpy()], seed=seed)
            fit = fit_sequence(
                looked.select("video", "frame", "time", "label"),
                {looked["video"][0]: recipe.sources(train.material)},
                seed=seed,
            )
            scores = fit.model.probabilities(recipe.sources(test.material), test.material.frames)[:, 1]
            aps.append(average_precision(test.truth, scores))
            intervals.append(bootstrap_interval(test.truth, scores, chunks))
        middle = int(np.argsort(aps)[len(aps) // 2])
        low, high = intervals[middle]
        minutes = min(until, train.frames["time"].max()) / 60  # pyright: ignore[reportOperatorIssue, reportArgumentType]
        print(f"| {count} | {minutes:.1f} | {aps[middle]:.3f} | {low:.3f} to {high:.3f} |", flush=True)


def decodings(root: Path, train: Path, test: Path, seeds: int) -> None:
    """What the decoder's shortcut costs: AP of models that read exact or fast frames, in learning and in measuring."""
    for decoding in get_args(Decoding):
        project = Project(root / decoding)
        ours, theirs = prepare(project, train, decoding), prepare(project, test, decoding)
        for names in (("motion",), ("sound", "motion")):
            found = [with_sequence(*names)(project, ours, theirs, seed)[0] for seed in range(seeds)]
            aps = [average_precision(theirs.truth, scores) for scores in found]
            shown = f"{statistics.median(aps):.3f} | {min(aps):.3f} to {max(aps):.3f}"
            print(f"| {decoding} | {' and '.join(names)} | {shown} |", flush=True)


def long_video(train: Recording, rows: int = 65_000) -> None:
    """The sequence stage on the stored features of six hours: wall seconds, and of scoring them."""
    recipe = learn_recipe([train.material], [train.truth])
    sources = recipe.sources(train.material)
    again = np.arange(rows) % len(train.frames)
    long = {name: np.asarray(table)[again] for name, table in sources.items() if table is not None}
    frames = pl.DataFrame(
        {"video": ["long"] * rows, "frame": range(rows), "time": np.arange(rows) / 3, "label": train.truth[again]}
    )
    start = time.perf_counter()
    fit = fit_sequence(frames, {"long": long})
    trained = time.perf_counter()
    fit.model.probabilities(long, frames)
    print(f"{rows:,} frames: trained in {trained - start:.1f} s, scored in {time.perf_counter() - trained:.1f} s")


def speed(project: Project, video: Path, rounds: int = 5) -> None:
    """Scoring a recording from its file, and each part of that by itself, over decoding alone: wall seconds."""
    stages.download(project, str(video), video="speed", progress=False, say=silent)
    decode = [find_ffmpeg(), "-v", "error", "-i", str(video), "-an", "-f", "null", "-"]
    ways: dict[str, Callable[[], object]] = {
        "decoding alone": lambda: subprocess.run(decode, check=True, stdin=subprocess.DEVNULL),
        "sound and motion": lambda: _score(project, "hlkit-speed"),
        "the picture network": lambda: _score(project, "pictures"),
        **_parts(project, video),
    }
    found = in_turns(ways, rounds)
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.2f} | {seconds / found['decoding alone']:.2f} |")


def _score(project: Project, run: str) -> None:
    for kept in project.signals("speed").glob("*.npy"):
        kept.unlink()
    stages.infer(project, run=run, videos=["speed"], redo=True, progress=False, say=silent)


def _parts(project: Project, video: Path) -> dict[str, Callable[[], object]]:
    """The steps of scoring, each by itself on what the steps before it gave."""
    model, config = load_model(runs.checkpoint(project, "pictures"))
    sequence, recipe, _ = load_sequence(project, "hlkit-speed")
    options = {"fps": config.fps, "size": config.size}
    batches = list(stream_pictures(video, **options))
    count = sum(map(len, batches))
    frames = pl.DataFrame({"video": ["speed"] * count, "frame": range(count), "time": np.arange(count) / 3})
    heard = log_mel(video, fps=config.fps, count=count, progress=False)
    material = Material(frames, heard, watch(iter(batches), count, progress=False)[0])
    return {
        "part: decoding to small pictures": lambda: list(stream_pictures(video, **options)),
        "part: motion": lambda: watch(iter(batches), count, progress=False),
        "part: motion and the picture network": lambda: watch(iter(batches), count, model=model, progress=False),
        "part: sound": lambda: log_mel(video, fps=config.fps, count=count, progress=False),
        "part: sequence model": lambda: sequence.probabilities(recipe.sources(material), frames),
    }


def explaining(project: Project, video: str, run: str, count: int = 12) -> None:
    """Seconds of LIME for a frame at its default settings, and how alike the weights of two seeds are."""
    from hlkit.explain import explain_frame, read_picture
    from hlkit.shards import FrameReader

    model, config = load_model(runs.checkpoint(project, run))
    index, reader = read_index(project.frames / video), FrameReader(project.frames)
    seconds, alike = [], []
    for number in np.linspace(0, len(index) - 1, count).astype(int).tolist():
        picture = read_picture(reader, index.row(number, named=True))
        start = time.perf_counter()
        first = explain_frame(model, config, picture, seed=0)
        seconds.append(time.perf_counter() - start)
        alike.append(float(np.corrcoef(first.weights, explain_frame(model, config, picture, seed=1).weights)[0, 1]))
    # The first one also pays for the imports.
    print(
        f"| {statistics.median(seconds):.2f} | {seconds[0]:.2f} | {statistics.median(alike):.3f} | {min(alike):.3f} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="recording to learn from, without suffix")
    parser.add_argument("test", type=Path, help="recording to measure on, without suffix")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow-seeds", type=int, help="of the two picture networks; 0 leaves them out")
    parser.add_argument("--video", type=Path, help="recording for the speed table; TEST's unless given")
    parser.add_argument("--project", type=Path, help="keep the work here (a temporary folder unless set)")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        project = Project(arguments.project or Path(folder))
        train, test = prepare(project, arguments.train), prepare(project, arguments.test)
        if "methods" in arguments.tables:
            print("\n| on the test recording | AP | 95 % interval | AUROC | events in reel | CPU s | seeds |")
            print("|---|---|---|---|---|---|---|")
            methods(
                project,
                train,
                test,
                arguments.seeds,
                arguments.seeds if arguments.slow_seeds is None else arguments.slow_seeds,
            )
        if "labels" in arguments.tables:
            print("\n| highlights marked | minutes watched | AP | 95 % interval |\n|---|---|---|---|")
            label_curve(train, test, arguments.seeds)
        if "decoding" in arguments.tables:
            print("\n| decoding | reads | AP | of the seeds |\n|---|---|---|---|")
            decodings(project.root, arguments.train, arguments.test, arguments.seeds)
        if "long" in arguments.tables:
            print()
            long_video(train)
        names = [train.frames["video"][0]]
        if {"speed", "explain"} & set(arguments.tables):
            # Neither speed nor what LIME does depends on how long it trained.
            stages.train(project, videos=names, run="pictures", sequence="none", epochs=2, progress=False, say=silent)
        if "explain" in arguments.tables:
            print("\n| LIME, s a frame | the first | likeness of two seeds | the least |\n|---|---|---|---|")
            explaining(project, test.frames["video"][0], "pictures")
        if "speed" in arguments.tables:
            stages.train(project, videos=names, run="hlkit-speed", epochs=1, progress=False, say=silent)
            print("\n| scoring | s | / decoding alone |\n|---|---|---|")
            speed(project, arguments.video or arguments.test.with_suffix(".mp4"))


if __name__ == "__main__":
    main()
