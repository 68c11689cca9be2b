"""What all stages share: what is said, what is already done, and the project's settings with their defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hlkit.project import HlkitError, Project

Say = Callable[[str], None]

DEFAULT_RUN = "first"
DEFAULT_EPOCHS = 12
# Of a picture network that has no part in the scores: LIME has something to explain, and nobody waits for it.
ASIDE_EPOCHS = 1
DEFAULT_WINDOW_SECONDS = 30.0
# A line for each of more videos than this would not be read.
MANY = 20


def already_done(project: Project, stage: str, name: str, made_from: Mapping[str, Any], redo: bool, say: Say) -> bool:
    """Whether there is nothing to do, and say so."""
    done = not redo and project.is_done(stage, name, made_from)
    if done:
        say(f"{name}: {stage} already done.")
    return done


def told_each(count: int, say: Say) -> Say:
    """What takes the line of each of `count` things: nothing where they are many, which are told of in one line."""
    return say if count <= MANY else _unsaid


def listed(videos: Sequence[str]) -> str:
    """The names of some videos in a line, or how many they are."""
    return ", ".join(videos) if len(videos) <= MANY else f"{len(videos)} videos"


def _unsaid(_: str) -> None:
    pass


def current_run(project: Project, run: str | None) -> str:
    """The run that is meant: the named one, or the project's last."""
    return run or str(project.settings().get("run", DEFAULT_RUN))


def window_of(project: Project, window_seconds: float | None) -> float:
    """The window of the intensity in seconds: as given, or the project's setting, or 30."""
    if window_seconds is not None:
        return float(window_seconds)
    return float(project.settings().get("window_seconds", DEFAULT_WINDOW_SECONDS))


def store_of(project: Project, store: str | None) -> str:
    """The address of the store: as given, or the project's last.

    Raises:
        HlkitError: when there is neither.
    """
    address = store or project.settings().get("store")
    if not address:
        raise HlkitError("No store is set. Name one: a folder, r2://bucket/prefix or s3://bucket/prefix.")
    return str(address)
