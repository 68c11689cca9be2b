"""What a project holds of its runs: the model, what it was made from, and what it learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hlkit.project import HlkitError, Project, atomic_path, write_text
from hlkit.records import read_table
from hlkit.stages.views import FrameSettings, box_for, read_box_value


def checkpoint(project: Project, run: str) -> Path:
    """The model file of a run.

    Raises:
        HlkitError: when the run has not been trained; lists those that have.
    """
    file = project.model(run) / "model.ckpt"
    if not file.is_file():
        known = ", ".join(sorted(path.parent.name for path in project.model(run).parent.glob("*/model.ckpt"))) or "none"
        raise HlkitError(
            f"There is no model '{run}' in {project.root} (trained: {known}). "
            "Train first (notebook 05, or `hlkit train`)."
        )
    return file


def run_settings(project: Project, run: str) -> FrameSettings:
    """What the frames are that a run's model reads."""
    model = run_config(project, run)["model"]
    return FrameSettings(model["fps"], model["size"], read_box_value(model))


def wanted_settings(project: Project, run: str, video: str) -> FrameSettings:
    """What the frames of one video are that a run's model reads: with the video's own box, where it reads a part."""
    wanted = run_settings(project, run)
    return wanted._replace(box=box_for(project, video, wanted.box))


def run_config(project: Project, run: str) -> dict[str, Any]:
    """What a run was made from: `model` and `training`, and what `record_run` has added.

    Raises:
        HlkitError: when it is missing or damaged.
    """
    file = checkpoint(project, run).with_name("config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if not {"fps", "size"} <= set(config["model"]) or not isinstance(config["training"], dict):
            raise KeyError("model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HlkitError(f"{file} is missing or damaged ({error}). Train again: `hlkit train --redo`.") from error
    return config


def record_run(
    project: Project,
    run: str,
    *,
    videos: Sequence[str],
    sequence: str,
    classes: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Add to a run's settings what it learns from, and the kind of its sequence model ("none" without one).

    `classes` are those that were chosen, if any were; `options` the words with which it was trained.
    """
    config = run_config(project, run) | {"videos": list(videos), "sequence": sequence}
    if classes is not None:
        config["classes"] = list(classes)
    if options is not None:
        config["options"] = dict(options)
    write_text(checkpoint(project, run).with_name("config.json"), json.dumps(config, indent=1) + "\n")


def record_split(project: Project, run: str, frames: pl.DataFrame) -> None:
    """Keep which frames a run learned from: `video`, `frame` and `part`, in `split.parquet` beside its model."""
    with atomic_path(_split_file(project, run)) as temporary:
        frames.select("video", "frame", "part").write_parquet(temporary)


def run_split(project: Project, run: str) -> pl.DataFrame:
    """What `record_split` has kept.

    Raises:
        HlkitError: when it is missing or damaged.
    """
    remedy = "Train again: `hlkit train --redo`."
    return read_table(_split_file(project, run), texts=["video", "part"], numbers=["frame"], remedy=remedy)


def _split_file(project: Project, run: str) -> Path:
    return checkpoint(project, run).with_name("split.parquet")


def learned_from(project: Project, run: str) -> list[str]:
    """The videos that a run learned from; none where it was made elsewhere and does not say."""
    return list(run_config(project, run).get("videos", ()))


def chosen_classes(project: Project, run: str) -> list[str] | None:
    """The classes that a run was told to learn; None when it learns all that are labelled."""
    return run_config(project, run).get("classes")
