"""The sequence model: highlights from what is seen and heard before and after, learned in seconds.

Each *source* (sound words, motion, picture features, chat) is one float table a video, a row a frame. A source is
whitened (principal components to unit variance), which lets a quiet difference in timbre count as much as loudness. A
few small recurrent networks, the *members*, read them. Their mean, set off against its surroundings, divided by a
temperature and smoothed, is the answer. `hlkit.sequence_training` says how they learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from hlkit.clips import find_runs
from hlkit.project import HlkitError
from hlkit.records import first_faulty_row
from hlkit.timeline import smooth
from hlkit.video import frame_rate

RNNKind = Literal["lstm", "gru"]

# Scores keep two minutes of each three, so that no score stands near the end of what its network read.
KEPT_SECONDS, CONTEXT_SECONDS = 120, 30

# A moment counts by how far it stands out from what surrounds it too: an area in which everything is loud is not one
# long highlight. Both values were chosen on recordings other than the ones that figures are given of.
SURROUNDINGS_SECONDS = 30
CONTRAST = 0.3

LINEAR_SECONDS = 5
# Scikit-learn's C: neighbouring frames are nearly one frame, so they count for far less than their number.
REGULARISATION = 0.01
# Of a class that a member has not seen.
UNSEEN_LOGIT = -10.0
DROPOUT = 0.3

# Frames that are whitened at once, so that a source may lie on disk and be larger than memory.
BLOCK_FRAMES = 4096

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
        contrast: the share of the surroundings' mean log-odds that is taken off those of their middle, 0 to 1.
        smoothing_seconds: window of the centred mean over the scores; 0 for none.
    """

    classes: tuple[str, ...] = ("background", "highlight")
    fps: str = "3"
    widths: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rnn: RNNKind = "lstm"
    bidirectional: bool = True
    hidden_size: int = 16
    members: int = 8
    contrast: float = CONTRAST
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
        if not 0 <= self.contrast <= 1:
            raise HlkitError(f"contrast is {self.contrast}; give 0 (none) to 1, such as {CONTRAST}.")
        if not 0 <= self.smoothing_seconds < math.inf:
            raise HlkitError(f"smoothing_seconds is {self.smoothing_seconds}; give 0 or more seconds, such as 2.")
        for name, (width, kept) in self.widths.items():
            if not 1 <= kept <= width:
                raise HlkitError(f"The source '{name}' keeps {kept} components of {width} columns; give 1 to {width}.")

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
    usual: Tensor

    def __init__(self, config: SequenceConfig, *, seed: int = 0) -> None:
        super().__init__()
        if not config.widths:
            raise HlkitError("The model has no source. Give the widths of one or more, such as {'sound': (512, 64)}.")
        self.config = config
        self.whitenings = nn.ModuleDict({name: Whitening(*widths) for name, widths in config.widths.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.members = nn.ModuleList(Member(config) for _ in range(config.members))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("usual", torch.zeros(len(config.classes)))

    def networks(self) -> list[Member]:
        """The members as what they are: PyTorch's lists forget the type."""
        return [member for member in self.members if isinstance(member, Member)]

    def columns(self) -> dict[str, slice]:
        """The columns of each source among the networks' inputs; the last one of each tells whether it is there."""
        edges = np.cumsum([0, *(kept + 1 for _, kept in self.config.widths.values())]).tolist()
        return {name: slice(*edge) for name, edge in zip(self.config.widths, pairwise(edges), strict=True)}

    @torch.inference_mode()
    def score_windows(self, windows: Tensor) -> Tensor:
        """The chance of a highlight of any class in windows of inputs alone: (B, T, width) -> (B, T)."""
        with few_threads():
            logits = torch.stack([member(windows) for member in self.members]).mean(0)
        return 1 - (logits / self.temperature).softmax(2)[..., 0]

    def reach(self, wanted: range, total: int) -> range:
        """The frames out of `total` that the answers for the frames `wanted` depend on."""
        kept, context = self.config.frames_in(KEPT_SECONDS), self.config.frames_in(CONTEXT_SECONDS)
        start = wanted.start // kept * kept - context
        stop = -(-wanted.stop // kept) * kept + context
        # Contrast and smoothing look into the neighbouring windows.
        return range(max(0, start - kept), min(total, stop + kept))

    def inputs(self, sources: Sources, count: int) -> Tensor:
        """What the networks read of a video with `count` frames: float32 (count, width); a missing source is zeros.

        Raises:
            HlkitError: when a source has another width than the model learned from, or another number of frames, or
                values that are no numbers.
        """
        columns = []
        for name, whitening in self.whitenings.items():
            rows = sources.get(name)
            width, kept = self.config.widths[name]
            if rows is not None:
                check_source(name, rows, (count, width))
            part = torch.zeros(count, kept + 1)
            if rows is not None:
                for start in range(0, count, BLOCK_FRAMES):
                    block = torch.from_numpy(np.asarray(rows[start : start + BLOCK_FRAMES], dtype=np.float32))
                    part[start : start + BLOCK_FRAMES, :kept] = whitening(block)
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
        for start, stop in _blocks(frames, run, kept):
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

    def set_off(self, logits: Tensor, frames: pl.DataFrame) -> Tensor:
        """Logits (frames, classes) less `contrast` of what their surroundings have beyond the usual ones."""
        around = torch.from_numpy(smooth(logits.numpy(), frames, SURROUNDINGS_SECONDS))
        return logits - self.config.contrast * (around - self.usual)

    def probabilities(self, sources: Sources, frames: pl.DataFrame) -> np.ndarray:
        """The answer: float32 (frames, classes) for the frames of one video in order of time, each row adding to 1."""
        inputs = self.inputs(sources, len(frames))
        logits = self.set_off(self.logits(inputs, frames["frame"].to_numpy(), find_runs(frames)), frames)
        found = (logits / self.temperature).softmax(1).numpy()
        return smooth(found, frames, self.config.smoothing_seconds)


def _blocks(frames: np.ndarray, run: np.ndarray, kept: int) -> Iterator[tuple[int, int]]:
    """Rows `[start, stop)` that one window answers for: those of one run and one block of `kept` frame numbers."""
    cell = np.flatnonzero((np.diff(run) != 0) | (np.diff(frames // kept) != 0)) + 1
    edges = [0, *cell.tolist(), len(frames)]
    yield from pairwise(edges)


def check_source(name: str, rows: np.ndarray, shape: tuple[int, int], *, video: str = "") -> None:
    """An `HlkitError` unless a source (of a video) is all numbers and has this many frames and columns."""
    whose = f"'{name}' of {video}" if video else f"'{name}'"
    folders = " and ".join(f"`{folder}/{video or '<video>'}`" for folder in ("signals", ".cache"))
    remedy = f"Make it again (in a project: delete {folders}), or train again."
    if rows.shape != shape:
        raise HlkitError(f"The source {whose} has the shape {rows.shape}; allowed is {shape}. {remedy}")
    if (faulty := first_faulty_row(rows)) is not None:
        raise HlkitError(f"The source {whose} has no number in frame {faulty} of {len(rows)}. {remedy}")


@contextmanager
def few_threads() -> Iterator[None]:
    """One thread inside an operation: those here are so small that sharing them out costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise HlkitError(
            f"This is no sequence model of this version of hlkit ({reason}). Train again: `hlkit train --redo`."
        ) from error
    return model.eval()
