"""Runs `fit` in a process of its own that kills itself (SIGKILL) at a chosen moment, for the tests of resuming.

The moments are counted: every training step, every `torch.save` (it dies with half of the file written) and every
rename of a finished file (it dies just before).
"""

import os
import signal
from pathlib import Path
from typing import Any

from children import context


def fit_in_process(arguments: dict[str, Any], *, die_at: int | None = None) -> int:
    """Call `fit(**arguments)` in another process; returns its exit status, negative for a signal."""
    process = context.Process(target=_fit, args=(arguments, die_at))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def start(arguments: dict[str, Any]) -> Any:
    """The same, without waiting for its end."""
    process = context.Process(target=_fit, args=(arguments, None))
    process.start()
    return process


def _fit(arguments: dict[str, Any], die_at: int | None) -> None:
    import torch

    import hlkit.training as training

    torch.set_num_threads(1)
    moments = iter(range(1, 1_000_000))

    def count(before_death=lambda: None):
        if next(moments) == die_at:
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)

    step, save, replace = training.HighlightModule.training_step, torch.save, Path.replace

    def counted_step(*args, **kwargs):
        count()
        return step(*args, **kwargs)

    def counted_save(content, path):
        save(content, path)
        count(lambda: os.truncate(path, Path(path).stat().st_size // 2))

    def counted_replace(source, target):
        count()
        return replace(source, target)

    training.HighlightModule.training_step = counted_step  # type: ignore[method-assign]
    torch.save = counted_save
    Path.replace = counted_replace  # type: ignore[method-assign,assignment]
    training.fit(**arguments)
