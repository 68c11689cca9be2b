"""Which frames train and which validate, so that no validation frame has a near twin in training.

Neighbouring frames of a stream look alike. A *chunk* (a block of time, 30 s unless set) is therefore kept whole on one
side, and a *purge gap* on either side of every validation chunk is left out of training. Balancing is a matter of the
training part alone, after the split: by weights, or by dropping background.
"""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl

from hlkit.labels import TIME_TOLERANCE, covered
from hlkit.project import HlkitError, HlkitWarning

# Of a stream, about a scene; clips that are shorter stay whole.
CHUNK_SECONDS = 30.0

# A draw may put the only training highlights inside a purge gap; this many draws find a better one where there is one.
_DRAWS = 64


def chunk_splitter(total_size: int, chunk_size: int, split: float = 0.8, *, seed: int = 0) -> np.ndarray:
    """Choose whole chunks of rows for training.

    Args:
        total_size: number of rows, 0 or more.
        chunk_size: rows in a chunk; the last chunk may be shorter and goes to one side like any other.
        split: share of chunks for training, between 0 and 1, rounded to whole chunks. With two or more chunks each side
            gets at least one; a single chunk trains.
        seed: the same seed gives the same mask.

    Returns:
        bool (total_size,): True for training, False for validation.

    Example: `chunk_splitter(7, 3, 0.5)` has the chunks of rows 0-2, 3-5 and 6; two of them are True.

    Raises:
        HlkitError: for sizes or a share out of range.
    """
    if total_size < 0 or chunk_size < 1:
        raise HlkitError(f"{total_size} rows in chunks of {chunk_size} cannot be split; give 0 or more and 1 or more.")
    _check_share("split", split)
    chunk = np.arange(total_size) // chunk_size
    count = -(-total_size // chunk_size)
    if count < 2:
        return np.ones(total_size, dtype=bool)
    return _choose_chunks(np.zeros((count, 0), dtype=bool), split, np.random.default_rng(seed))[chunk]


def assign_chunks(frames: pl.DataFrame, *, chunk_seconds: float = CHUNK_SECONDS) -> pl.DataFrame:
    """Add `chunk` (i64): a number for each block `[k, k + 1) * chunk_seconds` of each video that holds a frame.

    Numbers run from 0 without gaps, by video id and time; no two videos share one. A frame at exactly 30.0 s is in the
    second block of 30 s, also when its time carries a rounding error (see `TIME_TOLERANCE`).

    Raises:
        HlkitError: for a chunk length that is not positive, or times that are missing or before 0.
    """
    return frames.with_columns(_chunks(frames, chunk_seconds)[0])


def split_frames(
    frames: pl.DataFrame,
    *,
    chunk_seconds: float = CHUNK_SECONDS,
    validation_share: float = 0.2,
    purge_seconds: float = 5.0,
    seed: int = 0,
) -> pl.DataFrame:
    """Split a frame table into training, validation and purged frames by whole chunks of time.

    Args:
        frames: columns `video`, `time` (seconds) and, when there are labels, `label` (0 is background). Any number of
            videos, rates and gaps, any order of rows.
        chunk_seconds: length of a chunk, more than 0.
        validation_share: share of chunks that validate, between 0 and 1, rounded to whole chunks. Drawn class by class
            where there are labels, so both sides have highlights whenever two chunks have.
        purge_seconds: training frames at most this far from a validation chunk of their video are purged, 0 or more.
        seed: the same seed and table give the same split.

    Returns:
        `frames` in its order with `chunk` (i64, see `assign_chunks`) and `part` ("train", "validation" or "purged").

    Raises:
        HlkitError: for an argument out of range, for fewer than two chunks, or when the purge gap leaves training no
            frame, or no highlight although two chunks have some.
    """
    _check_share("validation_share", validation_share)
    if purge_seconds < 0:
        raise HlkitError(f"purge_seconds={purge_seconds} is not allowed; give 0 or more seconds.")
    chunk, blocks = _chunks(frames, chunk_seconds)
    if blocks.height < 2:
        raise HlkitError(
            f"The frames fill {blocks.height} chunk of {chunk_seconds:g} s and a split needs at least 2. "
            "Add more video, or set a smaller chunk_seconds."
        )
    labels = _labels(frames)
    presence = _presence(chunk.to_numpy(), labels, blocks.height)
    closed = blocks.with_columns(pl.col("start") - purge_seconds, pl.col("end") + purge_seconds)
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        chosen = _choose_chunks(presence, validation_share, rng)
        validation = chosen[chunk.to_numpy()]
        train = ~covered(frames, closed.filter(pl.Series(chosen)))
        if _can_learn(train, labels, presence):
            part = np.select([validation, train], ["validation", "train"], "purged")
            return frames.with_columns(chunk, pl.Series("part", part, dtype=pl.String))
    raise HlkitError(
        f"A purge gap of {purge_seconds:g} s around validation chunks of {chunk_seconds:g} s leaves training no frames "
        "or no highlights. Add more video or labels, or set a smaller purge_seconds."
    )


def fold_frames(
    frames: pl.DataFrame, folds: int, *, chunk_seconds: float = CHUNK_SECONDS, purge_seconds: float = 5.0, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split a labelled table several times, so that each chunk is held back once: cross-validation by whole chunks.

    Args:
        frames: as for `split_frames`, with `label`; below 0 stands for frames that nobody looked at.
        folds: how many splits at most, 2 or more; there are no more than chunks with highlights, which are dealt out
            evenly.
        chunk_seconds, purge_seconds, seed: as for `split_frames`.

    Returns:
        For each fold two masks, bool (rows,): what to learn from, which has both highlights and background, and what is
        held back. A chunk is held back by no fold when too little to learn from would be left. Empty when there are
        fewer than two folds.

    Raises:
        HlkitError: for an argument out of range.
    """
    if folds < 2 or purge_seconds < 0:
        raise HlkitError(f"folds={folds} and purge_seconds={purge_seconds:g}; give at least 2 folds and 0 s.")
    chunk, blocks = _chunks(frames, chunk_seconds)
    positive = _presence(chunk.to_numpy(), _labels(frames), blocks.height).any(axis=1)
    folds = min(folds, int(positive.sum()))
    if folds < 2:
        return []
    rng = np.random.default_rng(seed)
    dealt = np.empty(blocks.height, dtype=np.int64)
    for group in (positive, ~positive):
        dealt[rng.permutation(np.flatnonzero(group))] = np.arange(group.sum()) % folds
    closed = blocks.with_columns(pl.col("start") - purge_seconds, pl.col("end") + purge_seconds)
    held = [(dealt == fold)[chunk.to_numpy()] for fold in range(folds)]
    parts = [(~covered(frames, closed.filter(pl.Series(dealt == fold))), held[fold]) for fold in range(folds)]
    labels = frames["label"].to_numpy()
    kept = [(learned, back) for learned, back in parts if (labels[learned] > 0).any() and (labels[learned] == 0).any()]
    return kept if len(kept) > 1 else []


def rebalance(labels: np.ndarray | pl.Series, positive_share: float | None = 0.3) -> np.ndarray:
    """Weights for a sampler, so that positives make up `positive_share` of what it draws and no frame is thrown away.

    Args:
        labels: int (n,), 0 is background, above 0 is positive.
        positive_share: what the positives weigh together, between 0 and 1; None weighs every frame alike.

    Returns:
        float64 (n,), summing to 1. All alike, with an `HlkitWarning`, when there is one class only.

    Raises:
        HlkitError: for no labels, or a share out of range.
    """
    positive = np.asarray(labels) > 0
    if not positive.size:
        raise HlkitError("There are no training frames to balance. Extract frames and label them first.")
    uniform = np.full(positive.size, 1 / positive.size)
    if positive_share is None:
        return uniform
    _check_share("positive_share", positive_share)
    if positive.all() or not positive.any():
        only = "highlights" if positive.all() else "background"
        warnings.warn(f"All {positive.size} frames are {only}; drawing every frame alike.", HlkitWarning, stacklevel=2)
        return uniform
    return np.where(positive, positive_share / positive.sum(), (1 - positive_share) / (~positive).sum())


def drop_background(frames: pl.DataFrame, ratio: float, *, block_seconds: float = 5.0, seed: int = 0) -> pl.DataFrame:
    """Leave background out of the training part, by whole blocks of time, so that clips stay whole.

    Blocks without a highlight are dropped in random order until there is at most `ratio` times as much background as
    highlights; where the blocks with highlights hold more than that alone, all others go.

    Args:
        frames: a split table with `label` (0 is background); see `split_frames`.
        ratio: background frames for each highlight frame, more than 0.
        block_seconds: length of a block, more than 0.
        seed: the same seed and table drop the same blocks.

    Returns:
        `frames` in its order, `part` being "dropped" where it was left out.

    Raises:
        HlkitError: for a ratio or a length out of range.
    """
    if not 0 < ratio < np.inf:
        raise HlkitError(f"background_ratio={ratio} is not allowed; give a number above 0, such as 1.")
    block = _chunks(frames, block_seconds)[0].to_numpy()
    train = frames["part"].to_numpy() == "train"
    positive = _labels(frames) > 0
    count = int(block.max(initial=-1)) + 1
    background, highlights = (np.bincount(block[train & chosen], minlength=count) for chosen in (~positive, positive))
    spare = np.flatnonzero((highlights == 0) & (background > 0))
    order = np.random.default_rng(seed).permutation(spare)
    left = background.sum() - np.concatenate([[0], background[order].cumsum()])
    enough = left <= ratio * highlights.sum()
    dropped = order[: int(enough.argmax()) if enough.any() else len(order)]
    gone = pl.Series(train & np.isin(block, dropped))
    return frames.with_columns(part=pl.when(gone).then(pl.lit("dropped")).otherwise(pl.col("part")))


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise HlkitError(f"{name}={share} is not allowed; give a share between 0 and 1, such as 0.2.")


def _chunks(frames: pl.DataFrame, chunk_seconds: float) -> tuple[pl.Series, pl.DataFrame]:
    """The column `chunk`, and the chunks' spans in the order of their numbers."""
    if not 0 < chunk_seconds < np.inf:
        raise HlkitError(f"chunk_seconds={chunk_seconds} is not allowed; give a length above 0, such as 30.")
    time = frames.get_column("time").cast(pl.Float64)
    if not (time.is_finite() & (time >= 0)).fill_null(False).all():
        raise HlkitError("The frame table has times that are missing or before 0. Extract the frames again.")
    block = ((pl.col("time") + TIME_TOLERANCE) / chunk_seconds).floor().cast(pl.Int64)
    # One number a pair of video and block, in the order of both; `rank` then closes the gaps.
    pair = pl.col("video").rank("dense").cast(pl.Int64) * (block.max() + 1) + block
    table = frames.select("video", start=block * chunk_seconds, chunk=pair.rank("dense").cast(pl.Int64) - 1)
    blocks = table.unique().sort("chunk")
    return table.get_column("chunk"), blocks.select(
        "video", "start", end=pl.col("start") + chunk_seconds, label=pl.lit("")
    )


def _labels(frames: pl.DataFrame) -> np.ndarray:
    """int64 (n,): the labels, 0 where there are none."""
    if "label" not in frames.columns:
        return np.zeros(frames.height, dtype=np.int64)
    return frames.get_column("label").fill_null(0).cast(pl.Int64).to_numpy()


def _presence(chunk: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """bool (chunks, classes without background): whether a chunk holds a frame of a class."""
    presence = np.zeros((count, max(int(labels.max(initial=0)), 0)), dtype=bool)
    positive = labels > 0
    presence[chunk[positive], labels[positive] - 1] = True
    return presence


def _choose_chunks(presence: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw `share` of the chunks at random, and of those that hold each class, as near as whole chunks allow.

    Classes are served from the rarest to the commonest, then all positives together, then all chunks, in the manner of
    iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): what a group settled, later groups leave alone. A
    group of two or more has chunks on both sides. A lone chunk with positives is not drawn.

    Args:
        presence: bool (chunks, classes), two chunks or more.
        share: between 0 and 1.

    Returns:
        bool (chunks,): the chunks drawn.
    """
    count = len(presence)
    order = rng.permutation(count)
    classes = sorted((held for held in presence.T if held.sum() > 1), key=np.sum)
    chosen, free = np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    for group in (*classes, presence.any(axis=1), np.ones(count, dtype=bool)):
        size = int(group.sum())
        wanted = min(max(round(share * size), 1), size - 1) - int((chosen & group).sum())
        candidates = order[(group & free)[order]]
        chosen[candidates[: max(wanted, 0)]] = True
        free &= ~group
    return chosen


def _can_learn(train: np.ndarray, labels: np.ndarray, presence: np.ndarray) -> bool:
    """Whether training has frames, and positives too when two chunks have."""
    return bool(train.any() and ((labels[train] > 0).any() or presence.any(axis=1).sum() < 2))
