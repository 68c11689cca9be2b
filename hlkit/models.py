"""The networks: a frame classifier over any torchvision backbone, and a recurrent one over clips of consecutive frames.

Pictures are RGB `(B, 3, H, W)` and clips `(B, T, 3, H, W)`, uint8 or float in [0, 1]; logits are `(B, classes)`.
Class 0 is the background. Normalisation is part of the network, so a picture means the same in training, scoring and
explaining.
"""

from __future__ import annotations

import difflib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.error import URLError

import torch
from torch import Tensor, nn

from hlkit.measures import NUM_MEASURES, PictureMeasures
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sampling import Box, check_box
from hlkit.video import frame_rate

Kind = Literal["frame", "clip"]
RNNKind = Literal["lstm", "gru"]

# The statistics that torchvision's pretrained weights were made with; from random weights any fixed scaling serves.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# squeezenet ends in no linear layer, googlenet and inception return extra outputs, maxvit takes 224 px only.
UNSUITED_BACKBONES = ("squeezenet", "googlenet", "inception", "maxvit")

# Not a network, but what can be measured in a picture (`hlkit.measures`): the classical method to be held against.
MEASURES = "measures"

# What stands before a backbone's own names in the state dict of either classifier.
INSIDE = "backbone.network."


def backbones() -> list[str]:
    """The networks that both classifiers accept: torchvision's classifiers, less those that do not fit.

    They accept `MEASURES` too.
    """
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if not name.startswith(UNSUITED_BACKBONES)]


@dataclass(frozen=True)
class ModelConfig:
    """What a network is made from; it travels inside every checkpoint.

    Attributes:
        kind: "frame" scores single pictures, "clip" scores a picture with its neighbours.
        backbone: a name out of `backbones()`, or `MEASURES`.
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


class Backbone(nn.Module):
    """A torchvision classifier without its last linear layer, with the normalisation in front of it.

    `num_features` is the width of what it returns, read from the network; `is_pretrained` tells whether its first
    weights were given, and not drawn by chance.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str | Path | None = None, *, image_size: int | None = None) -> None:
        super().__init__()
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        if name == MEASURES:
            if weights not in (None, "DEFAULT"):
                raise HlkitError(f"The backbone '{MEASURES}' has no weights; leave {weights} out.")
            self.network, self.num_features, self.is_pretrained = PictureMeasures(), NUM_MEASURES, False
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        else:
            self.network, self.num_features, self.is_pretrained = _headless(name, weights, image_size=image_size)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)`, uint8 or float in [0, 1] -> features `(B, num_features)`."""
        images = images / 255 if images.dtype == torch.uint8 else images
        images = (images - self.mean) / self.std
        # Convolutions on a CPU are about twice as fast in this layout.
        return self.network(images.contiguous(memory_format=torch.channels_last))


class ResNetClassifier(nn.Module):
    """A torchvision classifier with a new last layer. Despite the name, any of `backbones()` will do.

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


def _headless(name: str, weights: str | Path | None, *, image_size: int | None) -> tuple[nn.Module, int, bool]:
    """A torchvision classifier without its last linear layer, the width of its features, and whether it has weights."""
    import torchvision

    if name not in (known := backbones()):
        near = ", ".join(difflib.get_close_matches(name, known, n=3) or ("resnet18", "efficientnet_b0", "vit_b_16"))
        raise HlkitError(f"There is no backbone '{name}'; allowed are torchvision's classifiers, such as {near}.")
    network = torchvision.models.get_model(name, weights=None, **_vit_options(name, image_size))
    state = None
    if weights is not None:
        state = _default_state(name) if weights == "DEFAULT" else _backbone_state(load_file(Path(weights)))
        _load_state(network, state, source=f"{weights}", name=name)
    path, head = [(path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    network.set_submodule(path, nn.Identity())
    return network, head.in_features, state is not None


def _vit_options(name: str, image_size: int | None) -> dict[str, int]:
    if not name.startswith("vit_") or image_size is None:
        return {}
    patch = int(name.rsplit("_", 1)[1])
    if image_size % patch:
        raise HlkitError(f"{name} takes pictures whose side is a multiple of {patch} px; {image_size} px is not.")
    return {"image_size": image_size}


def _default_state(name: str) -> dict[str, Tensor] | None:
    """Torchvision's pretrained weights, or None (with a warning) where they cannot be fetched."""
    import torchvision

    try:
        weights = torchvision.models.get_model_weights(name)["DEFAULT"]
        with redirect_stdout(io.StringIO()):  # torch.hub prints that it downloads, whatever `progress` says
            return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        reason = f"Pretrained weights of {name} could not be had ({error}); starting from random weights instead."
        warnings.warn(reason, HlkitWarning, stacklevel=2)
        return None


def _backbone_state(state: dict[str, Any]) -> dict[str, Tensor]:
    """The backbone's part of a state dict: torchvision's own, or what stands in an hlkit checkpoint."""
    tensors = {key: value for key, value in state.get("state_dict", state).items() if isinstance(value, Tensor)}
    inside = {key.partition(INSIDE)[2]: value for key, value in tensors.items() if INSIDE in key}
    return inside or tensors


def _load_state(network: nn.Module, state: dict[str, Tensor] | None, *, source: str, name: str) -> None:
    """Load all but the last linear layer, which every user of a backbone replaces."""
    if state is None:
        return
    wanted = network.state_dict()
    if "encoder.pos_embedding" in wanted and "encoder.pos_embedding" in state:
        from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

        assert isinstance(network, VisionTransformer)
        state = dict(interpolate_embeddings(network.image_size, network.patch_size, state))  # pyright: ignore[reportArgumentType]
    head = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    body = {key for key in wanted if not key.startswith(f"{head}.")}
    if misfits := [key for key in sorted(body) if key not in state or state[key].shape != wanted[key].shape]:
        raise HlkitError(
            f"The weights {source} do not fit {name}: {len(misfits)} of its {len(body)} tensors are missing or of "
            f"another shape, first {misfits[0]}. Choose the backbone that the weights were made with."
        )
    network.load_state_dict({key: state[key] for key in body}, strict=False)


def load_file(path: Path) -> dict[str, Any]:
    """Read a file that `torch.save` wrote, without running any code from it, onto the CPU.

    Raises:
        HlkitError: when it is missing, damaged, or not a dict of plain values and tensors.
    """
    if not path.is_file():
        raise HlkitError(f"There is no file {path}; train first (notebook 05, or `hlkit train`).")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if broken := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0][:160]
        raise HlkitError(f"{path} is damaged or not a checkpoint ({reason}). Train again, or pull it again.") from error
    if not isinstance(content, dict):
        raise HlkitError(f"{path} holds a {type(content).__name__}, not a checkpoint of hlkit or a state dict.")
    return content
