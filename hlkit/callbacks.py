"""What stands between hlkit and Lightning's trainer: whole files, one progress line, silence, other loggers."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import polars as pl
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import Logger
from tqdm.auto import tqdm

from hlkit.backbones import load_file
from hlkit.project import HlkitError, HlkitWarning, atomic_path, free_disk, write_text

LoggerName = Literal["csv", "mlflow", "wandb"]


class WholeCheckpoints(CheckpointIO):
    """Writes a checkpoint under a temporary name and renames it; reads it without running code from it.

    Lightning before 2.6 has no `weights_only` in `fit`, and from 2.6 on it must be asked for; this is one way for both.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace `path` in one step; raises HlkitError when it cannot be written, and leaves the older one."""
        path = Path(path)
        try:
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # PyTorch says "unexpected pos" when the disk is full
            raise HlkitError(
                f"{path} could not be written, with {free_disk(path) / 1e6:,.0f} MB free on its disk ({error}). Free "
                "some space and run it again: it goes on after the last whole epoch."
            ) from error

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Read `path` onto the CPU, whatever Lightning asks for; raises HlkitError when it is damaged."""
        return load_file(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete `path`."""
        Path(path).unlink(missing_ok=True)


class KeepBest(Checkpoint):
    """After each epoch writes `best.ckpt` if it is the best so far, `last.ckpt` to resume from, and `metrics.csv`.

    In this order, so that a run which is killed between two of them repeats the epoch and writes the same files again.
    The module must have a list `history`, which this fills with a row an epoch. Then `on_epoch` is called.
    """

    def __init__(self, folder: Path, monitor: str, on_epoch: Callable[[], object] | None = None) -> None:
        self.folder, self.monitor, self.on_epoch = folder, monitor, on_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Record the epoch's metrics and write what there is to keep."""
        history, epoch = pl_module.history, trainer.current_epoch
        metrics = {name: value.item() for name, value in sorted(trainer.callback_metrics.items())}
        history.append({"epoch": epoch, **metrics})
        if best_epoch(history, self.monitor) == epoch:
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        write_metrics(history, self.folder)
        if self.on_epoch is not None:
            self.on_epoch()


def best_epoch(history: Sequence[Mapping[str, float]], monitor: str) -> int:
    """The epoch with the best value of `monitor`: the lowest "val_loss", the highest of the rest.

    Of equals the one with the lowest loss: few frames soon make a perfect precision, which says nothing any more.
    """
    sign = -1 if monitor == "val_loss" else 1
    return int(max(history, key=lambda row: (sign * row[monitor], -row["val_loss"]))["epoch"])


def write_metrics(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Write `metrics.csv`: `epoch` from 0, then a column a metric, in one step."""
    write_text(folder / "metrics.csv", pl.DataFrame(history).write_csv(float_precision=6))


class ProgressLine(Callback):
    """One line for the whole training with the time left over all epochs."""

    def __init__(self, *, progress: bool) -> None:
        self.bar: tqdm[Any] = tqdm(disable=True)
        self.progress = progress

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Open the line where a resumed run stands."""
        per_epoch = int(trainer.num_training_batches + sum(trainer.num_val_batches))
        total, done = (trainer.max_epochs or 0) * per_epoch, trainer.current_epoch * per_epoch
        self.bar = tqdm(
            total=total, initial=done, desc="training", unit="batch", mininterval=0.5, disable=not self.progress
        )

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a training batch."""
        self.bar.update()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a validation batch."""
        self.bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Show where it stands."""
        metrics = trainer.callback_metrics
        epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.bar.set_postfix(epoch=epoch, loss=f"{metrics['train_loss']:.3f}", val_ap=f"{metrics['val_ap']:.3f}")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Close the line."""
        self.bar.close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the line, so that the error stands on its own."""
        self.bar.close()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice from the user, and its handling of Ctrl-C from lasting longer than the training."""
    # Its notes on devices, and advertisements, go to these loggers at INFO.
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            # Pictures come out of RAM; worker processes would each hold a copy of them.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # hlkit logs once an epoch, so the interval in batches means nothing.
            warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging")
            # Lightning 2.6 calls a function of PyTorch that is about to change; nobody here can mend that.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    except SystemExit as stop:
        # Lightning turns Ctrl-C into the end of the process, which in a notebook is not its to end.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if in_main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def open_logger(name: LoggerName, folder: Path) -> Iterator[Logger | None]:
    """Yield Lightning's logger beside hlkit's own metrics.csv, None for "csv", and close it at the end.

    MLflow writes to MLFLOW_TRACKING_URI, or else to `folder/mlflow.db`. W&B sends when WANDB_API_KEY or WANDB_MODE is
    set, and else keeps the run in `folder/wandb` for `wandb sync`, because without a key it would stop and ask.

    Raises:
        HlkitError: for another name, or when its package is not installed.
    """
    makers = {"csv": lambda folder: None, "mlflow": _mlflow_logger, "wandb": _wandb_logger}
    if name not in makers:
        raise HlkitError(f"logger is '{name}'; {', '.join(makers)} are allowed.")
    try:
        logger = makers[name](folder)
    except ModuleNotFoundError as error:
        raise HlkitError(f"The {name} package is not installed; run: pip install {name}") from error
    try:
        yield logger
    finally:
        # Lightning leaves the run open, and W&B would add the next training to it.
        if name == "wandb" and logger is not None:
            logger.experiment.finish()


def _mlflow_logger(folder: Path) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    address = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    return MLFlowLogger("hlkit", folder.name, tracking_uri=address, artifact_location=str(folder.resolve() / "mlruns"))


def _wandb_logger(folder: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    is_offline = not {"WANDB_API_KEY", "WANDB_MODE"} & set(os.environ)
    if is_offline:
        reason = f"There is no WANDB_API_KEY, so the run stays in {folder / 'wandb'}; `wandb sync` sends it."
        warnings.warn(reason, HlkitWarning, stacklevel=4)
    return WandbLogger(folder.name, save_dir=folder, project="hlkit", offline=is_offline)
