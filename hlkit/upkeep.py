"""The care of a store: what differs from the project, whether every byte is right, and deleting."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import polars as pl

from hlkit.inventory import EVERYTHING, Hashes, Selection, project_files
from hlkit.manifest import Manifest, update_manifest
from hlkit.object_store import ATTEMPTS
from hlkit.storage import checked_root, manifest_of, move, plain_errors
from hlkit.stores import STAGES, FileRecord, OnBytes, Store, file_at

STATES = ("new", "changed", "same", "only in store", "lost in store")
VERDICTS = ("sound", "repaired", "wrong", "missing")


def status(root: Path, store: Store, *, selection: Selection = EVERYTHING, progress: bool = True) -> pl.DataFrame:
    """How the project at `root` and a store differ; nothing is moved or changed.

    Returns:
        A row a file, by key: `key`; `state`, which is "new" (not in the store yet), "changed", "same", "only in store",
        or "lost in store" (its manifest names it, but there is no object of that length); `size` in bytes, here or
        else there.

    Raises:
        HlkitError: when the project can't be pushed, or the store's manifest can't be used.
    """
    root = checked_root(root, store)
    with plain_errors(store):
        keys = project_files(root) if root.is_dir() else []
        manifest, there = Manifest.read(store) or Manifest(), store.sizes()
        meant = set(selection.of({*keys, *manifest.files}))
        here = Hashes(root).records([key for key in keys if key in meant], progress=progress)
    rows = [(key, _state(key, here, manifest, there), (here.get(key) or manifest.files[key]).size) for key in meant]
    return pl.DataFrame(rows, {"key": pl.String, "state": pl.Enum(STATES), "size": pl.Int64}, orient="row").sort("key")


def _state(key: str, here: dict[str, FileRecord], manifest: Manifest, there: dict[str, int]) -> str:
    versions = manifest.versions(key)
    if versions and there.get(key) not in {record.size for record in versions}:
        return "lost in store"
    if key not in here:
        return "only in store"
    if not versions:
        return "new"
    return "same" if versions == [here[key]] else "changed"


def verify(
    store: Store,
    root: Path | None = None,
    *,
    selection: Selection = EVERYTHING,
    repair: bool = False,
    progress: bool = True,
) -> pl.DataFrame:
    """Read every byte that the manifest names, and compare its SHA-256.

    Args:
        store: from `open_store`.
        root: the project's folder, for repairs.
        selection: which files; all of them unless given.
        repair: push a file that is wrong or missing there again, from the copy in the project where that is sound.
        progress: show a progress bar in bytes.

    Returns:
        A row a file, by key: `key`, and `verdict`, which is "sound", "repaired", "wrong" or "missing".

    Raises:
        HlkitError: when nothing has been pushed, or the store refuses.
    """
    manifest = manifest_of(store)
    verdicts: dict[str, str] = {}
    with plain_errors(store):
        there = store.sizes()
        files = {key: manifest.files[key] for key in selection.of(manifest.files)}

        def check(key: str, on_bytes: OnBytes) -> None:
            is_sound = key in there and _is_sound(store, key, manifest.versions(key), on_bytes)
            verdicts[key] = "sound" if is_sound else "wrong" if key in there else "missing"

        move(check, files, store, "verify", progress)
        if repair and root is not None:
            verdicts |= dict.fromkeys(_repair(store, root, files, verdicts, progress), "repaired")
    schema = {"key": pl.String, "verdict": pl.Enum(VERDICTS)}
    return pl.DataFrame(sorted(verdicts.items()), schema, orient="row")


def _is_sound(store: Store, key: str, versions: list[FileRecord], on_bytes: OnBytes) -> bool:
    """Whether the object is one of these; read several times before it is called wrong, as a line may be."""
    for _ in range(ATTEMPTS):
        sink = _Sink()
        store.download(key, sink, on_bytes)  # pyright: ignore[reportArgumentType]
        if FileRecord(sink.size, sink.digest.hexdigest()) in versions:
            return True
    return False


class _Sink:
    """Takes bytes in order and keeps their SHA-256."""

    def __init__(self) -> None:
        self.size, self.digest = 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return len(data)


def _repair(
    store: Store, root: Path, files: dict[str, FileRecord], verdicts: dict[str, str], progress: bool
) -> list[str]:
    root = checked_root(root, store)
    broken = [key for key, verdict in verdicts.items() if verdict != "sound" and file_at(root, key).is_file()]
    here = Hashes(root).records(broken, progress=progress)
    sound = {key: record for key, record in here.items() if record == files[key]}

    def send(key: str, on_bytes: OnBytes) -> None:
        store.upload(key, file_at(root, key), sound[key], on_bytes)

    move(send, sound, store, "repair", progress)
    return sorted(sound)


def delete(store: Store, *, selection: Selection, dry_run: bool = True) -> list[str]:
    """Remove files from a store, never from the project; return their keys, sorted.

    The manifest forgets them first, so that it never names what is gone. Stage markers go only with a whole store.

    Args:
        store: from `open_store`.
        selection: which files.
        dry_run: only say which.

    Raises:
        HlkitError: when nothing has been pushed, or the selection names what is not there.
    """
    keys = selection.of(manifest_of(store).files)
    if selection:
        keys = [key for key in keys if not key.startswith(f"{STAGES}/")]
    if not dry_run:
        forget(store, keys)
    return keys


def forget(store: Store, keys: Collection[str]) -> None:
    """Remove these from the manifest, then the objects; those that it does not name are left alone."""

    def without(manifest: Manifest) -> Manifest:
        left = ({k: r for k, r in group.items() if k not in keys} for group in (manifest.files, manifest.arriving))
        return replace(manifest, **dict(zip(("files", "arriving"), left, strict=True)))

    with plain_errors(store):
        manifest = manifest_of(store)
        known = [key for key in keys if manifest.versions(key)]
        if known:
            update_manifest(store, manifest, without)
        for key in known:
            store.delete(key)
