"""What is learned by: the loss, the optimiser and its schedule, and the validation metrics, as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor, nn

from hlkit.models import ModelConfig, build_model
from hlkit.project import HlkitError

# The rate climbs for this share of the steps, because the first steps from random weights point anywhere.
WARM_UP_SHARE = 0.1
# A pretrained backbone stands still for this share of the steps, and then learns at this part of the others' rate.
PROBE_SHARE, BODY_RATE = 0.25, 0.1


class HighlightModule(lightning.LightningModule):
    """A network with its loss, its optimiser and its validation metrics.

    Args:
        config: the network, as a `ModelConfig` or its `to_dict()`.
        learning_rate: AdamW's highest rate; it climbs for a tenth of the steps, then falls to 0 along a cosine.
        weight_decay: of AdamW, on weight matrices and kernels only.
        class_weights: one weight a class in the cross-entropy; None weighs all alike.
        weights: where the backbone's first weights come from; see `ResNetClassifier`.
        seed: of the first weights and of dropout.
    """

    def __init__(
        self,
        config: ModelConfig | Mapping[str, Any],
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        class_weights: Sequence[float] | None = None,
        weights: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        config = config.to_dict() if isinstance(config, ModelConfig) else dict(config)
        self.save_hyperparameters(ignore=["weights"])
        self.config = ModelConfig.from_dict(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build_model(self.config, weights).to(memory_format=torch.channels_last)
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        self.is_pretrained = self.model.backbone.is_pretrained
        self.loss = nn.CrossEntropyLoss(None if class_weights is None else torch.tensor(class_weights))
        self.run: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor, sound: Tensor | None = None) -> Tensor:
        """Pictures or clips, and the sound beside them where the network hears -> logits."""
        return self.model(images, sound)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make dropout follow from the place in the training alone, for the sake of resumed runs."""
        state = np.random.SeedSequence((self.seed, self.current_epoch, batch_idx)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> 1))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch: pictures or clips, their sound where the network hears, and labels."""
        *inputs, labels = batch
        loss = self.loss(self.model(*inputs).float(), labels)
        self._check_finite(loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Collect the logits of a batch."""
        *inputs, labels = batch
        self._outputs.append((self.model(*inputs).float().cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole validation part: an average over batches would be another number."""
        logits, labels = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs.clear()
        loss = nn.functional.cross_entropy(logits, labels)
        self._check_finite(loss)
        self.log_dict({"val_loss": loss} | validation_metrics(logits.softmax(1), labels), batch_size=len(labels))

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            weighed = "" if self.loss.weight is None else ", and check the class_weights"
            raise HlkitError(
                f"The loss became {loss.item()} in epoch {self.current_epoch + 1}: the training fell apart. Give a "
                f"learning_rate below {self.learning_rate:g}{weighed}."
            )

    def configure_optimizers(self) -> Any:
        """AdamW with the rate of `rate_at`, step by step; `body_rate_at` is that of a pretrained backbone."""
        body = {id(parameter) for parameter in self.model.backbone.parameters()} if self.is_pretrained else set()
        groups, rates = [], []
        for inside, rate in ((False, rate_at), (True, body_rate_at)):
            chosen = [parameter for parameter in self.parameters() if (id(parameter) in body) == inside]
            for is_kernel, decay in ((True, self.weight_decay), (False, 0.0)):
                parameters = [parameter for parameter in chosen if (parameter.ndim > 1) == is_kernel]
                if parameters:
                    groups.append({"params": parameters, "weight_decay": decay})
                    rates.append(rate)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        total = int(self.trainer.estimated_stepping_batches)
        schedules = [partial(rate, total_steps=total) for rate in rates]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what hlkit needs to know a checkpoint again."""
        checkpoint["hlkit"] = {"run": self.run, "history": self.history, "is_pretrained": self.is_pretrained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the history of the run."""
        self.history = list(checkpoint["hlkit"]["history"])
        self.is_pretrained = bool(checkpoint["hlkit"]["is_pretrained"])


def rate_at(step: int, total_steps: int) -> float:
    """The share of the highest learning rate at a step: up along a line, down along half a cosine, 0 at the end."""
    warm_up = max(1, round(total_steps * WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, total_steps - warm_up))))


def body_rate_at(step: int, total_steps: int) -> float:
    """The same for a pretrained backbone: 0 while the new last layer finds its place, then a tenth of `rate_at`.

    A linear probe before the fine-tuning keeps a random last layer from spoiling the features (Kumar and others 2022).
    """
    return 0.0 if step < total_steps * PROBE_SHARE else BODY_RATE * rate_at(step, total_steps)


def validation_metrics(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """How well probabilities `(n, C)` tell labels `(n,)`; class 0 is the background.

    `val_ap` (average precision), `val_precision`, `val_recall` and `val_f1` are means over the other classes that
    occur; for the last three the most probable class is the decision, and 0/0 counts as 0. `val_base_rate` is what
    `val_ap` would be for random scores: the mean share of those classes.
    """
    from torchmetrics.functional.classification import binary_average_precision

    decided = probabilities.argmax(1)
    rows = []
    for index in range(1, probabilities.shape[1]):
        true, said = labels == index, decided == index
        if not true.any():
            continue
        hits = int((true & said).sum())
        precision, recall = hits / max(1, int(said.sum())), hits / int(true.sum())
        f1 = 2 * hits / (int(said.sum()) + int(true.sum()))
        ap = float(binary_average_precision(probabilities[:, index], true.long()))
        rows.append((ap, precision, recall, f1, float(true.double().mean())))
    names = ("val_ap", "val_precision", "val_recall", "val_f1", "val_base_rate")
    means = np.mean(rows, axis=0).tolist() if rows else [math.nan] * len(names)
    return dict(zip(names, means, strict=True)) | {"val_accuracy": float((decided == labels).double().mean())}
