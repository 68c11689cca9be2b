"""What turns a picture into features: torchvision's classifiers without their last layer, and their weights.

Pictures are RGB `(B, 3, H, W)`, uint8 or float in [0, 1]. Normalisation is part of the network, so a picture means the
same in training, scoring and explaining.
"""

from __future__ import annotations

import difflib
import io
import pickle
import struct
import warnings
import zipfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from hlkit.measures import NUM_MEASURES, PictureMeasures
from hlkit.project import HlkitError, HlkitWarning

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


# A file of another kind is read as a pickle of chance.
BROKEN_FILE_ERRORS = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)


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
    except (*BROKEN_FILE_ERRORS, OSError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0][:160]
        raise HlkitError(f"{path} is damaged or not a checkpoint ({reason}). Train again, or pull it again.") from error
    if not isinstance(content, dict):
        raise HlkitError(f"{path} holds a {type(content).__name__}, not a checkpoint of hlkit or a state dict.")
    return content
