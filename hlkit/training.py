"""Training: the Lightning module, `fit` that can be killed and run again, and reading a checkpoint back.

A run's folder holds `metrics.csv` (a row an epoch) from the first epoch on; `last.ckpt` and `best.ckpt` while it runs;
and when it has finished `model.ckpt` (the best epoch by the monitored metric), `config.json` and `card.md`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as lightning
import numpy as np
import polars as pl
import torch
from lightning.pytorch.loggers import Logger

from hlkit.backbones import load_file
from hlkit.callbacks import (
    KeepBest,
    LoggerName,
    ProgressLine,
    WholeCheckpoints,
    best_epoch,
    open_logger,
    quiet_lightning,
    write_metrics,
)
from hlkit.card import model_card
from hlkit.dataset import Augment, Cache, FrameDataModule
from hlkit.device import pick_device, pick_precision
from hlkit.models import Model, ModelConfig, build_model
from hlkit.module import HighlightModule
from hlkit.project import HlkitError, HlkitWarning, fingerprint, write_text
from hlkit.sound import LEVELS, Heard

Monitor = Literal["val_ap", "val_precision", "val_recall", "val_f1", "val_accuracy", "val_loss"]

# One batch out of line (recurrent networks, transformers) must not undo the others' work.
GRADIENT_LIMIT = 1.0

_log = logging.getLogger(__name__)


def fit(
    frames: pl.DataFrame,
    root: Path,
    folder: Path,
    *,
    config: ModelConfig,
    epochs: int = 8,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    positive_share: float | None = 0.3,
    class_weights: Sequence[float] | None = None,
    monitor: Monitor = "val_ap",
    weights: str | Path | None = None,
    augment: Augment = "all",
    seed: int = 0,
    cache: Cache = "auto",
    num_workers: int = 0,
    logger: LoggerName = "csv",
    accelerator: str = "auto",
    on_epoch: Callable[[], object] | None = None,
    progress: bool = True,
) -> Path:
    """Train a model on the training part of a table and keep the epoch that does best on the validation part.

    Killed at any moment and called again with the same arguments, it goes on after the last whole epoch and ends with
    the same `metrics.csv` and weights as an unbroken run (on the CPU bit for bit, given the same number of threads).
    A finished run is not trained again; other arguments, or another table, start it over.

    Args:
        frames: a frame table with `label` (index into `config.classes`) and `part`; see `split_frames`. Where the
            network hears, `sound` too, an array of levels a frame; see `hlkit.sound.second_levels`.
        root: the folder of frame stores.
        folder: where the run's files go; see the module.
        config: the network to train.
        epochs: passes over the training part. A pass draws as many pictures as the part has, whether one by one or in
            clips, so it takes a clip model as long as a frame model.
        batch_size: pictures in a batch; clips fill a batch with as many pictures, but are two at least.
        learning_rate: the highest rate of the schedule.
        positive_share: share of non-background frames in what a pass draws; None draws each frame once.
        class_weights: one weight a class in the loss; None weighs all alike.
        monitor: the metric whose best epoch is kept.
        weights: None, "DEFAULT" or a path; see `ResNetClassifier`.
        augment: what is varied in training pictures; "place" where the classes are about light.
        seed: of first weights, draws, augmentation and dropout.
        cache, num_workers: see `FrameDataset` and `FrameDataModule`.
        logger: "csv", or "mlflow" or "wandb" beside the CSV.
        accelerator: "auto", "cpu" or "cuda".
        on_epoch: called after each epoch, when its checkpoints are written.
        progress: show one line with the time left.

    Returns:
        `folder / "model.ckpt"`.

    Raises:
        HlkitError: for a table that nothing can be learned from, an argument that is not allowed, or a loss that is
            no number.
    """
    _check_arguments(monitor, epochs, batch_size)
    check_table(frames, config)
    frames = frames.drop("sound", strict=False) if config.sound == "none" else frames
    device, folder = pick_device(accelerator), Path(folder)
    class_weights = None if class_weights is None else [float(weight) for weight in class_weights]
    settings: dict[str, Any] = {"learning_rate": learning_rate, "class_weights": class_weights, "seed": seed}
    sampling: dict[str, Any] = {"batch_size": batch_size, "positive_share": positive_share}
    source = weights if weights in (None, "DEFAULT") else fingerprint(Path(weights))
    run = {"config": config.to_dict(), "data": _digest(frames), "epochs": epochs, "monitor": monitor, "weights": source}
    run |= settings | sampling
    if augment != "all":
        run["augment"] = augment
    _clean(folder)
    if _is_finished(folder, run):
        return folder / "model.ckpt"

    history = _resumable_history(folder, run)
    if len(history) < epochs:
        module = HighlightModule(config, weights=None if history else weights, **settings)
        module.run = run
        if config.kind == "clip":
            sampling |= _clip_sampling(frames, config.num_frames_per_clip, batch_size)
        reading = {"size": config.size, "cache": cache, "num_workers": num_workers}
        data = FrameDataModule(frames, root, seed=seed, augment=augment, **sampling, **reading)
        callbacks = [ProgressLine(progress=progress), KeepBest(folder, monitor, on_epoch)]
        cuda = [device] if device.type == "cuda" else []
        with quiet_lightning(), torch.random.fork_rng(devices=cuda), open_logger(logger, folder) as its_logger:
            trainer = _trainer(folder, device, epochs, callbacks, its_logger)
            trainer.fit(module, datamodule=data, ckpt_path=folder / "last.ckpt" if history else None)
        history = module.history
    _finish(folder, config, frames, run, history)
    return folder / "model.ckpt"


def check_table(frames: pl.DataFrame, config: ModelConfig) -> None:
    """Raise HlkitError unless both parts hold background and something else, and every class can be learned.

    And unless it says what is heard beside every picture, where the network hears.
    """
    if frames.is_empty():
        raise HlkitError("The frame table is empty. Extract frames first (notebook 02, or `hlkit frames`).")
    if missing := {"label", "part"} - set(frames.columns):
        raise HlkitError(f"The frame table lacks {sorted(missing)}. Label it (label_frames), then split_frames it.")
    if strange := set(frames["label"]) - set(range(len(config.classes))):
        raise HlkitError(f"The table has labels {sorted(strange, key=str)}; its classes are {config.classes}, from 0.")
    if config.sound != "none":
        _check_sound(frames, config.sound)
    found = {part: set(frames.filter(pl.col("part") == part)["label"]) for part in ("train", "validation")}
    for index, name in enumerate(config.classes):
        if index not in found["train"]:
            raise HlkitError(
                f"No training frame is labelled '{name}', so it cannot be told from the rest. Label more of the video, "
                f"or another one; both background and highlights are needed."
            )
    if 0 not in found["validation"] or found["validation"] == {0}:
        lacking = "highlight" if 0 in found["validation"] else "background"
        raise HlkitError(
            f"The validation part has no {lacking} frame, so no epoch can be judged. Label more, in different places "
            "of the video, or split in shorter chunks (chunk_seconds)."
        )


def _check_sound(frames: pl.DataFrame, heard: Heard) -> None:
    if frames.schema.get("sound") != pl.Array(pl.Float32, LEVELS[heard]):
        raise HlkitError(
            f"The frame table says in no column 'sound' ({LEVELS[heard]} f32 a frame) what is heard, and the network "
            f"is to hear the sound's {heard}. Add it, or leave the sound out."
        )
    known = np.isfinite(frames["sound"].to_numpy()).all(axis=1)
    if deaf := sorted(set(frames["video"].to_numpy()[~known])):
        raise HlkitError(f"{', '.join(deaf)}: no sound to learn from. Leave it out of the training, or the sound.")


def load_model(path: Path, *, device: str | torch.device = "auto") -> tuple[Model, ModelConfig]:
    """Read a checkpoint that `fit` wrote, without running any code from it.

    Returns:
        The network in evaluation mode on `device`, and its config.

    Raises:
        HlkitError: when the file is missing, damaged, or a checkpoint of something else.
    """
    content = load_file(Path(path))
    state, parameters = content.get("state_dict"), content.get("hyper_parameters")
    if "hlkit" not in content or not isinstance(state, dict) or not isinstance(parameters, dict):
        raise HlkitError(f"{path} is a checkpoint of something else than hlkit. Give a model.ckpt that hlkit trained.")
    config = ModelConfig.from_dict(parameters["config"])
    model = build_model(config)
    prefix = "model."
    try:
        model.load_state_dict({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip()[:160]
        raise HlkitError(f"The weights in {path} do not fit its {config.backbone} ({reason}). Train again.") from error
    return model.to(pick_device(device)).to(memory_format=torch.channels_last).eval(), config


def _check_arguments(monitor: str, epochs: int, batch_size: int) -> None:
    if monitor not in get_args(Monitor):
        raise HlkitError(f"monitor is '{monitor}'; {', '.join(get_args(Monitor))} are allowed.")
    if epochs < 1 or batch_size < 2:
        raise HlkitError(f"epochs is {epochs} and batch_size is {batch_size}; give at least 1 and 2.")


def _clip_sampling(frames: pl.DataFrame, num_frames_per_clip: int, batch_size: int) -> dict[str, int]:
    """How many clips make a batch and an epoch: those that hold as many pictures as of a frame model's."""
    batch = max(2, batch_size // num_frames_per_clip)
    pictures = frames.filter(pl.col("part") == "train").height
    draws = max(batch, pictures // num_frames_per_clip)
    return {"num_frames_per_clip": num_frames_per_clip, "batch_size": batch, "samples_per_epoch": draws}


def _digest(frames: pl.DataFrame) -> str:
    """16 hex digits for everything in the table that training depends on."""
    columns = ["video", "frame", "time", "shard", "offset", "size", "label", "part"]
    digest = hashlib.sha256(frames.select(columns).write_csv().encode())
    if "sound" in frames.columns:
        digest.update(frames["sound"].to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _clean(folder: Path) -> None:
    """Make the folder, and remove what a run that was killed while writing has left."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".part-*"):
        shutil.rmtree(leftover)


def _is_finished(folder: Path, run: Mapping[str, Any]) -> bool:
    """Whether the folder holds the finished model of this very run."""
    if not (folder / "model.ckpt").is_file():
        return False
    try:
        found = load_file(folder / "model.ckpt").get("hlkit", {}).get("run")
    except HlkitError as error:
        warnings.warn(f"{error} Training starts over.", HlkitWarning, stacklevel=3)
        return False
    if found == run:
        (folder / "last.ckpt").unlink(missing_ok=True)
    return found == run


def _resumable_history(folder: Path, run: Mapping[str, Any]) -> list[dict[str, float]]:
    """The epochs that last.ckpt stands for; none when there is nothing of this run to go on from."""
    if not (folder / "last.ckpt").is_file():
        return []
    try:
        last = load_file(folder / "last.ckpt").get("hlkit", {})
        best = load_file(folder / "best.ckpt").get("hlkit", {})
    except HlkitError as error:
        warnings.warn(f"{error} Training starts over.", HlkitWarning, stacklevel=3)
        return []
    if last.get("run") != run or best.get("run") != run:
        _log.info("%s holds a run with other settings or data; training starts over", folder)
        return []
    # best.ckpt may be one epoch ahead, when the run was killed before it wrote last.ckpt.
    if len(best["history"]) not in (best_epoch(last["history"], run["monitor"]) + 1, len(last["history"]) + 1):
        _log.info("best.ckpt and last.ckpt in %s are of different runs; training starts over", folder)
        return []
    return last["history"]


def _trainer(
    folder: Path, device: torch.device, epochs: int, callbacks: list[Any], logger: Logger | None
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=pick_precision(device),
        max_epochs=epochs,
        callbacks=callbacks,
        logger=logger or False,
        plugins=[WholeCheckpoints()],
        default_root_dir=folder,
        gradient_clip_val=GRADIENT_LIMIT,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _finish(
    folder: Path, config: ModelConfig, frames: pl.DataFrame, run: dict[str, Any], history: list[dict[str, float]]
) -> None:
    """Write what describes the model; the model gets its name last, so that it stands for a whole run."""
    row = history[best_epoch(history, run["monitor"])]
    write_metrics(history, folder)
    write_text(folder / "config.json", json.dumps({"model": config.to_dict(), "training": run}, indent=1) + "\n")
    write_text(folder / "card.md", model_card(folder.name, config, frames, run, row))
    (folder / "best.ckpt").replace(folder / "model.ckpt")
    (folder / "last.ckpt").unlink()
