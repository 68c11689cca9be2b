"""Stages that keep a project in a store: push, pull, what differs, whether it is sound, deleting, links."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.stages.common import Say, store_of

if TYPE_CHECKING:
    from hlkit.inventory import Selection

# The longest that a signature of S3 holds.
MAX_LINK_HOURS = 7 * 24
# What a lost machine may take with it, and often enough for a push to be small beside the training.
CHECKPOINT_SECONDS = 300
# So many names tell what is wrong; the rest is a number.
NAMED_FILES = 5
LISTED_FILES = 30


def push(
    project: Project,
    store: str | None = None,
    *,
    only: Sequence[str] | None = None,
    videos: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    progress: bool = True,
    say: Say = print,
) -> str:
    """Copy what changed in the project to a store, and remember the store; returns its address.

    Before the first push to R2 it says what that costs.

    Args:
        project: what to copy.
        store: a folder, `r2://bucket/prefix` or `s3://bucket/prefix`; the project's last one unless named.
        only, videos, runs: copy this part, these videos, these runs alone; see `hlkit.inventory.Selection`.
        progress: show a progress bar.
        say: takes the lines for the user.
    """
    from hlkit.storage import open_store
    from hlkit.storage import push as push_files

    address = store_of(project, store)
    target, selection = open_store(address), _selection(only, videos, runs)
    if project.settings().get("store") != address:
        _say_cost(project, address, selection, say)
    # Before the push, so that the settings that are pushed name the store too.
    _remember_store(project, address)
    moved = push_files(project.root, target, selection=selection, progress=progress)
    say(f"Pushed {len(moved)} files to {address}." if moved else f"{address} has everything: already done.")
    return address


def pull(
    project: Project,
    store: str | None = None,
    *,
    only: Sequence[str] | None = None,
    videos: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    progress: bool = True,
    say: Say = print,
) -> str:
    """Copy what the store has and the project lacks, each file checked by its SHA-256; returns the store's address.

    For the arguments see `push`.
    """
    from hlkit.storage import open_store
    from hlkit.storage import pull as pull_files

    address = store_of(project, store)
    selection = _selection(only, videos, runs)
    moved = pull_files(open_store(address), project.root, selection=selection, progress=progress)
    _remember_store(project, address)
    say(f"Pulled {len(moved)} files from {address}." if moved else "Everything is here: already done.")
    return address


def status(
    project: Project,
    store: str | None = None,
    *,
    only: Sequence[str] | None = None,
    videos: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """Say how project and store differ; returns the table of `hlkit.upkeep.status`. For the arguments see `push`."""
    from hlkit.storage import open_store
    from hlkit.stores import STAGES
    from hlkit.upkeep import status as compare

    address = store_of(project, store)
    selection = _selection(only, videos, runs)
    table = compare(project.root, open_store(address), selection=selection, progress=progress)
    # Stage markers say nothing to a reader.
    other = table.filter(pl.col("state") != "same", ~pl.col("key").str.starts_with(f"{STAGES}/"))
    for key, state in other.head(LISTED_FILES).select("key", "state").iter_rows():
        say(f"{state:13}  {key}")
    if len(other) > LISTED_FILES:
        say(f"... and {len(other) - LISTED_FILES:,} more")
    counts = ", ".join(f"{n} {state}" for state, n in table.group_by("state").len().sort("state").iter_rows())
    say(f"{address}: {counts or 'nothing here and nothing there'}.")
    if (table["state"] == "new").all():
        _say_cost(project, address, selection, say)
    return table


def verify(
    project: Project,
    store: str | None = None,
    *,
    only: Sequence[str] | None = None,
    videos: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    repair: bool = False,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """Read every byte of the store again; returns the table of `hlkit.upkeep.verify`.

    Args:
        project: where sound copies for repairs are.
        store, only, videos, runs: see `push`.
        repair: push what is wrong or missing there again.
        progress: show a progress bar.
        say: takes the lines for the user.

    Raises:
        HlkitError: names what is wrong or missing there, and was not repaired.
    """
    from hlkit.storage import open_store
    from hlkit.upkeep import verify as check

    address = store_of(project, store)
    selection = _selection(only, videos, runs)
    table = check(open_store(address), project.root, selection=selection, repair=repair, progress=progress)
    for key in table.filter(pl.col("verdict") == "repaired")["key"]:
        say(f"repaired  {key}")
    if bad := table.filter(pl.col("verdict").is_in(["wrong", "missing"]))["key"].to_list():
        named = ", ".join(bad[:NAMED_FILES]) + (f" and {len(bad) - NAMED_FILES} more" if bad[NAMED_FILES:] else "")
        lost = "They are lost unless another machine has them: push from there, or make them again"
        advice = lost if repair else "Push the copies of this project over them with `hlkit verify --repair`"
        raise HlkitError(f"{len(bad)} files in {address} are damaged or missing: {named}. {advice}.")
    say(f"{address}: {len(table)} files, every byte as it was pushed.")
    return table


def delete(
    project: Project,
    store: str | None = None,
    *,
    only: Sequence[str] | None = None,
    videos: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    yes: bool = False,
    say: Say = print,
) -> list[str]:
    """Remove files from the store, never from the project; returns their keys.

    Args:
        project: its last store is meant unless one is named.
        store, only, videos, runs: see `push`; with none of the last three, all that the store has.
        yes: do it; without, only say what would go.
        say: takes the lines for the user.
    """
    from hlkit.storage import open_store
    from hlkit.upkeep import delete as delete_files

    address = store_of(project, store)
    keys = delete_files(open_store(address), selection=_selection(only, videos, runs), dry_run=not yes)
    for key in keys:
        say(f"{'deleted' if yes else 'would delete'}  {key}")
    done = "deleted" if yes else "would be deleted; nothing was. Say yes (--yes) to do it"
    say(f"{address}: {len(keys)} files {done}.")
    return keys


def link(project: Project, video: str, store: str | None = None, *, hours: float = 24.0, say: Say = print) -> str:
    """Say, and return, an address under which anyone can watch a video's reel for some hours; it is kept nowhere.

    Args:
        project: its last store is meant unless one is named.
        video: whose reel; it must have been pushed.
        store: where it is.
        hours: how long the link holds, at most 168 (seven days).
        say: takes the link.
    """
    from hlkit.storage import manifest_of, open_store

    if not 0 < hours <= MAX_LINK_HOURS:
        raise HlkitError(
            f"A link can't hold for {hours:g} hours. More than 0 and at most {MAX_LINK_HOURS} are allowed."
        )
    opened = open_store(store_of(project, store))
    key = f"reels/{video}.mp4"
    if key not in manifest_of(opened).files:
        raise HlkitError(f"{opened.address} has no reel of '{video}'. Cut it and push it first.")
    address = opened.link(key, seconds=round(hours * 3600))
    say(address)
    return address


def checkpoint_keeper(project: Project, run: str) -> Callable[[], None] | None:
    """What pushes a run that is being trained, at most every five minutes; None when the project has no store."""
    if not project.settings().get("store"):
        return None
    pushed = time.monotonic()

    def keep() -> None:
        nonlocal pushed
        if time.monotonic() - pushed >= CHECKPOINT_SECONDS:
            _push_run(project, run)
            pushed = time.monotonic()

    return keep


def keep_finished_run(project: Project, run: str) -> None:
    """Push a run that has ended, where the project has a store, and drop the checkpoints that it was resumed from."""
    if project.settings().get("store"):
        _push_run(project, run, dropped=[f"models/{run}/{name}.ckpt" for name in ("best", "last")])


def _push_run(project: Project, run: str, dropped: Sequence[str] = ()) -> None:
    from hlkit.inventory import Selection
    from hlkit.storage import open_store
    from hlkit.storage import push as push_files
    from hlkit.upkeep import forget

    try:
        store = open_store(store_of(project, None))
        push_files(project.root, store, selection=Selection(parts=["models"], runs=[run]), progress=False)
        forget(store, dropped)
    except HlkitError as error:
        # A line that is down must not cost what was learnt.
        warnings.warn(f"The checkpoints of {run} were not pushed: {error}", HlkitWarning, stacklevel=2)


def _selection(only: Sequence[str] | None, videos: Sequence[str] | None, runs: Sequence[str] | None) -> Selection:
    from hlkit.inventory import Selection

    # An empty choice in a form means all.
    return Selection(only or None, videos or None, runs or None)


def _say_cost(project: Project, address: str, selection: Selection, say: Say) -> None:
    from hlkit.inventory import project_files
    from hlkit.object_store import MULTIPART_BYTES
    from hlkit.prices import cost_line, push_usage

    if address.startswith("r2://") and project.root.is_dir():
        keys = selection.of(project_files(project.root))
        sizes = [(project.root / key).stat().st_size for key in keys]
        say(cost_line(push_usage(sizes, part_bytes=MULTIPART_BYTES)))


def _remember_store(project: Project, address: str) -> None:
    if project.settings().get("store") != address:
        project.save_settings(store=address)
