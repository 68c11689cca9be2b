"""Moves a project's files to and from a store: push and pull.

A store holds each file under its path in the project, its *key*, and beside them `manifest.json`:

    {"version": 1, "files": {"labels/vod_a.csv": {"size": 83, "sha256": "9f86..."}}}

The manifest is written last, so whatever it names is there in full. Before files that it already names are
overwritten, their new sizes and hashes are announced in it under `arriving`; when such a push is cut off, a pull takes
each of them in the old version or in the new one, whichever is there. A push adds and replaces; it never deletes. One
writer at a time.

Pushed are the plain files of the project and `.stages/` (what is finished); other names that begin with a dot, such as
temporary files, are not.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from tqdm.auto import tqdm

from hlkit.object_store import THREADS, S3Store
from hlkit.project import HlkitError, free_disk, write_text
from hlkit.stores import (
    MANIFEST,
    STAGES,
    DamagedFileError,
    FileRecord,
    FolderStore,
    OnBytes,
    Store,
    arriving_file,
    check_key,
    file_at,
    file_record,
    without_password,
)

__all__ = ["PARTS", "Manifest", "open_store", "project_files", "pull", "push"]

PARTS = ("videos", "frames", "labels", "models", "scores", "reels", "project.toml")
HASHES = ".hashes.json"
# A file that changes while it is sent, or arrives damaged, is tried this often.
ATTEMPTS = 3
# Hashing is bound by the processor, or by a disk that more readers make slower.
HASH_THREADS = min(4, os.cpu_count() or 1)
# Within this time a file may change again without a change of its modification time.
RACY_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass
class Manifest:
    """What a store holds: a record for each key (`files`), and those of new versions on their way (`arriving`)."""

    files: dict[str, FileRecord] = field(default_factory=dict)
    arriving: dict[str, FileRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store) -> Self | None:
        """The store's manifest; None when nothing has been pushed to it yet.

        Raises:
            HlkitError: when it is damaged, or names a file that must not enter a project.
        """
        data = store.read(MANIFEST)
        if data is None:
            return None
        try:
            content = json.loads(data)
            groups = [content["files"], content.get("arriving", {})]
            files, arriving = ({check_key(key): FileRecord(**r) for key, r in group.items()} for group in groups)
        except (ValueError, TypeError, KeyError, AttributeError, HlkitError) as error:
            advice = "Delete it there and push again; files that are there in full are not sent again"
            raise HlkitError(f"{MANIFEST} of {store.address} can't be used ({error}). {advice}.") from error
        return cls(files, arriving)

    def write(self, store: Store) -> None:
        """Put the manifest in the store; the same records give the same bytes."""
        groups = {"files": self.files} | ({"arriving": self.arriving} if self.arriving else {})
        content = {name: {key: asdict(group[key]) for key in sorted(group)} for name, group in groups.items()}
        store.write(MANIFEST, (json.dumps({"version": 1, **content}, indent=1) + "\n").encode())

    def versions(self, key: str) -> list[FileRecord]:
        """The records that the object `key` may have."""
        return [self.files[key]] + ([self.arriving[key]] if key in self.arriving else [])


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


class _Hashes:
    """The records of a project's files, kept in `.hashes.json` so that a file is read again only after it changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, list[int | str]] = {}
        try:
            self._known = dict(json.loads((root / HASHES).read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (ValueError, TypeError) as error:
            _log.info("%s is damaged (%s); reading every file again", root / HASHES, error)

    def record(self, key: str) -> FileRecord:
        """The record of an existing file."""
        path = file_at(self._root, key)
        stat = path.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(key)
        if isinstance(known, list) and known[:3] == state and len(known) == 4:
            return FileRecord(stat.st_size, str(known[3]))
        record = file_record(path)
        if record.size == stat.st_size and time.time() - stat.st_mtime > RACY_SECONDS:
            self._known[key] = [*state, record.sha256]
        return record

    def save(self) -> None:
        write_text(self._root / HASHES, json.dumps(self._known, indent=0, sort_keys=True))


def project_files(root: Path) -> list[str]:
    """The keys of the files that a push moves, sorted.

    Raises:
        HlkitError: when one of them is a link or no plain file, or has a name that a store can't hold.
    """
    keys: list[str] = []
    pending = [root]
    while pending:
        folder = pending.pop()
        for path in folder.iterdir():
            is_stages = folder == root and path.name == STAGES
            if (path.name.startswith(".") and not is_stages) or path == root / MANIFEST:
                continue
            key = path.relative_to(root).as_posix()
            if path.is_dir() and not path.is_symlink():
                pending.append(path)
            elif file_at(root, key).is_file():
                keys.append(key)
            else:
                raise HlkitError(f"{path} is not a plain file. Move it out of the project.")
    return sorted(keys)


def _select(keys: Iterable[str], only: Collection[str] | None) -> list[str]:
    """The keys of the chosen top-level parts, and the stage markers, which are believed only beside their outputs."""
    keys = sorted(keys)
    if only is None:
        return keys
    wanted = {only} if isinstance(only, str) else set(only)
    known = {*PARTS, *(key.split("/")[0] for key in keys)} - {STAGES}
    if unknown := sorted(wanted - known):
        raise HlkitError(f"There is no part {', '.join(unknown)}. Choose from: {', '.join(sorted(known))}.")
    return [key for key in keys if key.split("/")[0] in {*wanted, STAGES}]


def push(root: Path, store: Store, *, only: Collection[str] | None = None, progress: bool = True) -> list[str]:
    """Send what is new or changed in the project at `root`, then the manifest; return the keys of those files, sorted.

    A push that was killed and is run again leaves the store as one clean push would, and sends again only the files
    that were under way. Files that the project does not have stay in the store.

    Args:
        root: the project's folder.
        store: from `open_store`.
        only: names of top-level parts (`["frames", "models"]`); all of them unless given.
        progress: show a progress bar in bytes.

    Raises:
        HlkitError: for links and unusable names in the project, a file that keeps changing, or a store that refuses.
    """
    root = _checked_root(root, store)
    if not root.is_dir():
        raise HlkitError(f"There is no project at {root}. Check the name, or download a recording first.")
    with _plain_errors(store):
        hashes = _Hashes(root)
        keys = _select(project_files(root), only)
        # The store answers while the files are hashed.
        with ThreadPoolExecutor(2) as pool:
            reading, listing = pool.submit(Manifest.read, store), pool.submit(store.sizes)
            records = _records(hashes, keys, progress)
        manifest, there = reading.result() or Manifest(), listing.result()
        changed = {k: r for k, r in records.items() if manifest.files.get(k) != r or k in manifest.arriving}
        if replaced := {key: record for key, record in changed.items() if key in manifest.files}:
            Manifest(manifest.files, manifest.arriving | replaced).write(store)

        def send(key: str, on_bytes: OnBytes) -> None:
            # A push that was killed may have left it. One list costs less than a question for each file.
            is_there = there.get(key) == changed[key].size and store.holds(key, changed[key])
            records[key] = changed[key] if is_there else _send(store, root, key, changed[key], hashes, on_bytes)

        _move(send, changed, store, "push", progress)
        if changed:
            still_arriving = {key: record for key, record in manifest.arriving.items() if key not in changed}
            Manifest(manifest.files | records, still_arriving).write(store)
    return sorted(changed)


def _send(store: Store, root: Path, key: str, record: FileRecord, hashes: _Hashes, on_bytes: OnBytes) -> FileRecord:
    """Upload one file as it is now; return the record of what was sent."""
    for _ in range(ATTEMPTS):
        try:
            store.upload(key, file_at(root, key), record, on_bytes)
            if hashes.record(key) == record:
                return record
        except DamagedFileError:
            _log.info("%s changed while it was sent; sending it again", key)
        record = hashes.record(key)
    raise HlkitError(f"{key} keeps changing while it is sent. Push again when the program that writes it has ended.")


def pull(store: Store, root: Path, *, only: Collection[str] | None = None, progress: bool = True) -> list[str]:
    """Fetch what the project at `root` lacks or has in another version; return the keys that were fetched.

    Each file is checked against its SHA-256 and then put in place in one step; files that the store does not have stay.

    Args:
        store: from `open_store`.
        root: the project's folder; made when it is not there.
        only: names of top-level parts (`["labels", "models"]`); all of them unless given.
        progress: show a progress bar in bytes.

    Raises:
        HlkitError: when the store is empty, its manifest is damaged or asks for a path outside the project, a file does
            not match its SHA-256 after three attempts, or the disk has no room.
    """
    root = _checked_root(root, store)
    with _plain_errors(store):
        manifest = Manifest.read(store)
        if manifest is None:
            raise HlkitError(f"Nothing has been pushed to {store.address} yet. Check the address, or push first.")
        keys = _select(manifest.files, only)
        here = _records(_Hashes(root), [key for key in keys if file_at(root, key).is_file()], progress)
        wanted = {key: manifest.files[key] for key in keys if here.get(key) not in manifest.versions(key)}
        _check_room(root, sum(record.size for record in wanted.values()))

        def fetch(key: str, on_bytes: OnBytes) -> None:
            _fetch(store, key, file_at(root, key), manifest.versions(key), on_bytes)

        # A marker must not stand in the project before what it vouches for.
        markers = {key: record for key, record in wanted.items() if key.startswith(f"{STAGES}/")}
        _move(fetch, {key: record for key, record in wanted.items() if key not in markers}, store, "pull", progress)
        _move(fetch, markers, store, "pull markers", progress)
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


def _records(hashes: _Hashes, keys: list[str], progress: bool) -> dict[str, FileRecord]:
    bar = tqdm(total=len(keys), desc="check", unit="file", mininterval=0.5, disable=not progress)
    records = {}
    with bar, ThreadPoolExecutor(HASH_THREADS) as pool:
        for key, record in zip(keys, pool.map(hashes.record, keys), strict=True):
            records[key] = record
            bar.update()
    if records:
        hashes.save()
    return records


def _move(
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


def _checked_root(root: Path, store: Store) -> Path:
    root = Path(root).expanduser().resolve()
    if isinstance(store, FolderStore) and (root.is_relative_to(store.root) or store.root.is_relative_to(root)):
        raise HlkitError(f"The project {root} and the store {store.root} lie in one another. Choose separate folders.")
    return root


def _check_room(root: Path, needed: int) -> None:
    if (free := free_disk(root)) < needed:
        raise HlkitError(f"The pull needs {needed / 1e9:.2f} GB and {root} has {free / 1e9:.2f} GB free. Make room.")


@contextmanager
def _plain_errors(store: Store) -> Iterator[None]:
    """Turn what the disk says (full, read-only, vanished) into an error for the user."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise HlkitError(f"Moving files to or from {store.address} failed: {error.strerror or error}{name}.") from error
