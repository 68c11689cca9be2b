"""The ways of scoring a recording that `benchmarks/learning.py` compares: each learns from one and scores another.

A measure takes a project, both recordings and a seed, and gives the final scores, float (frames,), and the CPU seconds
of all threads that learning took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression

from hlkit import stages
from hlkit.features import Material, Recipe, learn_recipe
from hlkit.frames import read_index
from hlkit.labels import covered
from hlkit.metrics import average_precision
from hlkit.project import Project
from hlkit.sampling import Decoding
from hlkit.sequence_training import SMOOTHING_SECONDS, Fit, fit_sequence
from hlkit.split import rebalance, split_frames
from hlkit.stages import tables
from hlkit.stages.materials import stored_material
from hlkit.timeline import smooth


def silent(line: str) -> None:
    """Take the stages' lines and say nothing."""


@dataclass
class Recording:
    """A recording with what is known of it."""

    frames: pl.DataFrame
    labels: pl.DataFrame
    material: Material

    @property
    def truth(self) -> np.ndarray:
        """int8 (frames,)."""
        return self.frames["label"].to_numpy()


@contextmanager
def cpu_seconds() -> Iterator[Callable[[], float]]:
    """Yield a function that says how many CPU seconds this process has used since."""
    start = time.process_time()
    yield lambda: time.process_time() - start


def prepare(project: Project, base: Path, decoding: Decoding = "exact") -> Recording:
    """Bring a recording with its labels into the project; sound and motion are worked out and kept."""
    stages.download(project, str(base.with_suffix(".mp4")), video=base.name, progress=False, say=silent)
    stages.label(project, base.with_suffix(".csv"), video=base.name, say=silent)
    stages.frames(project, videos=[base.name], decoding=decoding, progress=False, say=silent)
    labels = tables.labels_of(project, base.name)
    assert labels is not None
    frames = read_index(project.frames / base.name)
    frames = frames.with_columns(label=pl.Series(covered(frames, labels), dtype=pl.Int8))
    return Recording(frames, labels, stored_material(project, base.name, progress=False))


def sequence_fit(train: Recording, names: tuple[str, ...], seed: int, **options: str) -> tuple[Fit, Recipe]:
    """A sequence model on some of the sources."""
    recipe = learn_recipe([train.material], [train.truth], seed=seed)
    sources = {name: table for name, table in recipe.sources(train.material).items() if name in names}
    frames = train.frames.select("video", "frame", "time", "label")
    return fit_sequence(frames, {frames["video"][0]: sources}, seed=seed, **options), recipe  # pyright: ignore[reportArgumentType]


def with_sequence(*names: str, **options: str) -> Callable[..., tuple[np.ndarray, float]]:
    """hlkit's sequence model; smoothing and temperature from held-back chunks of the training recording."""

    def measure(project: Project, train: Recording, test: Recording, seed: int) -> tuple[np.ndarray, float]:
        with cpu_seconds() as used:
            fit, recipe = sequence_fit(train, names, seed, **options)
            cpu = used()
        sources = {name: table for name, table in recipe.sources(test.material).items() if name in names}
        return fit.model.probabilities(sources, test.material.frames)[:, 1], cpu

    return measure


def without_sequence(*names: str) -> Callable[..., tuple[np.ndarray, float]]:
    """The same inputs frame by frame: logistic regression, smoothed as is best on the training recording."""

    def measure(project: Project, train: Recording, test: Recording, seed: int) -> tuple[np.ndarray, float]:
        with cpu_seconds() as used:
            recipe = learn_recipe([train.material], [train.truth], seed=seed)
            tables_ = {name: table for name, table in recipe.sources(train.material).items() if name in names}
            frames = train.frames.select("video", "frame", "time", "label")
            whitened = fit_sequence(frames, {frames["video"][0]: tables_}, steps=1, members=2, seed=seed).model
            ours = whitened.inputs(tables_, len(frames)).numpy()
            model = LogisticRegression(C=0.01, max_iter=500).fit(ours, train.truth)
            said = model.predict_proba(ours)
            aps = {
                seconds: average_precision(train.truth, smooth(said, frames, seconds)[:, 1])
                for seconds in SMOOTHING_SECONDS
            }
            cpu = used()
        sources = {name: table for name, table in recipe.sources(test.material).items() if name in names}
        theirs = whitened.inputs(sources, len(test.frames)).numpy()
        return smooth(model.predict_proba(theirs), test.material.frames, max(aps, key=lambda key: aps[key]))[:, 1], cpu

    return measure


def frame_network(project: Project, train: Recording, test: Recording, seed: int) -> tuple[np.ndarray, float]:
    """hlkit's picture network alone: ResNet18 at 128 px from random weights."""
    run, video = f"frames-{seed}", train.frames["video"][0]
    with cpu_seconds() as used:
        stages.train(project, videos=[video], run=run, sequence="none", seed=seed, progress=False, say=silent)
        cpu = used()
    name = test.frames["video"][0]
    stages.infer(project, run=run, videos=[name], progress=False, say=silent)
    return tables.read_scores(project, name, run=run)["score"].to_numpy(), cpu


def first_recipe(project: Project, train: Recording, test: Recording, seed: int) -> tuple[np.ndarray, float]:
    """What the first system did, on the same split: ResNet18 from random weights on 224 px, pixels in [0, 1], Adam
    1e-4, 5 epochs, batches of 128, the training part balanced to 30 % highlights, float32."""
    from torchvision.models import resnet18

    from hlkit.dataset import BalancedSampler, FrameDataset

    root = project.root / "recipe"
    _extract_224(project, root, train, test)
    torch.manual_seed(seed)
    network = resnet18(num_classes=2)
    table = split_frames(_index_224(root, train), seed=seed).filter(pl.col("part") == "train")
    data = FrameDataset(table, root, cache="tensors")
    sampler = BalancedSampler(rebalance(data.labels, 0.3), len(table), seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    with cpu_seconds() as used:
        network.train()
        for epoch in range(5):
            sampler.set_epoch(epoch)
            for rows in torch.tensor(list(sampler)).split(128):
                loss = torch.nn.functional.cross_entropy(
                    network(data.pictures(rows.numpy()) / 255), torch.from_numpy(data.labels[rows.numpy()])
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        cpu = used()
    network.eval()
    judged = FrameDataset(_index_224(root, test), root, cache="none")
    with torch.inference_mode():
        rows = np.array_split(np.arange(len(judged)), -(-len(judged) // 64))
        said = torch.cat([network(judged.pictures(part) / 255).softmax(1) for part in rows])
    return said[:, 1].numpy(), cpu


def _extract_224(project: Project, root: Path, *recordings: Recording) -> None:
    from hlkit.frames import extract_frames

    for recording in recordings:
        video = recording.frames["video"][0]
        if not (root / video / "index.parquet").is_file():
            extract_frames(project.video(video), root / video, video_id=video, fps=3, size=224, progress=False)


def _index_224(root: Path, recording: Recording) -> pl.DataFrame:
    index = read_index(root / recording.frames["video"][0])
    return index.with_columns(label=pl.Series(covered(index, recording.labels), dtype=pl.Int8))
