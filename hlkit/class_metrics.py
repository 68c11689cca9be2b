"""How well scores tell several classes apart: a row a class beside what a guess has, for frames, clips or videos.

Conventions are those of `hlkit.rankings`. The decision is the most probable class. *Macro* is the mean over the classes
that occur, each counting the same however rare it is; the accuracy of a guess is that of always naming the commonest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from hlkit.project import HlkitError
from hlkit.rankings import average_precision, bootstrap_interval, rates

ALL = "all"

CLASS_CARD_SCHEMA = pl.Schema(
    {"class": pl.String, "count": pl.Int64}
    | dict.fromkeys(("base_rate", "ap", "low", "high", "precision", "recall", "f1"), pl.Float64)
)


def class_card(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    *,
    groups: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Judge probabilities of several classes.

    Args:
        labels: int (n,), index into `classes`.
        probabilities: float (n, classes).
        classes: names.
        groups: int (n,), what the bootstrap draws whole, such as chunks of time or videos; each row by itself unless
            given.
        resamples, seed: of the bootstrap.

    Returns:
        Columns of `CLASS_CARD_SCHEMA`, a row a class and last `all`: `count` of true ones; `base_rate`, its share of
        all, which is a guess's AP and precision; `ap` with its 95 % interval `low` and `high`; `precision`,
        `recall` and `f1` of the decision. Null where a class does not occur, or is all there is. In the row `all`, all
        are means over the classes that occur, but `precision`: there it is the accuracy, the share decided rightly,
        and `base_rate` is that of the commonest class.

    Raises:
        HlkitError: for shapes that don't fit, or labels that are none of the classes.
    """
    truth, values = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if values.shape != (truth.size, len(classes)) or not truth.size:
        raise HlkitError(f"Labels {truth.shape} and probabilities {values.shape} don't fit {len(classes)} classes.")
    if not np.isin(truth, np.arange(len(classes))).all():
        raise HlkitError(f"Some labels are none of the {len(classes)} classes. Leave out what nobody looked at.")
    drawn = np.arange(truth.size) if groups is None else np.asarray(groups)
    decided = values.argmax(axis=1)
    rows = []
    for place, name in enumerate(classes):
        true, said = truth == place, decided == place
        shares = rates(int((true & said).sum()), int(said.sum()), int(true.sum()))
        row: list[float | None] = [float(true.mean()), None, None, None, None, None, None]
        if true.any() and not true.all():
            interval = (None, None)
            if np.unique(drawn).size > 1:
                interval = bootstrap_interval(true, values[:, place], drawn, resamples=resamples, seed=seed)
            row = [row[0], average_precision(true, values[:, place]), *interval, *shares]
        rows.append((name, int(true.sum()), *row))
    card = pl.DataFrame(rows, schema=CLASS_CARD_SCHEMA, orient="row")
    known = card.filter(pl.col("count") > 0)
    means = known.select(pl.col("ap", "low", "high", "recall", "f1").mean()).row(0, named=True)
    last = {"class": ALL, "count": truth.size, "base_rate": known["base_rate"].max(), **means}
    last["precision"] = accuracy(truth, values)
    return pl.concat([card, pl.DataFrame([last], schema=CLASS_CARD_SCHEMA)])


def pool_blocks(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, blocks: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """One decision for each block of frames in place of one a frame.

    Args:
        labels: int (n,), class of each frame, from 0.
        probabilities: float (n, classes).
        blocks: int (n,), which block a frame is in.

    Returns:
        int (blocks,), the commonest class of each block, the first of those that are equally common; and float
        (blocks, classes), the mean probabilities. In the order of the blocks' numbers.

    Example: labels `[0, 1, 1, 0]` in blocks `[0, 0, 0, 7]` give `[1, 0]`.
    """
    truth, values = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    _, block = np.unique(np.asarray(blocks), return_inverse=True)
    counts = np.zeros((int(block.max(initial=-1)) + 1, values.shape[1]))
    sums = np.zeros_like(counts)
    np.add.at(counts, (block, truth), 1)
    np.add.at(sums, block, values)
    return counts.argmax(axis=1), sums / counts.sum(axis=1, keepdims=True)


def accuracy(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The share of rows whose most probable class is theirs, 0 to 1."""
    return float((np.asarray(probabilities).argmax(axis=1) == np.asarray(labels)).mean())


def accuracy_interval(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    base: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % interval of the accuracy over draws of rows; with `base`, of what it has more than those probabilities.

    Args:
        labels: int (n,).
        probabilities: float (n, classes).
        base: float (n, classes), of the same rows.
        resamples, seed: of the bootstrap.

    Returns:
        (low, high), from 0 to 1, or with `base` from -1 to 1.
    """
    truth = np.asarray(labels)
    right = (np.asarray(probabilities).argmax(axis=1) == truth).astype(np.float64)
    if base is not None:
        right -= np.asarray(base).argmax(axis=1) == truth
    drawn = np.random.default_rng(seed).integers(0, truth.size, (resamples, truth.size))
    low, high = np.quantile(right[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def side_by_side(cards: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Cards of `class_card` on the same rows in one table.

    Args:
        cards: by the name of what was judged.

    Returns:
        A row a class and `all`: `class`, `count`, `base_rate`, and for each name `<name>: ap`, `<name>: low`,
        `<name>: high` and `<name>: right`, the share of the class's rows that was decided rightly.

    Raises:
        HlkitError: when the cards are of other classes or counts.
    """
    first, *others = cards.values()
    if any(not card.select("class", "count").equals(first.select("class", "count")) for card in others):
        raise HlkitError("The cards are of different classes or rows; judge all by the same.")
    right = pl.when(pl.col("class") == ALL).then("precision").otherwise("recall")
    figures = [
        card.select(
            *(pl.col(part).alias(f"{name}: {part}") for part in ("ap", "low", "high")), right.alias(f"{name}: right")
        )
        for name, card in cards.items()
    ]
    return pl.concat([first.select("class", "count", "base_rate"), *figures], how="horizontal")


def confusion(labels: npt.ArrayLike, decided: npt.ArrayLike, classes: Sequence[str]) -> pl.DataFrame:
    """How often each class was taken for which: a row a true class (`class`), a column (i64) a decided one.

    Args:
        labels, decided: int (n,), index into `classes`.
        classes: names.
    """
    truth, said = np.asarray(labels), np.asarray(decided)
    counts = [
        [int(((truth == row) & (said == column)).sum()) for column in range(len(classes))]
        for row in range(len(classes))
    ]
    return pl.DataFrame(
        {"class": list(classes)} | {name: [row[place] for row in counts] for place, name in enumerate(classes)}
    )
