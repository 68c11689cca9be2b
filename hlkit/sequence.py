"""The sequence model: highlights from what is seen and heard over half a minute, learned in seconds.

Each *source* (sound words, motion, picture features, chat) is one float table a video, a row a frame. A source is
whitened (principal components to unit variance), which lets a quiet difference in timbre count as much as loudness. A
few small recurrent networks read them, each trained with other chunks held back; their mean is the answer. What the
held-back chunks got from the network that had not seen them measures the model, sets its temperature (Guo and others
2017, "On calibration of modern neural networks") and chooses how long to smooth.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from hlkit.clips import find_runs
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import average_precision
from hlkit.split import fold_frames
from hlkit.timeline import add_intensity
from hlkit.video import frame_rate

RNNKind = Literal["lstm", "gru"]

# Principal components that a source keeps, where it has more: those of sound words carry timbre far down the list.
COMPONENTS = {"sound": 64, "picture": 32, "motion": 12}
OTHER_COMPONENTS = 16
# Rows that a component is to rest on.
ROWS_A_COMPONENT = 16

# A network sees half a minute at a time, and scores keep two minutes of each three, so that no score stands near the
# end of what its network read.
TRAINING_SECONDS, KEPT_SECONDS, CONTEXT_SECONDS = 30, 120, 30

LINEAR_SECONDS = 5
# Scikit-learn's C: neighbouring frames are nearly one frame, so they count for far less than their number.
REGULARISATION = 0.01
# Of a class that a member has not seen.
UNSEEN_LOGIT = -10.0

STEPS, BATCH = 200, 16
LEARNING_RATE, WEIGHT_DECAY = 5e-3, 0.05
DROPOUT, NOISE, LABEL_SMOOTHING = 0.3, 0.3, 0.1
# How often a window is learned from without one of its sources, where there are two or more.
SOURCE_DROPOUT = 0.1
SMOOTHING_SECONDS = (0.0, 1.0, 2.0, 3.0, 5.0)

Sources = Mapping[str, np.ndarray | None]
"""What a video has: source name -> float (frames, width), or None where it has none."""


@dataclass(frozen=True)
class SequenceConfig:
    """What a sequence model is made from; it travels inside its checkpoint.

    Attributes:
        classes: class names, background first.
        fps: frames per second, an exact fraction as text.
        widths: source name -> its width and the components kept of it.
        rnn, bidirectional, hidden_size: of each network.
        members: networks, each trained with other chunks held back; 2 or more.
        smoothing_seconds: window of the centred mean over the scores; 0 for none.
    """

    classes: tuple[str, ...] = ("background", "highlight")
    fps: str = "3"
    widths: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rnn: RNNKind = "gru"
    bidirectional: bool = True
    hidden_size: int = 16
    members: int = 8
    smoothing_seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "widths", {name: (int(a), int(b)) for name, (a, b) in self.widths.items()})
        if self.rnn not in get_args(RNNKind):
            raise HlkitError(f"rnn is {self.rnn!r}; {' and '.join(get_args(RNNKind))} are allowed.")
        if self.members < 2 or self.hidden_size < 1:
            raise HlkitError(
                f"members is {self.members} and hidden_size {self.hidden_size}; give at least 2 and 1: each member "
                "judges the chunks that it did not learn from."
            )

    @property
    def width(self) -> int:
        """Inputs of the networks: the components of all sources, and for each source whether it is there."""
        return sum(kept for _, kept in self.widths.values()) + len(self.widths)

    def frames_in(self, seconds: float) -> int:
        """Frames that fill a length of time, 1 at least."""
        return max(1, round(seconds * frame_rate(self.fps)))


class Whitening(nn.Module):
    """A source's principal components, each of unit variance: (N, width) -> (N, components)."""

    mean: Tensor
    projection: Tensor

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("projection", torch.zeros(width, components))

    def fit(self, rows: np.ndarray) -> None:
        """Learn from float (N, width). Columns are standardised first, so that no unit outweighs another."""
        rows = rows.astype(np.float32)
        mean, spread = rows.mean(0), rows.std(0) + 1e-6
        covariance = np.cov((rows - mean) / spread, rowvar=False).reshape(len(mean), len(mean))
        values, vectors = np.linalg.eigh(covariance)
        chosen = np.argsort(-values)[: self.projection.shape[1]]
        # A direction without variance stays near 0 and is not blown up.
        scaled = vectors[:, chosen] / np.sqrt(np.maximum(values[chosen], 0) + 1e-4) / spread[:, None]
        self.mean.copy_(torch.from_numpy(mean))
        self.projection.copy_(torch.from_numpy(scaled))

    def forward(self, rows: Tensor) -> Tensor:
        """Whiten."""
        return (rows - self.mean) @ self.projection


class Member(nn.Module):
    """One network with two readers, whose mean is its answer: `(B, T, width) -> (B, T, classes)`.

    The one is recurrent: dropout, an LSTM or GRU, dropout, a linear layer. The other is logistic regression, smoothed
    over 5 s: it can tell less from one recording, and so is led astray less on another. Dropout draws from the member's
    own generator, so that members can learn side by side and stay seeded.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[config.rnn]
        self.rnn = layer(config.width, config.hidden_size, batch_first=True, bidirectional=config.bidirectional)
        self.classifier = nn.Linear(config.hidden_size * (2 if config.bidirectional else 1), len(config.classes))
        self.linear = nn.Linear(config.width, len(config.classes))
        reach = config.frames_in(LINEAR_SECONDS) // 2
        # At an end of a window the mean is over what there is.
        self.mean = nn.AvgPool1d(2 * reach + 1, 1, reach, count_include_pad=False)

    def recurrent(self, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The recurrent reader's logits for every step; `generator` switches dropout on."""
        states, _ = self.rnn(_drop(inputs, generator))  # (B, T, directions * hidden_size)
        return self.classifier(_drop(states, generator))

    def fit_linear(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Fit the linear reader to float (N, width) and int (N,) of two classes or more."""
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=REGULARISATION, max_iter=500).fit(rows, labels)
        slopes, offsets = fitted.coef_, fitted.intercept_
        if len(slopes) == 1:  # of two classes scikit-learn keeps the second one's logit alone
            slopes, offsets = np.stack([0 * slopes[0], slopes[0]]), np.array([0.0, offsets[0]])
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.fill_(UNSEEN_LOGIT)
            self.linear.weight[fitted.classes_] = torch.from_numpy(slopes).float()
            self.linear.bias[fitted.classes_] = torch.from_numpy(offsets).float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits for every step."""
        said = self.linear(inputs)  # (B, T, classes)
        smoothed = self.mean(said.transpose(1, 2)).transpose(1, 2)
        return (self.recurrent(inputs) + smoothed) / 2


def _drop(values: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return values
    return values * (torch.rand(values.shape, generator=generator) >= DROPOUT) / (1 - DROPOUT)


class SequenceModel(nn.Module):
    """Sources of a video in, probabilities for each of its frames out; see the module.

    Args:
        config: what it is made from.
        seed: of the first weights.
    """

    temperature: Tensor

    def __init__(self, config: SequenceConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.whitenings = nn.ModuleDict({name: Whitening(*widths) for name, widths in config.widths.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.register_buffer("temperature", torch.ones(()))

    def columns(self) -> dict[str, slice]:
        """The columns of each source among the networks' inputs; the last one of each tells whether it is there."""
        edges = np.cumsum([0, *(kept + 1 for _, kept in self.config.widths.values())]).tolist()
        return {name: slice(*edge) for name, edge in zip(self.config.widths, pairwise(edges), strict=True)}

    @torch.inference_mode()
    def score_windows(self, windows: Tensor) -> Tensor:
        """The calibrated chance of a highlight of any class in windows of inputs: (B, T, width) -> (B, T)."""
        with few_threads():
            logits = torch.stack([member(windows) for member in self.members]).mean(0)
        return 1 - (logits / self.temperature).softmax(2)[..., 0]

    def reach(self, wanted: range, total: int) -> range:
        """The frames out of `total` that the answers for the frames `wanted` depend on."""
        kept, context = self.config.frames_in(KEPT_SECONDS), self.config.frames_in(CONTEXT_SECONDS)
        start = wanted.start // kept * kept - context
        stop = -(-wanted.stop // kept) * kept + context
        # Smoothing looks into the neighbouring windows.
        margin = kept if self.config.smoothing_seconds else 0
        return range(max(0, start - margin), min(total, stop + margin))

    def inputs(self, sources: Sources, count: int) -> Tensor:
        """What the networks read of a video with `count` frames: float32 (count, width); a missing source is zeros.

        Raises:
            HlkitError: when a source has another width than the model learned from, or another number of frames.
        """
        columns = []
        for name, whitening in self.whitenings.items():
            rows = sources.get(name)
            width, kept = self.config.widths[name]
            if rows is not None and rows.shape != (count, width):
                raise HlkitError(
                    f"The source '{name}' has {rows.shape[1]} columns for {len(rows)} frames; the model learned from "
                    f"{width}, and there are {count} frames. Make it again with this model, or train again."
                )
            part = torch.zeros(count, kept + 1)
            if rows is not None:
                for start in range(0, count, 4096):
                    block = torch.from_numpy(np.asarray(rows[start : start + 4096], dtype=np.float32))
                    part[start : start + 4096, :kept] = whitening(block)
                part[:, kept] = 1
            columns.append(part)
        return torch.cat(columns, dim=1)

    @torch.inference_mode()
    def logits(
        self, inputs: Tensor, frames: np.ndarray, run: np.ndarray, members: Sequence[int] | None = None
    ) -> Tensor:
        """The members' mean logits: float32 (frames, classes).

        Networks read windows that lie on a fixed grid of frame numbers within each run of consecutive frames, and the
        middle of each window counts; so a frame's logits do not depend on which other stretch was asked for.

        Args:
            inputs: float (frames, width), of one video in order of time.
            frames: int (frames,), their numbers.
            run: int (frames,), from `find_runs`.
            members: which networks; all unless given.
        """
        networks = [self.members[index] for index in (members or range(len(self.members)))]
        out = torch.empty(len(inputs), len(self.config.classes))
        kept, context = self.config.frames_in(KEPT_SECONDS), self.config.frames_in(CONTEXT_SECONDS)
        by_length: dict[int, list[tuple[int, int, int]]] = {}
        for start, stop in _cells(frames, run, kept):
            first, last = np.searchsorted(run, [run[start], run[start] + 1])
            begin, end = max(int(first), start - context), min(int(last), stop + context)
            by_length.setdefault(end - begin, []).append((begin, start, stop))
        with few_threads():
            for length, windows in by_length.items():
                batch = torch.stack([inputs[begin : begin + length] for begin, _, _ in windows])  # (B, T, width)
                mean = torch.stack([network(batch) for network in networks]).mean(0)
                for (begin, start, stop), answer in zip(windows, mean, strict=True):
                    out[start:stop] = answer[start - begin : stop - begin]
        return out

    def probabilities(self, sources: Sources, frames: pl.DataFrame) -> np.ndarray:
        """Calibrated and smoothed: float32 (frames, classes) for the frames of one video in order of time."""
        inputs = self.inputs(sources, len(frames))
        logits = self.logits(inputs, frames["frame"].to_numpy(), find_runs(frames))
        found = (logits / self.temperature).softmax(1).numpy()
        return smooth(found, frames, self.config.smoothing_seconds)


def _cells(frames: np.ndarray, run: np.ndarray, kept: int) -> Iterator[tuple[int, int]]:
    """Rows `[start, stop)` that one window answers for: those of one run and one block of `kept` frame numbers."""
    cell = np.flatnonzero((np.diff(run) != 0) | (np.diff(frames // kept) != 0)) + 1
    edges = [0, *cell.tolist(), len(frames)]
    yield from pairwise(edges)


def smooth(probabilities: np.ndarray, frames: pl.DataFrame, seconds: float) -> np.ndarray:
    """A centred mean over `seconds` of float (frames, classes), within each video; 0 leaves it as it is."""
    if seconds == 0:
        return probabilities
    columns = []
    for column in probabilities.T:
        table = frames.select("video", "time").with_columns(pl.Series("score", column))
        columns.append(add_intensity(table, window_seconds=seconds)["intensity"].to_numpy())
    return np.stack(columns, axis=1)


@contextmanager
def few_threads() -> Iterator[None]:
    """One thread inside an operation: those here are so small that sharing them out costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
    rnn: RNNKind = "gru",
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
        steps: batches that each network learns from; a network sees 16 windows of 30 s in each.
        seed: the same seed and inputs give the same model.

    Raises:
        HlkitError: for one class only, no source at all, or too few chunks.
    """
    frames = frames.sort("video", "time", maintain_order=True)
    labels = frames["label"].cast(pl.Int64).to_numpy()
    if missing := [name for index, name in enumerate(classes) if not (labels == index).any()]:
        raise HlkitError(f"No frame is labelled {', '.join(missing)}, so it can't be learned. Label more of the video.")
    config = SequenceConfig(
        tuple(classes), str(frame_rate(fps)), _widths(sources, len(frames)), rnn, bidirectional, hidden_size, members
    )
    model = SequenceModel(config, seed=seed).eval()
    videos = frames.partition_by("video", maintain_order=True)
    for name, whitening in model.whitenings.items():
        tables = [rows for video in videos if (rows := sources[video["video"][0]].get(name)) is not None]
        whitening.fit(np.concatenate(tables))  # pyright: ignore[reportCallIssue]
    inputs = torch.cat([model.inputs(sources[video["video"][0]], len(video)) for video in videos])
    run, targets = find_runs(frames), torch.tensor(labels)
    folds = fold_frames(frames, members, chunk_seconds=chunk_seconds, purge_seconds=purge_seconds, seed=seed)
    if not folds:
        warnings.warn(
            "The highlights lie in one stretch of the video, so none can be held back: how good the model is stays "
            "unknown. Label another highlight somewhere else.",
            HlkitWarning,
            stacklevel=2,
        )
    everything = np.ones(len(frames), dtype=bool)
    allowed = [(folds[index % len(folds)][0] if folds else everything) & (labels >= 0) for index in range(members)]

    parts = list(model.columns().values())

    def learn(index: int) -> None:
        _learn(model.members[index], inputs, targets, allowed[index], run, config, parts, steps, seed=(seed, index))  # pyright: ignore[reportArgumentType]

    with few_threads(), ThreadPoolExecutor(2) as pool:
        list(pool.map(learn, range(members)))
    return _judged(model, frames, inputs, run, [held for _, held in folds])


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


def _learn(
    network: Member,
    inputs: Tensor,
    labels: Tensor,
    allowed: np.ndarray,
    run: np.ndarray,
    config: SequenceConfig,
    parts: Sequence[slice],
    steps: int,
    *,
    seed: tuple[int, int],
) -> None:
    """Train one member on windows of 30 s, in which frames that are not `allowed` have no say."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    weight = torch.from_numpy(allowed)
    network.fit_linear(inputs[weight].numpy(), labels[weight].numpy())
    starts, length = _window_starts(run, allowed, config.frames_in(TRAINING_SECONDS))
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
            raise HlkitError("The sequence model's loss is no number. Make the features again: `hlkit train --redo`.")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _window_starts(run: np.ndarray, allowed: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """First rows of the windows that lie in one run and hold an allowed frame, and the windows' length.

    Where no run is as long, the windows are as long as the longest.
    """
    sizes = np.bincount(run)
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
    """Set temperature and smoothing by what each member says of the frames that were held back from it."""
    if not held:
        return Fit(model, frames.clear().with_columns(score=pl.lit(0.0, dtype=pl.Float32)), {})
    numbers, labels = frames["frame"].to_numpy(), frames["label"].to_numpy()
    logits = torch.empty(len(frames), len(model.config.classes))
    for fold, rows in enumerate(held):
        members = [index for index in range(model.config.members) if index % len(held) == fold]
        logits[torch.from_numpy(rows)] = model.logits(inputs, numbers, run, members)[torch.from_numpy(rows)]
    known = labels >= 0
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

    The cross-entropy is convex in the inverse of the temperature, so halving an interval finds it.
    """
    low, high = math.log(0.05), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    for _ in range(60):  # golden section
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return torch.tensor(math.exp((low + high) / 2))


def to_checkpoint(model: SequenceModel) -> dict[str, Any]:
    """Plain values and tensors, fit for `torch.save` and for loading with `weights_only=True`."""
    config = asdict(model.config) | {"classes": list(model.config.classes), "widths": dict(model.config.widths)}
    return {"config": config, "state_dict": model.state_dict()}


def from_checkpoint(content: Mapping[str, Any]) -> SequenceModel:
    """The reverse of `to_checkpoint`.

    Raises:
        HlkitError: when it is a checkpoint of something else.
    """
    try:
        model = SequenceModel(SequenceConfig(**content["config"]))
        model.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise HlkitError(f"This is no sequence model of this version of hlkit ({error}). Train again.") from error
    return model.eval()
