"""The networks: a frame classifier over any torchvision backbone, and a recurrent one over clips of consecutive frames.

Pictures are RGB `(B, 3, H, W)` and clips `(B, T, 3, H, W)`, uint8 or float in [0, 1]; logits are `(B, classes)`.
Class 0 is the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from hlkit.backbones import Backbone
from hlkit.project import HlkitError
from hlkit.sampling import Box, check_box
from hlkit.video import frame_rate

Kind = Literal["frame", "clip"]
RNNKind = Literal["lstm", "gru"]


@dataclass(frozen=True)
class ModelConfig:
    """What a network is made from; it travels inside every checkpoint.

    Attributes:
        kind: "frame" scores single pictures, "clip" scores a picture with its neighbours.
        backbone: a name out of `hlkit.backbones.backbones()`, or its `MEASURES`.
        classes: class names, background first.
        size: side of the square pictures, pixels.
        fps: frames per second, an exact fraction as text ("3", "30000/1001"); int and Fraction are taken too.
        box: the part of the recording's picture that they show, `x0, y0, x1, y1` from 0 to 1; None for the whole.
        num_frames_per_clip: frames a clip holds ("clip" only).
        rnn, bidirectional, hidden_size: the recurrent part ("clip" only).
        head: widths of layers between the features and the logits, such as (1000, 500); none, unless given.
    """

    kind: Kind = "frame"
    backbone: str = "resnet18"
    classes: tuple[str, ...] = ("background", "highlight")
    size: int = 128
    fps: str = "3"
    box: Box | None = None
    num_frames_per_clip: int = 8
    rnn: RNNKind = "gru"
    bidirectional: bool = True
    hidden_size: int = 128
    head: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "head", tuple(self.head))
        object.__setattr__(self, "fps", str(frame_rate(self.fps)))
        if self.box is not None:
            object.__setattr__(self, "box", check_box(self.box))
        for name, value, allowed in (("kind", self.kind, get_args(Kind)), ("rnn", self.rnn, get_args(RNNKind))):
            if value not in allowed:
                raise HlkitError(f"{name} is {value!r}; {' and '.join(allowed)} are allowed.")
        if len(set(self.classes)) < 2 or len(set(self.classes)) != len(self.classes):
            raise HlkitError(f"classes are {list(self.classes)}; give two or more different names, background first.")
        for name in ("size", "num_frames_per_clip", "hidden_size"):
            if getattr(self, name) < 1:
                raise HlkitError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if any(width < 1 for width in self.head):
            raise HlkitError(f"head is {self.head}; each of its widths must be 1 or more.")

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exactly."""
        return Fraction(self.fps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, fit for JSON and for a checkpoint that is loaded with `weights_only=True`."""
        values = asdict(self) | {"classes": list(self.classes), "box": self.box and list(self.box)}
        # What is left at its default does not make a model of an earlier version count as another.
        return {**values, "head": list(self.head)} if self.head else {k: v for k, v in values.items() if k != "head"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The reverse of `to_dict`.

        Raises:
            HlkitError: for a key that this version of hlkit does not know, or a value that is not allowed.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise HlkitError(f"The model's settings hold {unknown}, which this hlkit does not know; update hlkit.")
        return cls(**values)


class ResNetClassifier(nn.Module):
    """A torchvision classifier with a new last layer. Despite the name, any of `hlkit.backbones` will do.

    Args:
        backbone: torchvision's name, e.g. "resnet18", "resnext50_32x4d", "efficientnet_b0", "vit_b_16".
        num_classes: width of the logits.
        weights: None for random weights, "DEFAULT" for torchvision's best pretrained ones (downloaded once; without
            network a HlkitWarning and random weights), or the path of a state dict of this backbone or of an hlkit
            checkpoint.
        image_size: side of the pictures in pixels. Only vision transformers are built for one size (224 unless given).
        head: widths of layers between the features and the logits, with a ReLU behind each; none, unless given.

    Raises:
        HlkitError: for a name, a size or a weights file that does not fit.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int = 2,
        weights: str | Path | None = None,
        *,
        image_size: int | None = None,
        head: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights, image_size=image_size)
        self.classifier = _head(self.backbone.num_features, head, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)`, uint8 or float in [0, 1] -> features `(B, F)`."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)` -> logits `(B, num_classes)`."""
        return self.classifier(self.features(images))


class RNNClassifier(nn.Module):
    """The same backbones over each frame of a clip, then an LSTM or GRU over time; answers for the clip's centre frame.

    Args:
        backbone, num_classes, weights, image_size, head: as for `ResNetClassifier`.
        rnn: "gru" or "lstm".
        hidden_size: width of one direction's state.
        num_layers: stacked recurrent layers.
        bidirectional: True reads the clip from both ends and answers at frame T // 2, where the two meet;
            False reads it forwards and answers after its last frame.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int = 2,
        *,
        rnn: RNNKind = "gru",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        weights: str | Path | None = None,
        image_size: int | None = None,
        head: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights, image_size=image_size)
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[rnn]
        width = self.backbone.num_features
        self.rnn = layer(width, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional)
        self.classifier = _head(hidden_size * (2 if bidirectional else 1), head, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Pictures `(N, 3, H, W)`, uint8 or float in [0, 1] -> features `(N, F)`, each picture on its own."""
        return self.backbone(images)

    def classify(self, features: Tensor) -> Tensor:
        """Features of clips `(B, T, F)` -> logits `(B, num_classes)`."""
        # The recurrence is a sliver of the work, and in bfloat16 its state would lose small changes over time.
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.rnn(features.to(next(self.rnn.parameters()).dtype))  # (B, T, directions * hidden_size)
            step = states.shape[1] // 2 if self.rnn.bidirectional else -1
            return self.classifier(states[:, step])

    def forward(self, clips: Tensor) -> Tensor:
        """Clips `(B, T, 3, H, W)` -> logits `(B, num_classes)`."""
        features = self.features(clips.flatten(0, 1))  # (B * T, F), the frames of one clip side by side
        return self.classify(features.unflatten(0, clips.shape[:2]))  # (B, T, F)


Model = ResNetClassifier | RNNClassifier


def build_model(config: ModelConfig, weights: str | Path | None = None) -> Model:
    """The network that `config` describes; `weights` as for `ResNetClassifier`."""
    if config.kind == "frame":
        return ResNetClassifier(config.backbone, len(config.classes), weights, image_size=config.size, head=config.head)
    return RNNClassifier(
        config.backbone,
        len(config.classes),
        rnn=config.rnn,
        hidden_size=config.hidden_size,
        bidirectional=config.bidirectional,
        weights=weights,
        image_size=config.size,
        head=config.head,
    )


def _head(width: int, hidden: Sequence[int], num_classes: int) -> nn.Module:
    """Features `(B, width)` -> logits `(B, num_classes)`; one linear layer where `hidden` is empty."""
    layers: list[nn.Module] = []
    for inner in hidden:
        layers += [nn.Linear(width, inner), nn.ReLU()]
        width = inner
    last = nn.Linear(width, num_classes)
    return nn.Sequential(*layers, last) if layers else last
