"""hlkit finds the highlights of long game streams and cuts them into a reel.

The names below are the front door; each is loaded from its module when it is first used, so that importing hlkit is
quick and brings in neither torch nor ffmpeg. `hlkit.stages` holds what the notebooks and the `hlkit` command call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hlkit.dataset import ClipDataset, FrameDataModule, FrameDataset
    from hlkit.frames import extract_frames
    from hlkit.models import ModelConfig, ResNetClassifier, RNNClassifier
    from hlkit.project import HlkitError, Project
    from hlkit.reel import write_reel
    from hlkit.split import chunk_splitter, split_frames
    from hlkit.timeline import add_intensity, pick_highlights
    from hlkit.training import fit, load_model

_HOMES = {
    "ClipDataset": "dataset",
    "FrameDataModule": "dataset",
    "FrameDataset": "dataset",
    "HlkitError": "project",
    "ModelConfig": "models",
    "Project": "project",
    "RNNClassifier": "models",
    "ResNetClassifier": "models",
    "add_intensity": "timeline",
    "chunk_splitter": "split",
    "extract_frames": "frames",
    "fit": "training",
    "load_model": "training",
    "pick_highlights": "timeline",
    "split_frames": "split",
    "write_reel": "reel",
}

__all__ = [
    "ClipDataset",
    "FrameDataModule",
    "FrameDataset",
    "HlkitError",
    "ModelConfig",
    "Project",
    "RNNClassifier",
    "ResNetClassifier",
    "add_intensity",
    "chunk_splitter",
    "extract_frames",
    "fit",
    "load_model",
    "pick_highlights",
    "split_frames",
    "write_reel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hlkit' has no attribute '{name}'")
    return getattr(import_module(f"hlkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
