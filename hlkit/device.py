"""Where the networks run and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from hlkit.project import HlkitError

Precision = Literal["bf16-mixed", "16-mixed", "32-true"]

_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of a name; "auto" is the GPU where there is one, else the CPU.

    Raises:
        HlkitError: for a name that is no device, or a GPU where there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise HlkitError(f"'{device}' is no device; 'auto', 'cpu' and 'cuda' are allowed.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise HlkitError(f"The device '{device}' was asked for, but PyTorch sees no GPU here; use 'cpu' or 'auto'.")
    return chosen


def pick_precision(device: torch.device) -> Precision:
    """The fastest mixed precision of a device, in Lightning's words.

    float16 on CUDA (Colab's T4 has no bfloat16), bfloat16 on CPUs that multiply it natively, elsewhere float32.
    """
    if device.type == "cuda":
        return "16-mixed"
    # Private, but the one name for this that every torch since 2.6 has; without it float32 is right, if slower.
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16-mixed" if device.type == "cpu" and has_bfloat16() else "32-true"


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which networks on `device` run in `pick_precision(device)`."""
    dtype = _TYPES.get(pick_precision(device))
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
