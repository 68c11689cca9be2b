"""What a project holds for a store: its files, their hashes, and which of them are meant.

Pushed are the plain files of the project and `.stages/` (what is finished); other names that begin with a dot, such as
temporary files, are not.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from hlkit.project import HlkitError, write_text
from hlkit.stores import MANIFEST, STAGES, FileRecord, file_at, file_record

PARTS = ("videos", "frames", "labels", "models", "scores", "reels", "project.toml")
HASHES = ".hashes.json"
# Hashing is bound by the processor, or by a disk that more readers make slower.
HASH_THREADS = min(4, os.cpu_count() or 1)
# Within this time a file may change again without a change of its modification time.
RACY_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which files are meant: all, unless `parts`, `videos` or `runs` are named.

    Args:
        parts: top-level parts of a project (`["frames", "models"]`).
        videos: ids; meant is what belongs to them (recording, frames, labels, scores, reels).
        runs: names of training runs; meant is what belongs to them (models, scores).

    Example: `Selection(parts=["frames"], videos=["saturday", "sunday"])` is the frames of two videos.
    """

    parts: Collection[str] | None = None
    videos: Collection[str] | None = None
    runs: Collection[str] | None = None

    def __post_init__(self) -> None:
        for name in ("parts", "videos", "runs"):
            if isinstance(value := getattr(self, name), str):  # one name, which must not be taken for its letters
                object.__setattr__(self, name, (value,))

    def __bool__(self) -> bool:
        return not self.parts is self.videos is self.runs is None

    def of(self, keys: Iterable[str]) -> list[str]:
        """The keys that are meant, sorted, and the stage markers, which are believed only beside their outputs.

        Raises:
            HlkitError: when a part, video or run is named that has no file; lists those that have.
        """
        keys = sorted(keys)
        parts = {key.split("/")[0] for key in keys} - {STAGES}
        _check("part", self.parts, {*PARTS, *parts})
        _check("video", self.videos, set().union(*(_stems(_video_of(key) or "") for key in keys)))
        _check("run", self.runs, {_run_of(key) for key in keys})
        return [key for key in keys if key.startswith(f"{STAGES}/") or self._means(key)]

    def _means(self, key: str) -> bool:
        if self.parts is not None and key.split("/")[0] not in self.parts:
            return False
        if self.videos is None and self.runs is None:
            return True
        video, run = _video_of(key), _run_of(key)
        asked = []
        if self.videos is not None and video is not None:
            # `saturday.chat.parquet` belongs to `saturday`.
            asked.append(not _stems(video).isdisjoint(self.videos))
        if self.runs is not None and run is not None:
            asked.append(run in self.runs)
        # What belongs to no video and no run is not meant when some are named.
        return bool(asked) and all(asked)


EVERYTHING = Selection()


def _stems(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[: number + 1]) for number in range(len(parts))}


def _check(kind: str, names: Collection[str] | None, known: Collection[str | None]) -> None:
    if unknown := sorted(set(names or ()) - set(known)):
        choices = ", ".join(sorted(name for name in known if name)) or "none so far"
        raise HlkitError(f"There is no {kind} {', '.join(unknown)}. Choose from: {choices}.")


def _video_of(key: str) -> str | None:
    match key.split("/"):
        case ["videos" | "labels" | "reels", name] | ["scores", _, name]:
            return name.rsplit(".", 1)[0]
        case ["frames", video, *_]:
            return video
    return None


def _run_of(key: str) -> str | None:
    match key.split("/"):
        case ["models" | "scores", run, _, *_]:
            return run
    return None


class Hashes:
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

    def records(self, keys: list[str], *, progress: bool) -> dict[str, FileRecord]:
        """The records of existing files, several read at once; what was learnt is kept."""
        records = {}
        bar = tqdm(total=len(keys), desc="check", unit="file", mininterval=0.5, disable=not progress)
        with bar, ThreadPoolExecutor(HASH_THREADS) as pool:
            for key, record in zip(keys, pool.map(self.record, keys), strict=True):
                records[key] = record
                bar.update()
        if records:
            write_text(self._root / HASHES, json.dumps(self._known, indent=0, sort_keys=True))
        return records


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
