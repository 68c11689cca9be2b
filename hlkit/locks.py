"""Locks between notebooks, terminals and tabs. The system holds them, and lets go of one whose owner was killed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hlkit.project import HlkitError, HlkitWarning


@contextmanager
def exclusive(folder: Path, *, what: str) -> Iterator[None]:
    """Make `folder` if need be, and turn away whoever else asks in the same way for the length of the block.

    Where the system or the disk can't lock folders there is no protection (HlkitWarning).

    Args:
        folder: may be removed inside the block.
        what: begins the sentence for whoever comes second, such as "The frames of a are".

    Raises:
        HlkitError: when somebody else is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl

        held = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError) as error:
        _warn(folder, error, "run this in one place at a time")
        yield
        return
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HlkitError(
                f"{what} being made in another notebook or terminal. "
                "Wait until that is done, or stop it there, and run this again."
            ) from error
        except OSError as error:
            _warn(folder, error, "run this in one place at a time")
        yield
    finally:
        os.close(held)


@contextmanager
def in_turn(file: Path, *, advice: str) -> Iterator[None]:
    """Let others who ask for the same file wait for the length of the block. It is made if it is not there.

    Args:
        file: what stands for the thing that is locked.
        advice: where locks can't be had, ends the warning (HlkitWarning), such as "push from one place at a time".
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError) as error:
            _warn(file, error, advice)
        yield


def _warn(path: Path, error: Exception, advice: str) -> None:
    warnings.warn(f"{path} can't be locked ({error}); {advice}.", HlkitWarning, stacklevel=5)
