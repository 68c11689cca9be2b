"""What a store of files by key is, which keys it may hold, and a folder as a store."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from hlkit.locks import in_turn
from hlkit.project import HlkitError

MANIFEST = "manifest.json"
STAGES = ".stages"
LOCK = ".lock"

BLOCK_BYTES = 1 << 20
# A writer at work touches its temporary file with every block; one that old belongs to nobody.
STALE_SECONDS = 3600

OnBytes = Callable[[int], object]


class DamagedFileError(HlkitError):
    """A file is not what its record says."""


class ChangedMeanwhileError(HlkitError):
    """Another writer has replaced the object that was to be written over."""


@dataclass(frozen=True)
class Snapshot:
    """A small object as it was read; by its `version` the store knows whether it was replaced since."""

    data: bytes
    version: str


@dataclass(frozen=True)
class FileRecord:
    """What is known of one file's content: `size` in bytes and `sha256` as 64 lower-case hex digits."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0 or not re.fullmatch(r"[0-9a-f]{64}", str(self.sha256)):
            raise HlkitError(f"{self} is not a size in bytes and a SHA-256.")


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(file.tell(), digest)


def check_key(key: str) -> str:
    """Return `key` when it is a plain relative path with `/`, of a kind that may enter a project.

    Raises:
        HlkitError: for `..`, an absolute path, a drive, a backslash, a control character, an empty or hidden name
            (`.stages/` excepted), and `manifest.json`.
    """
    names = key.split("/")
    visible = names[1:] if names[0] == STAGES and len(names) > 1 else names
    encoded = key.encode(errors="replace")
    forbidden = re.search(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:", key) or encoded.decode() != key or len(encoded) > 900
    if forbidden or key == MANIFEST or not all(visible):
        raise HlkitError(f"The name {key!r} is not allowed in a store. Use plain relative paths, without a backslash.")
    if any(name.startswith(".") for name in visible):
        raise HlkitError(f"The name {key!r} is hidden or leaves the folder; a store does not hold such files.")
    return key


def file_at(root: Path, key: str) -> Path:
    """The path of `key` under `root`, whether or not it exists.

    Raises:
        HlkitError: when the key is not allowed (see `check_key`), or a link stands on its way.
    """
    path = root
    for name in check_key(key).split("/"):
        path = path / name
        if path.is_symlink():
            raise HlkitError(f"{path} is a link. Put the file or folder itself there; links are not followed.")
    return path


def without_password(address: str) -> str:
    """`address` without the user name and password that a URL may hold, for messages."""
    return re.sub(r"//[^/]*@", "//***@", address)


@contextmanager
def arriving_file(target: Path, record: FileRecord) -> Iterator[BinaryIO]:
    """Yield a temporary file to be filled from its beginning; it becomes `target` once it is what `record` says.

    Its name is made from the content that is expected, so that a later attempt takes up what a killed one has left. It
    is not emptied on opening, because another process may be writing the very same bytes to it.

    Raises:
        DamagedFileError: when the content is not what `record` says; `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{target.name}/{record.sha256}".encode()).hexdigest()[:24]
    part = target.parent / f".part-{name}"
    part.touch()
    with part.open("r+b") as file:
        yield file
        file.truncate(record.size)
        file.seek(0)
        sound = hashlib.file_digest(file, "sha256").hexdigest() == record.sha256
        os.fsync(file.fileno())
    if not sound:
        part.unlink(missing_ok=True)
        raise DamagedFileError(f"{target} did not arrive as it was sent.")
    try:
        part.replace(target)
    except FileNotFoundError:
        # Another process has put the same bytes in place first.
        if not target.is_file():
            raise


class Store(ABC):
    """A place that keeps files by key. While files move it is a context manager: leaving it by an error stops them."""

    address: str

    @abstractmethod
    def read(self, key: str) -> Snapshot | None:
        """A small object, whole; None when there is none."""

    @abstractmethod
    def write(self, key: str, data: bytes, version: str | None) -> str:
        """Put a small object there in one step, in place of `version` (None: where none is); returns its own version.

        Raises:
            ChangedMeanwhileError: when something else than `version` is there; nothing changes then.
        """

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """The size in bytes of everything that is there, by key; the manifest is among it."""

    @abstractmethod
    def holds(self, key: str, record: FileRecord) -> bool:
        """Whether the object is there in full, as a push that was cut off may have left it."""

    @abstractmethod
    def upload(self, key: str, path: Path, record: FileRecord, on_bytes: OnBytes) -> None:
        """Put a file there in one step; `on_bytes` is told how many bytes went since it was last called."""

    @abstractmethod
    def download(self, key: str, file: BinaryIO, on_bytes: OnBytes) -> None:
        """Write an object into an open file, from its beginning."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is fine."""

    @abstractmethod
    def link(self, key: str, *, seconds: int) -> str:
        """An address under which the object can be watched; a store on the net gives one for so long, without keys."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None: ...


class FolderStore(Store):
    """A folder as a store: it holds the project's files under the same names."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).expanduser().resolve()
        self.address = str(self.root)
        self._stopped = threading.Event()
        if self.root.exists() and not self.root.is_dir():
            raise HlkitError(f"The store {self.root} is a file; give a folder.")

    def read(self, key: str) -> Snapshot | None:
        """See `Store.read`."""
        path = self._path(key)
        if not path.is_file():
            return None
        data = path.read_bytes()
        return Snapshot(data, hashlib.sha256(data).hexdigest())

    def write(self, key: str, data: bytes, version: str | None) -> str:
        """See `Store.write`."""
        record = FileRecord(len(data), hashlib.sha256(data).hexdigest())
        self.root.mkdir(parents=True, exist_ok=True)
        with in_turn(self.root / LOCK, advice="push from one place at a time"):
            found = self.read(key)
            if (found.version if found else None) != version:
                raise ChangedMeanwhileError(f"{key} of {self.address} was replaced by another writer.")
            with arriving_file(self._path(key), record) as file:
                file.write(data)
        return record.sha256

    def sizes(self) -> dict[str, int]:
        """See `Store.sizes`."""
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.root).as_posix(): path.stat().st_size for path in files}

    def holds(self, key: str, record: FileRecord) -> bool:
        """See `Store.holds`."""
        path = self._path(key)
        return path.is_file() and path.stat().st_size == record.size and file_record(path) == record

    def upload(self, key: str, path: Path, record: FileRecord, on_bytes: OnBytes) -> None:
        """See `Store.upload`."""
        with path.open("rb") as source, arriving_file(self._path(key), record) as file:
            self._copy(source, file, on_bytes)

    def download(self, key: str, file: BinaryIO, on_bytes: OnBytes) -> None:
        """See `Store.download`."""
        path = self._path(key)
        if not path.is_file():
            raise HlkitError(f"{self.address} has lost {key}, which its manifest names. Push it again.")
        with path.open("rb") as source:
            self._copy(source, file, on_bytes)

    def delete(self, key: str) -> None:
        """See `Store.delete`. Folders that become empty go too."""
        path = self._path(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def link(self, key: str, *, seconds: int) -> str:
        """See `Store.link`; a file of this computer needs no limit."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        return self.root / key if key == MANIFEST else file_at(self.root, key)

    def _copy(self, source: BinaryIO, target: BinaryIO, on_bytes: OnBytes) -> None:
        while block := source.read(BLOCK_BYTES):
            if self._stopped.is_set():
                raise HlkitError("The copying was stopped.")
            target.write(block)
            on_bytes(len(block))

    def __enter__(self) -> Self:
        self._stopped.clear()
        for path in self.root.rglob(".part-*"):
            is_part = re.fullmatch(r"\.part-[0-9a-f]{24}", path.name) and path.is_file()
            if is_part and time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self._stopped.set()
