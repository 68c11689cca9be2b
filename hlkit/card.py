"""The model card: what a model was made from and how well it did, for whoever finds it later."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from hlkit.models import ModelConfig
from hlkit.project import format_time

# What each column of metrics.csv means, in the order of the card.
METRICS = {
    "val_ap": "average precision (area under precision over recall; random scores get the base rate)",
    "val_base_rate": "share of frames that are highlights",
    "val_precision": "of the frames called highlights, the share that are",
    "val_recall": "of the highlight frames, the share that are called so",
    "val_f1": "harmonic mean of precision and recall",
    "val_accuracy": "share of frames called right; 'never' gets one minus the base rate",
    "val_loss": "cross-entropy",
}


def model_card(
    name: str, config: ModelConfig, frames: pl.DataFrame, run: Mapping[str, Any], row: Mapping[str, float]
) -> str:
    """The card as Markdown.

    Args:
        name: of the run.
        config: the network.
        frames: the table it was trained on, with `video`, `time`, `label` and `part`.
        run: the settings of the training.
        row: the metrics of the epoch that was kept, with `epoch` from 0.
    """
    what = f"clips of {config.num_frames_per_clip} frames" if config.kind == "clip" else "single frames"
    network = f"{config.backbone} on {what} of {config.size}x{config.size} px at {config.fps} frames a second"
    if config.kind == "clip":
        direction = "bidirectional " if config.bidirectional else ""
        network += f", then a {direction}{config.rnn.upper()} of width {config.hidden_size}"
    if config.sound != "none":
        network += f"; beside each picture it hears the sound's {config.sound} in the second around it"
    settings = {key: value for key, value in run.items() if key not in ("config", "data")}
    lines = [
        f"# Model card: {name}",
        "",
        f"{network}. Classes: {', '.join(config.classes)}.",
        "",
        "## Data",
        "",
        *_table(("video", "until", "frames"), _videos(frames)),
        "",
        *_table(("part", *config.classes), _counts(frames, config.classes)),
        "",
        "Only the training part was learned from; purged frames lie too close to validation frames and were left out, "
        "dropped ones are background that there was too much of.",
        "",
        "## Metrics on the validation part",
        "",
        f"Epoch {int(row['epoch']) + 1} of {run['epochs']} was kept: the best by `{run['monitor']}`. The validation "
        "part is of the same videos, so expect less on another one.",
        "",
        *_table(("metric", "value", "meaning"), ((key, f"{row[key]:.3f}", text) for key, text in METRICS.items())),
        "",
        "## Training",
        "",
        *_table(("setting", "value"), settings.items()),
        *(f"| {package} | {importlib.metadata.version(package)} |" for package in ("hlkit", "torch", "lightning")),
        "",
    ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    # A title may hold the character that separates cells.
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]


def _videos(frames: pl.DataFrame) -> Iterable[Sequence[Any]]:
    summary = frames.group_by("video").agg(pl.col("time").max(), pl.len()).sort("video")
    return ((video, format_time(until), f"{count:,}") for video, until, count in summary.iter_rows())


def _counts(frames: pl.DataFrame, classes: Sequence[str]) -> Iterable[Sequence[Any]]:
    for (part,), rows in frames.group_by(["part"], maintain_order=True):
        yield part, *(f"{(rows['label'] == index).sum():,}" for index in range(len(classes)))
