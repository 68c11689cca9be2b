"""Push and pull in a process of their own, for the tests that kill it or run two at once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from children import context


def start(work: Callable[..., object], *arguments: object) -> Any:
    """Call `work` in another process with this one's environment; returns the process."""
    process = context.Process(target=_run, args=(work, arguments, dict(os.environ)))
    process.start()
    return process


def _run(work: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    os.environ |= environment
    work(*arguments)


def push_all(root: Path, address: str) -> None:
    from hlkit.storage import open_store, push

    push(root, open_store(address), progress=False)


def pull_all(root: Path, address: str) -> None:
    from hlkit.storage import open_store, pull

    pull(open_store(address), root, progress=False)
