"""Moves a project's files to and from a store: push and pull.

What a store holds, and why a push that is cut off does no harm, stands in `hlkit.manifest`. A push adds and replaces;
it never deletes.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from hlkit.inventory import EVERYTHING, Hashes, Selection, project_files
from hlkit.manifest import Manifest, update_manifest
from hlkit.object_store import ATTEMPTS, THREADS, S3Store
from hlkit.project import HlkitError, HlkitWarning, free_disk
from hlkit.stores import (
    STAGES,
    DamagedFileError,
    FileRecord,
    FolderStore,
    OnBytes,
    Store,
    arriving_file,
    file_at,
    without_password,
)

_log = logging.getLogger(__name__)


def open_store(address: str | Path) -> Store:
    """Open the store at `address`; nothing is read or written yet.

    Args:
        address: a folder, `r2://bucket/prefix` or `s3://bucket/prefix`; `S3Store` lists the environment variables that
            the last two need. The prefix may be left out.

    Raises:
        HlkitError: when the address is of another kind, or names the variables that are missing.
    """
    text = str(address).strip()
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if not text or (scheme and scheme[1] not in ("r2", "s3")):
        raise HlkitError(
            f"'{without_password(text)}' is not a store. Give a folder, r2://bucket/prefix or s3://bucket/prefix."
        )
    return S3Store(text) if scheme else FolderStore(Path(text))


def push(root: Path, store: Store, *, selection: Selection = EVERYTHING, progress: bool = True) -> list[str]:
    """Send what is new or changed in the project at `root`, then the manifest; return the keys of those files, sorted.

    A push that was killed and is run again leaves the store as one clean push would, and sends again only the files
    that were under way. Files that the project does not have stay in the store. Several may push at once; of a file
    that two of them push in different versions one stays, and a warning names it.

    Args:
        root: the project's folder.
        store: from `open_store`.
        selection: which files; all of them unless given.
        progress: show a progress bar in bytes.

    Raises:
        HlkitError: for links and unusable names in the project, a file that keeps changing, or a store that refuses.
    """
    root = checked_root(root, store)
    if not root.is_dir():
        raise HlkitError(f"There is no project at {root}. Check the name, or download a recording first.")
    with plain_errors(store):
        hashes, keys = Hashes(root), selection.of(project_files(root))
        # The store answers while the files are hashed.
        with ThreadPoolExecutor(2) as pool:
            reading, listing = pool.submit(Manifest.read, store), pool.submit(store.sizes)
            records = hashes.records(keys, progress=progress)
        seen, there = reading.result(), listing.result()
        manifest = seen or Manifest()
        # What was removed or cut short there behind hlkit's back is sent again.
        changed = {k: r for k, r in records.items() if manifest.versions(k) != [r] or there.get(k) != r.size}
        if not changed:
            return []
        if changed.keys() & manifest.files.keys():
            seen = update_manifest(store, seen, lambda current: _announced(current, changed))
        moved = {}

        def send(key: str, on_bytes: OnBytes) -> None:
            # A push that was killed may have left it. One list costs less than a question for each file.
            is_there = there.get(key) == changed[key].size and store.holds(key, changed[key])
            moved[key] = changed[key] if is_there else _send(store, root, key, changed[key], hashes, on_bytes)

        move(send, changed, store, "push", progress)
        update_manifest(store, seen, lambda current: _arrived(current, seen or Manifest(), moved, store))
    return sorted(changed)


def _announced(manifest: Manifest, changed: dict[str, FileRecord]) -> Manifest:
    replaced = {key: record for key, record in changed.items() if key in manifest.files}
    return replace(manifest, arriving=manifest.arriving | replaced)


def _arrived(manifest: Manifest, seen: Manifest, moved: dict[str, FileRecord], store: Store) -> Manifest:
    """The manifest with what was moved; where another writer was at the same files, what is there counts."""
    disputed = [key for key in moved if manifest.versions(key) != seen.versions(key)]
    lost = {key for key in disputed if not store.holds(key, moved[key])}
    if lost:
        names = ", ".join(sorted(lost))
        advice = "theirs is kept; push again to replace it"
        warnings.warn(f"Another writer has pushed {names} at the same time: {advice}.", HlkitWarning, stacklevel=4)
    mine = {key: record for key, record in moved.items() if key not in lost}
    arriving = {key: record for key, record in manifest.arriving.items() if key not in mine}
    return replace(manifest, files=manifest.files | mine, arriving=arriving)


def _send(store: Store, root: Path, key: str, record: FileRecord, hashes: Hashes, on_bytes: OnBytes) -> FileRecord:
    """Upload one file as it is now; return the record of what was sent."""
    for _ in range(ATTEMPTS):
        try:
            store.upload(key, file_at(root, key), record, on_bytes)
            if hashes.record(key) == record:
                return record
        except DamagedFileError:
            _log.info("%s changed or was damaged while it was sent; sending it again", key)
        record = hashes.record(key)
    advice = "Push again when the program that writes it has ended, and check the network"
    raise HlkitError(f"{key} keeps changing while it is sent. {advice}.")


def pull(store: Store, root: Path, *, selection: Selection = EVERYTHING, progress: bool = True) -> list[str]:
    """Fetch what the project at `root` lacks or has in another version; return the keys that were fetched.

    Each file is checked against its SHA-256 and then put in place in one step; files that the store does not have stay.

    Args:
        store: from `open_store`.
        root: the project's folder; made when it is not there.
        selection: which files; all of them unless given.
        progress: show a progress bar in bytes.

    Raises:
        HlkitError: when the store is empty, its manifest is damaged or asks for a path outside the project, a file does
            not match its SHA-256 after several attempts, or the disk has no room.
    """
    root = checked_root(root, store)
    with plain_errors(store):
        manifest = manifest_of(store)
        keys = selection.of(manifest.files)
        here = Hashes(root).records([key for key in keys if file_at(root, key).is_file()], progress=progress)
        wanted = {key: manifest.files[key] for key in keys if here.get(key) not in manifest.versions(key)}
        _check_room(root, sum(record.size for record in wanted.values()))

        def fetch(key: str, on_bytes: OnBytes) -> None:
            _fetch(store, key, file_at(root, key), manifest.versions(key), on_bytes)

        # A marker must not stand in the project before what it vouches for.
        markers = {key: record for key, record in wanted.items() if key.startswith(f"{STAGES}/")}
        move(fetch, {key: record for key, record in wanted.items() if key not in markers}, store, "pull", progress)
        move(fetch, markers, store, "pull markers", progress)
    return sorted(wanted)


def _fetch(store: Store, key: str, target: Path, versions: list[FileRecord], on_bytes: OnBytes) -> None:
    for record in versions * ATTEMPTS:
        try:
            with arriving_file(target, record) as file:
                store.download(key, file, on_bytes)
            return
        except DamagedFileError:
            _log.info("%s from %s does not match its SHA-256; fetching it again", key, store.address)
    raise HlkitError(f"{key} in {store.address} does not match its SHA-256: it was changed there. Push it again.")


def move(
    work: Callable[[str, OnBytes], None], files: Mapping[str, FileRecord], store: Store, desc: str, progress: bool
) -> None:
    """Call `work` for each key, several at once, under one progress line; the first error stops the others."""
    if not files:
        return
    total = sum(record.size for record in files.values())
    bar = tqdm(total=total, desc=desc, unit="B", unit_scale=True, mininterval=0.5, disable=not progress)
    with bar, ThreadPoolExecutor(THREADS) as pool, store:
        futures = [pool.submit(work, key, bar.update) for key in files]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def manifest_of(store: Store) -> Manifest:
    """The manifest of a store that something has been pushed to.

    Raises:
        HlkitError: when nothing has.
    """
    manifest = Manifest.read(store)
    if manifest is None:
        raise HlkitError(f"Nothing has been pushed to {store.address} yet. Check the address, or push first.")
    return manifest


def checked_root(root: Path, store: Store) -> Path:
    """The project's folder, in full; raises HlkitError when project and store lie in one another."""
    root = Path(root).expanduser().resolve()
    if isinstance(store, FolderStore) and (root.is_relative_to(store.root) or store.root.is_relative_to(root)):
        raise HlkitError(f"The project {root} and the store {store.root} lie in one another. Choose separate folders.")
    return root


def _check_room(root: Path, needed: int) -> None:
    if (free := free_disk(root)) < needed:
        raise HlkitError(f"The pull needs {needed / 1e9:.2f} GB and {root} has {free / 1e9:.2f} GB free. Make room.")


@contextmanager
def plain_errors(store: Store) -> Iterator[None]:
    """Turn what the disk says (full, read-only, vanished) into an error for the user."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise HlkitError(f"Moving files to or from {store.address} failed: {error.strerror or error}{name}.") from error
