"""The networks: a frame classifier over any torchvision backbone, and a recurrent one over clips of consecutive frames.

Pictures are RGB `(B, 3, H, W)` and clips `(B, T, 3, H, W)`, uint8 or float in [0, 1]; logits are `(B, classes)`.
Class 0 is the background. A network that hears takes levels of sound beside its pictures, dB `(B, W)` or `(B, T, W)`,
see `hlkit.sound.second_levels`; NaN, or none at all, stands for sound that is not known.
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
from hlkit.sampling import Own, PicturePart, check_part
from hlkit.sound import LEVELS, Heard
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
        box: the part of the recording's picture that they show, `x0, y0, x1, y1` from 0 to 1; None for the whole, "own"
            for a part that each recording has elsewhere. With the whole picture below it: eight numbers (see
            `hlkit.sampling.with_whole`), or "own+whole".
        num_frames_per_clip: frames a clip holds ("clip" only).
        rnn, bidirectional, hidden_size: the recurrent part ("clip" only).
        head: widths of layers between the features and the logits, such as (1000, 500); none, unless given.
        sound: what it hears beside each picture, of the second around it: "none", "power" or "spectrum".
    """

    kind: Kind = "frame"
    backbone: str = "resnet18"
    classes: tuple[str, ...] = ("background", "highlight")
    size: int = 128
    fps: str = "3"
    box: PicturePart | Own | None = None
    num_frames_per_clip: int = 8
    rnn: RNNKind = "gru"
    bidirectional: bool = True
    hidden_size: int = 128
    head: tuple[int, ...] = ()
    sound: Heard = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "head", tuple(self.head))
        object.__setattr__(self, "fps", str(frame_rate(self.fps)))
        if self.box is not None and not isinstance(self.box, str):
            object.__setattr__(self, "box", check_part(self.box))
        elif self.box not in (None, *get_args(Own)):
            raise HlkitError(f"box is {self.box!r}; four numbers, {' and '.join(get_args(Own))} are allowed.")
        for name, kinds in (("kind", Kind), ("rnn", RNNKind), ("sound", Heard)):
            value, allowed = getattr(self, name), get_args(kinds)
            if value not in allowed:
                raise HlkitError(f"{name} is {value!r}; {' and '.join(allowed)} are allowed.")
        if len(set(self.classes)) < 2 or len(set(self.classes)) != len(self.classes):
            given = ", ".join(map(repr, self.classes)) or "none"
            raise HlkitError(f"The classes are {given}; give two or more different names, background first.")
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
        values = asdict(self) | {
            "classes": list(self.classes),
            "box": list(self.box) if isinstance(self.box, tuple) else self.box,
        }
        # What is left at its default does not make a model of an earlier version count as another.
        later = {"head": list(self.head), "sound": self.sound}
        unchanged = {name for name, value in later.items() if value in ([], "none")}
        return {name: value for name, value in (values | later).items() if name not in unchanged}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The reverse of `to_dict`.

        Raises:
            HlkitError: for a key that this version of hlkit does not know, or a value that is not allowed.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise HlkitError(f"The model's settings hold {unknown}, which this hlkit does not know; update hlkit.")
        return cls(**values)


class SoundLevels(nn.Module):
    """Levels `(n, W)`, dB, standardised by what training had; the mean, 0, where one is not known (NaN).

    Training itself must know all of them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # A mean over all batches: a moving one would lie far from the truth for the first hundred of them.
        self.scale = nn.BatchNorm1d(width, affine=False, momentum=None)

    def forward(self, levels: Tensor) -> Tensor:
        """In float32 whatever surrounds it."""
        assert self.scale.running_mean is not None
        with torch.autocast(levels.device.type, enabled=False):
            return self.scale(levels.to(self.scale.running_mean.dtype)).nan_to_num(nan=0.0)


class _Classifier(nn.Module):
    """What both networks begin with: a backbone, and beside its features the levels of sound, where it hears any."""

    def __init__(self, backbone: str, weights: str | Path | None, image_size: int | None, sound: Heard) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights, image_size=image_size)
        self.sound = SoundLevels(LEVELS[sound]) if LEVELS[sound] else None
        self.num_inputs = self.backbone.num_features + LEVELS[sound]

    def features(self, images: Tensor) -> Tensor:
        """Pictures `(N, 3, H, W)`, uint8 or float in [0, 1] -> features `(N, F)`, each picture on its own."""
        return self.backbone(images)

    def join(self, features: Tensor, sound: Tensor | None = None) -> Tensor:
        """Features `(N, F)` and levels `(N, W)` -> what is classified, `(N, F + W)`; the features of what is deaf."""
        if self.sound is None:
            return features
        if sound is None:
            sound = features.new_full((len(features), self.num_inputs - features.shape[1]), torch.nan)
        return torch.cat([features, self.sound(sound).to(features.dtype)], dim=1)


class ResNetClassifier(_Classifier):
    """A torchvision classifier with a new last layer. Despite the name, any of `hlkit.backbones` will do.

    Args:
        backbone: torchvision's name, e.g. "resnet18", "resnext50_32x4d", "efficientnet_b0", "vit_b_16".
        num_classes: width of the logits.
        weights: None for random weights, "DEFAULT" for torchvision's best pretrained ones (downloaded once; without
            network a HlkitWarning and random weights), or the path of a state dict of this backbone or of an hlkit
            checkpoint.
        image_size: side of the pictures in pixels. Only vision transformers are built for one size (224 unless given).
        head: widths of layers between the features and the logits, with a ReLU behind each; none, unless given.
        sound: what it hears beside each picture; its levels join the features.

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
        sound: Heard = "none",
    ) -> None:
        super().__init__(backbone, weights, image_size, sound)
        self.classifier = _head(self.num_inputs, head, num_classes)

    def classify(self, features: Tensor) -> Tensor:
        """What `join` returns, `(B, F + W)` -> logits `(B, num_classes)`."""
        return self.classifier(features)

    def forward(self, images: Tensor, sound: Tensor | None = None) -> Tensor:
        """Pictures `(B, 3, H, W)` and levels `(B, W)` -> logits `(B, num_classes)`."""
        return self.classify(self.join(self.features(images), sound))


class RNNClassifier(_Classifier):
    """The same backbones over each frame of a clip, then an LSTM or GRU over time; answers for the clip's centre frame.

    Args:
        backbone, num_classes, weights, image_size, head, sound: as for `ResNetClassifier`.
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
        sound: Heard = "none",
    ) -> None:
        super().__init__(backbone, weights, image_size, sound)
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[rnn]
        self.rnn = layer(self.num_inputs, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional)
        self.classifier = _head(hidden_size * (2 if bidirectional else 1), head, num_classes)

    def classify(self, features: Tensor) -> Tensor:
        """What `join` returns of clips, `(B, T, F + W)` -> logits `(B, num_classes)`."""
        # The recurrence is a sliver of the work, and in bfloat16 its state would lose small changes over time.
        with torch.autocast(features.device.type, enabled=False):
            states, _ = self.rnn(features.to(next(self.rnn.parameters()).dtype))  # (B, T, directions * hidden_size)
            step = states.shape[1] // 2 if self.rnn.bidirectional else -1
            return self.classifier(states[:, step])

    def forward(self, clips: Tensor, sound: Tensor | None = None) -> Tensor:
        """Clips `(B, T, 3, H, W)` and levels `(B, T, W)` -> logits `(B, num_classes)`."""
        features = self.features(clips.flatten(0, 1))  # (B * T, F), the frames of one clip side by side
        features = self.join(features, None if sound is None else sound.flatten(0, 1))  # (B * T, F + W)
        return self.classify(features.unflatten(0, clips.shape[:2]))  # (B, T, F + W)


Model = ResNetClassifier | RNNClassifier


def build_model(config: ModelConfig, weights: str | Path | None = None) -> Model:
    """The network that `config` describes; `weights` as for `ResNetClassifier`."""
    shared: dict[str, Any] = {"weights": weights, "image_size": config.size, "head": config.head, "sound": config.sound}
    if config.kind == "frame":
        return ResNetClassifier(config.backbone, len(config.classes), **shared)
    return RNNClassifier(
        config.backbone,
        len(config.classes),
        rnn=config.rnn,
        hidden_size=config.hidden_size,
        bidirectional=config.bidirectional,
        **shared,
    )


def _head(width: int, hidden: Sequence[int], num_classes: int) -> nn.Module:
    """Features `(B, width)` -> logits `(B, num_classes)`; one linear layer where `hidden` is empty."""
    layers: list[nn.Module] = []
    for inner in hidden:
        layers += [nn.Linear(width, inner), nn.ReLU()]
        width = inner
    last = nn.Linear(width, num_classes)
    return nn.Sequential(*layers, last) if layers else last
