"""Stages that judge what models made of files, by what the files truly are: one model, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from hlkit.project import HlkitError, safe_id
from hlkit.sources import read_many
from hlkit.stages.common import Say
from hlkit.stages.files import FileScores


class _Judged(NamedTuple):
    """The scored files whose class is known: `names` (n,), their `classes` (n,), what the model gave their frames
    (rows, classes), `group` (rows,) the file of each, and the mean for each file, (n, classes)."""

    names: list[str]
    classes: np.ndarray
    values: np.ndarray
    group: np.ndarray
    means: np.ndarray


def judge_files(found: FileScores, truth: Path | str, *, say: Say = print) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How well files were told apart, by what they truly are.

    A file's probabilities are the means of its frames'. Files that the list does not name are left out.

    Args:
        found: from `infer_files`.
        truth: a list with labels (`hlkit.sources.read_many`; columns `path,label`, or the list that the files were
            downloaded by), or a folder with a folder of videos for each class.
        say: takes a line for each card: the share decided rightly beside that of always naming the commonest class.

    Returns:
        Two cards as from `hlkit.class_metrics.class_card`: of the frames, and of the files. Intervals draw whole files.

    Raises:
        HlkitError: when the list names none of the files, or classes that the model does not know.
    """
    from hlkit.class_metrics import ALL, class_card

    judged = _judge(found, Path(truth))
    cards = (
        class_card(judged.classes[judged.group], judged.values, found.classes, groups=judged.group),
        class_card(judged.classes, judged.means, found.classes),
    )
    for what, card in zip(("frames", "files"), cards, strict=True):
        row = card.filter(pl.col("class") == ALL).row(0, named=True)
        say(
            f"{Path(truth).stem}: {row['count']:,} {what}: {row['precision']:.1%} right, the commonest class alone "
            f"{row['base_rate']:.1%}; mean AP {row['ap']:.3f}."
        )
    return cards


def compare_files(found: Mapping[str, FileScores], truth: Path | str, *, say: Say = print) -> pl.DataFrame:
    """Set models side by side on the same files, each file decided as a whole.

    Args:
        found: by the name of each model, what `infer_files` found; each is held against the first.
        truth: as for `judge_files`.
        say: takes a line for each model.

    Returns:
        As `hlkit.class_metrics.side_by_side`: a row a class and one for all.

    Raises:
        HlkitError: for fewer than two models, models of other classes or files, and as `judge_files` does.
    """
    from hlkit.class_metrics import accuracy, accuracy_interval, class_card, side_by_side

    if len(found) < 2 or len({(each.classes, tuple(sorted(each.files))) for each in found.values()}) > 1:
        raise HlkitError(
            "Give two models or more of the same classes that scored the same files; given: "
            f"{', '.join(found) or 'none'}."
        )
    judged = {name: _judge(each, Path(truth)) for name, each in found.items()}
    (first, base), *_ = judged.items()
    classes = found[first].classes
    commonest = np.bincount(base.classes).max() / len(base.classes)
    say(f"{Path(truth).stem}: {len(base.classes)} files; the commonest class alone is right in {commonest:.1%}.")
    for name, each in judged.items():
        low, high = accuracy_interval(each.classes, each.means)
        text = f"{name}: {accuracy(each.classes, each.means):.1%} right ({low:.1%} to {high:.1%})"
        if name != first:
            more = accuracy(each.classes, each.means) - accuracy(base.classes, base.means)
            low, high = accuracy_interval(each.classes, each.means, base=base.means)
            text += f", {more:+.1%} beside {first} ({low:+.1%} to {high:+.1%})"
        say(f"{text}.")
    return side_by_side({name: class_card(each.classes, each.means, classes) for name, each in judged.items()})


def _judge(found: FileScores, truth: Path) -> _Judged:
    from hlkit.shares import class_probabilities

    labels = {video: label for video, label in _true_classes(truth).items() if video in found.files}
    if unknown := set(labels.values()) - set(found.classes):
        raise HlkitError(f"{truth} has {', '.join(sorted(unknown))}; the model knows {', '.join(found.classes)}.")
    scores = found.scores.filter(pl.col("video").is_in(list(labels))).sort("video", "time")
    if scores.is_empty():
        raise HlkitError(f"{truth} names none of the files that were scored. Names without suffixes must be the same.")
    names = scores["video"].unique(maintain_order=True).to_list()
    place = {name: number for number, name in enumerate(names)}
    group = np.array([place[video] for video in scores["video"]])
    values = class_probabilities(scores, found.classes)
    classes = np.array([found.classes.index(labels[name]) for name in names])
    means = np.stack([values[group == number].mean(axis=0) for number in range(len(names))])
    return _Judged(names, classes, values, group, means)


def _true_classes(truth: Path) -> dict[str, str]:
    """The class of each file's id."""
    if truth.is_dir():
        folders = (folder for folder in sorted(truth.iterdir()) if folder.is_dir())
        return {safe_id(file.stem): folder.name for folder in folders for file in folder.iterdir()}
    if not truth.is_file():
        raise HlkitError(f"There is no file {truth}. Give a CSV with the columns path,label, or a folder of folders.")
    return {each.id: each.label for each in read_many(truth) if each.label}
