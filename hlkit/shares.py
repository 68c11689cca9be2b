"""What a video is as a whole, from the scores of its frames: the share of each class, and the class that this decides.

One frame of a good clip may be dark, so a clip is not called dark for it: a class can be given the share of frames from
which it counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hlkit.project import HlkitError


def class_probabilities(scores: pl.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The probabilities in a score table, float64 (rows, classes); the first class has what the others leave.

    Args:
        scores: `score` for two classes, `score_<class>` for each but the first of more.
        classes: of the model that made it, in its order.

    Raises:
        HlkitError: when the table is of other classes.
    """
    names = ["score"] if len(classes) == 2 else [f"score_{name}" for name in classes[1:]]
    held = [name for name in scores.columns if name.startswith("score")]
    if held != names:
        raise HlkitError(f"The scores are {', '.join(held) or 'none'}; those of {', '.join(classes)} were expected.")
    others = scores.select(names).to_numpy().astype(np.float64)
    return np.column_stack([np.clip(1 - others.sum(axis=1), 0, 1), others])


def class_shares(scores: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """How much of each video is of each class: the share of frames in which it is the most probable one.

    Args:
        scores: a score table of one video or more.
        classes: of the model that made it, in its order.

    Returns:
        A row a video, in order of appearance: `video`, `frames` (u32), and `share_<class>` (0 to 1, together 1).

    Raises:
        HlkitError: when the table is of other classes.
    """
    best = pl.Series("best", class_probabilities(scores, classes).argmax(axis=1))
    shares = [(pl.col("best") == place).mean().alias(f"share_{name}") for place, name in enumerate(classes)]
    return scores.select("video", best).group_by("video", maintain_order=True).agg(pl.len().alias("frames"), *shares)


def check_thresholds(thresholds: Mapping[str, float] | None, classes: Sequence[str]) -> None:
    """Refuse thresholds that `decide_classes` can't use.

    Raises:
        HlkitError: for a threshold out of range or of another class.
    """
    allowed = f"give shares from 0 to 1 for {', '.join(classes)}"
    for name, share in (thresholds or {}).items():
        if name not in classes or not 0 <= share <= 1:
            raise HlkitError(f"The threshold {name}={share:g} is not allowed; {allowed}.")


def decide_classes(
    shares: pl.DataFrame, classes: Sequence[str], *, thresholds: Mapping[str, float] | None = None
) -> pl.DataFrame:
    """Add `class`: of the classes whose share is above their threshold the one with the largest share.

    Where none is above its threshold, a video is of the first class. `{"blurred": 0.75}` calls a video blurred only
    where more than three quarters of it are. A class without a threshold counts at any share.

    Args:
        shares: as `class_shares` gives them.
        classes: in the model's order, the ordinary one first.
        thresholds: shares, 0 to 1, by class.

    Raises:
        HlkitError: for a threshold out of range or of another class.
    """
    check_thresholds(thresholds, classes)
    thresholds = thresholds or {}
    values = shares.select(f"share_{name}" for name in classes).to_numpy()
    # Whoever has all of the video passes any threshold, 1 too.
    passed = (values > [thresholds.get(name, 0.0) for name in classes]) | (values == 1)
    best = np.where(passed, values, -1).argmax(axis=1)
    chosen = np.where(passed.any(axis=1), best, 0)
    return shares.with_columns(pl.Series("class", [classes[place] for place in chosen], dtype=pl.String))


def shares_text(row: Mapping[str, object], classes: Sequence[str]) -> str:
    """A video's shares in words, the largest first, without classes it has nothing of: `Good: 90.9%, under: 9.1%`."""
    shares = sorted(((float(str(row[f"share_{name}"])), name) for name in classes), key=lambda pair: -pair[0])
    text = ", ".join(f"{name}: {share:.1%}" for share, name in shares if share > 0)
    return text[:1].upper() + text[1:]
