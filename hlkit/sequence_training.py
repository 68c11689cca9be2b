"""How a sequence model learns: each member with other chunks held back, which then judge it.

What the held-back chunks got from the member that had not seen them measures the model, says what is usual, sets its
temperature (Guo and others 2017, "On calibration of modern neural networks") and chooses how long to smooth.

Where only parts of a video were looked at, there is a second lesson: what the first one is sure is no highlight counts
as background in it (self-training, Scudder 1965, "Probability of error of some adaptive pattern-recognition machines").
People look where something happens, so without it the dull rest would be unknown.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from hlkit.clips import find_runs
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import average_precision
from hlkit.sequence import (
    Member,
    RNNKind,
    SequenceConfig,
    SequenceModel,
    Sources,
    check_source,
    few_threads,
)
from hlkit.split import fold_frames
from hlkit.timeline import smooth
from hlkit.video import frame_rate

# Principal components that a source keeps, where it has more: those of sound words carry timbre far down the list.
COMPONENTS = {"sound": 64, "picture": 32, "motion": 12}
OTHER_COMPONENTS = 16
# Rows that a component is to rest on.
ROWS_A_COMPONENT = 16

# A window of training, shorter than what a score rests on: more of them fit into a batch.
TRAINING_SECONDS = 30
STEPS, BATCH = 200, 16
LEARNING_RATE, WEIGHT_DECAY = 5e-3, 0.05
NOISE, LABEL_SMOOTHING = 0.3, 0.1
# How often a window is learned from without one of its sources, where there are two or more.
SOURCE_DROPOUT = 0.1
# A member is sure of a stretch, not of a single picture.
SURE_SECONDS = 5.0
SMOOTHING_SECONDS = (0.0, 1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Fit:
    """A sequence model, and what it said of frames that the answering network had not learned from.

    Attributes:
        model: all its networks.
        held_out: the frame table with `score` (f32, 0 to 1): calibrated, smoothed, out of fold.
        metrics: `val_ap` and `val_base_rate` of `held_out`, `val_ap_raw` without smoothing, `temperature`,
            `smoothing_seconds`, `val_loss` before and `val_loss_calibrated` after calibration.
    """

    model: SequenceModel
    held_out: pl.DataFrame
    metrics: dict[str, float]


def fit_sequence(
    frames: pl.DataFrame,
    sources: Mapping[str, Sources],
    *,
    classes: Sequence[str] = ("background", "highlight"),
    fps: str | float | Fraction = "3",
    rnn: RNNKind = "lstm",
    bidirectional: bool = True,
    hidden_size: int = 16,
    members: int = 8,
    chunk_seconds: float = 30.0,
    purge_seconds: float = 5.0,
    steps: int = STEPS,
    seed: int = 0,
) -> Fit:
    """Train a sequence model on the labelled frames of some videos.

    Args:
        frames: `video`, `frame`, `time`, `label` (index into `classes`, -1 for frames nobody looked at), of videos in
            order of time.
        sources: for each video its sources, a row a frame.
        classes, fps, rnn, bidirectional, hidden_size, members: see `SequenceConfig`.
        chunk_seconds: chunks are held back whole.
        purge_seconds: frames at most this far from a held-back chunk are not learned from either.
        steps: batches that each network learns from; a network sees 16 windows of 30 s in each. Where frames have no
            label it learns twice as long.
        seed: the same seed and inputs give the same model.

    Raises:
        HlkitError: for one class only, labels of no class, no source at all, sources that don't fit the frames or each
            other or hold no numbers, or no step.
    """
    frames = frames.sort("video", "time", maintain_order=True)
    labels = frames["label"].cast(pl.Int64).to_numpy()
    videos = frames.partition_by("video", maintain_order=True)
    _check_labels(labels, classes)
    sources = _checked_sources(videos, sources)
    if steps < 1:
        raise HlkitError(f"steps is {steps}; give 1 or more, such as {STEPS}.")
    config = SequenceConfig(
        tuple(classes), str(frame_rate(fps)), _widths(sources, len(frames)), rnn, bidirectional, hidden_size, members
    )
    model = SequenceModel(config, seed=seed).eval()
    for name, whitening in model.whitenings.items():
        tables = [rows for video in videos if (rows := sources[video["video"][0]].get(name)) is not None]
        whitening.fit(np.concatenate(tables))  # pyright: ignore[reportCallIssue]
    inputs = torch.cat([model.inputs(sources[video["video"][0]], len(video)) for video in videos])
    run = find_runs(frames)
    folds = fold_frames(frames, members, chunk_seconds=chunk_seconds, purge_seconds=purge_seconds, seed=seed)
    if not folds:
        warnings.warn(
            "The highlights lie too near to each other for some to be held back: how good the model is stays unknown. "
            "Label another highlight somewhere else.",
            HlkitWarning,
            stacklevel=2,
        )
    everything = np.ones(len(frames), dtype=bool)
    shown = [folds[index % len(folds)][0] if folds else everything for index in range(members)]
    columns, length = list(model.columns().values()), config.frames_in(TRAINING_SECONDS)
    lesson = _Lesson(inputs, run, shown, columns, length, steps, seed)
    begin = deepcopy(model.members.state_dict())
    _teach(model, lesson, [labels] * members)
    if (labels < 0).any():
        # Each by what it said itself, so that it learns nothing from those who saw what is held back from it.
        sure = [with_sure_background(model, index, frames, inputs, run) for index in range(members)]
        model.members.load_state_dict(begin)
        _teach(model, lesson, sure)
    return _judged(model, frames, inputs, run, [held for _, held in folds])


def _check_labels(labels: np.ndarray, classes: Sequence[str]) -> None:
    if (wrong := labels[(labels < -1) | (labels >= len(classes))]).size:
        raise HlkitError(
            f"A frame has the label {wrong[0]}; allowed are 0 to {len(classes) - 1} ({', '.join(classes)}), and -1 for "
            "one that nobody looked at. Name all classes."
        )
    if missing := [name for index, name in enumerate(classes) if not (labels == index).any()]:
        raise HlkitError(f"No frame is labelled {', '.join(missing)}, so it can't be learned. Label more of the video.")


def _checked_sources(videos: Sequence[pl.DataFrame], sources: Mapping[str, Sources]) -> dict[str, Sources]:
    """The sources of the videos: a row of numbers a frame, and each as wide in all of them."""
    names = [str(video["video"][0]) for video in videos]
    if missing := [name for name in names if name not in sources]:
        raise HlkitError(f"{', '.join(missing)}: no sources. Give those of every video; it has None for what it lacks.")
    widths: dict[str, int] = {}
    for name, video in zip(names, videos, strict=True):
        for source, rows in sources[name].items():
            if rows is not None:
                width = widths.setdefault(source, rows.shape[-1] if rows.ndim else 0)
                check_source(source, rows, (len(video), width), video=name)
    return {name: sources[name] for name in names}


def _widths(sources: Mapping[str, Sources], rows: int) -> dict[str, tuple[int, int]]:
    """The width of each source that any video has, and the components to keep of it."""
    widths: dict[str, tuple[int, int]] = {}
    for video in sources.values():
        for name, table in video.items():
            if table is not None:
                most = min(COMPONENTS.get(name, OTHER_COMPONENTS), max(1, rows // ROWS_A_COMPONENT))
                widths[name] = (table.shape[1], min(table.shape[1], most))
    if not widths:
        raise HlkitError("The videos have neither sound nor frames to learn from. Extract frames first (notebook 02).")
    return dict(sorted(widths.items()))


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What all members learn from.

    Attributes:
        inputs: float (frames, width).
        run: int (frames,), from `find_runs`.
        shown: for each member bool (frames,), what is not held back from it.
        columns: of each source.
        length: frames of a window.
        steps: batches.
        seed: of all draws.
    """

    inputs: Tensor
    run: np.ndarray
    shown: Sequence[np.ndarray]
    columns: Sequence[slice]
    length: int
    steps: int
    seed: int


def _teach(model: SequenceModel, lesson: _Lesson, labels: Sequence[np.ndarray]) -> None:
    """Train every member by its own labels, int (frames,)."""
    with few_threads(), ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(_learn, lesson), model.networks(), labels, range(model.config.members)))


def with_sure_background(
    model: SequenceModel, index: int, frames: pl.DataFrame, inputs: Tensor, run: np.ndarray
) -> np.ndarray:
    """The labels, int (frames,), with background where nobody looked and a member is sure of it.

    Sure: a highlight is less likely there than in the middle one of the frames that are known to be background.
    """
    labels = frames["label"].cast(pl.Int64).to_numpy()
    said = model.logits(inputs, frames["frame"].to_numpy(), run, [index]).softmax(1).numpy()
    chance = 1 - smooth(said, frames, SURE_SECONDS)[:, 0]
    return np.where((labels < 0) & (chance < np.median(chance[labels == 0])), 0, labels)


def _learn(lesson: _Lesson, network: Member, labelled: np.ndarray, index: int) -> None:
    """Train one member on windows of 30 s, in which frames that it is not shown, or without a label, have no say."""
    inputs, parts, steps, seed = lesson.inputs, lesson.columns, lesson.steps, (lesson.seed, index)
    labels, allowed = torch.tensor(labelled), lesson.shown[index] & (labelled >= 0)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    weight = torch.from_numpy(allowed)
    network.fit_linear(inputs[weight].numpy(), labels[weight].numpy())
    starts, length = _window_starts(lesson.run, allowed, lesson.length)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(starts, BATCH)[:, None] + np.arange(length))  # (B, T)
        batch = inputs[rows]  # (B, T, width)
        # Noise that stays for a window stands for another microphone or scene; the rest for another moment.
        batch = batch + NOISE * torch.randn((BATCH, 1, batch.shape[2]), generator=generator)
        batch = batch + NOISE * torch.randn(batch.shape, generator=generator)
        if len(parts) > 1:
            for window, part in zip(*_absent(rng, len(parts)), strict=True):
                batch[window, :, parts[part]] = 0
        logits = network.recurrent(batch, generator)  # (B, T, classes)
        truth, counted = labels[rows].flatten().clamp(min=0), weight[rows].flatten()
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1), truth, reduction="none", label_smoothing=LABEL_SMOOTHING
        )
        loss = (losses * counted).sum() / counted.sum()
        if not torch.isfinite(loss):
            raise HlkitError("The sequence model's loss is no number, so it can't learn. Try another seed.")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _window_starts(run: np.ndarray, allowed: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """First rows of the windows that lie in one run and hold an allowed frame, and the windows' length.

    Where no run with an allowed frame is as long, the windows are as long as the longest of these.
    """
    sizes = np.bincount(run)[np.unique(run[allowed])]
    length = min(length, int(sizes.max()))
    starts = np.arange(len(run) - length + 1)
    whole = run[starts] == run[starts + length - 1]
    before = np.concatenate([[0], np.cumsum(allowed)])
    return starts[whole & (before[starts + length] > before[starts])], length


def _absent(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which windows of a batch lack which source: at most one each."""
    windows = np.flatnonzero(rng.random(BATCH) < SOURCE_DROPOUT)
    return windows, rng.integers(count, size=len(windows))


def _judged(
    model: SequenceModel, frames: pl.DataFrame, inputs: Tensor, run: np.ndarray, held: Sequence[np.ndarray]
) -> Fit:
    """Set what is usual, temperature and smoothing by what each member says of the frames held back from it."""
    numbers, labels = frames["frame"].to_numpy(), frames["label"].to_numpy()
    nothing = Fit(model, frames.clear().with_columns(score=pl.lit(0.0, dtype=pl.Float32)), {})
    if not held:
        model.usual.copy_(model.logits(inputs, numbers, run)[torch.from_numpy(labels >= 0)].mean(0))
        return nothing
    logits = torch.full((len(frames), len(model.config.classes)), torch.nan)
    for fold, rows in enumerate(held):
        members = [index for index in range(model.config.members) if index % len(held) == fold]
        logits[torch.from_numpy(rows)] = model.logits(inputs, numbers, run, members)[torch.from_numpy(rows)]
    judged = np.any(held, axis=0)
    known = (labels >= 0) & judged
    model.usual.copy_(logits[torch.from_numpy(judged)].mean(0))
    if not (labels[known] > 0).any() or not (labels[known] == 0).any():
        return nothing
    logits = model.set_off(logits, frames)
    seen, truth = logits[torch.from_numpy(known)], torch.from_numpy(labels[known].astype(np.int64))
    model.temperature.copy_(fit_temperature(seen, truth))
    probabilities = (logits / model.temperature).softmax(1).numpy()
    scores = {seconds: 1 - smooth(probabilities, frames, seconds)[:, 0] for seconds in SMOOTHING_SECONDS}
    ap = {seconds: average_precision(labels[known], score[known]) for seconds, score in scores.items()}
    best = max(ap, key=lambda seconds: ap[seconds])
    model.config = replace(model.config, smoothing_seconds=best)
    metrics = {
        "val_ap": ap[best],
        "val_ap_raw": ap[0.0],
        "val_base_rate": float((labels[known] > 0).mean()),
        "val_loss": float(nn.functional.cross_entropy(seen, truth)),
        "val_loss_calibrated": float(nn.functional.cross_entropy(seen / model.temperature, truth)),
        "temperature": float(model.temperature),
        "smoothing_seconds": best,
    }
    return Fit(model, frames.with_columns(score=pl.Series(scores[best], dtype=pl.Float32)).filter(known), metrics)


def fit_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """The temperature, 0.05 to 20, by which to divide logits `(n, C)` for the lowest cross-entropy on labels `(n,)`.

    The cross-entropy is convex in the inverse of the temperature, so a golden-section search finds it.
    """
    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return torch.tensor(math.exp((low + high) / 2))
