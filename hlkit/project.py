"""Where a project's files live, its settings, stage markers, atomic writes, and how time is written.

A *stage* is one step of the work on one thing ("frames" of "vod_a"). It is finished when its marker says so: the marker
is written last, holds what the stage was made from, and is believed only while the outputs that it names are there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".ts", ".avi", ".flv", ".m4v")

# Reading a whole 18 GB stream to know whether it changed would take longer than the work it saves.
FINGERPRINT_BYTES = 1 << 20

# A disk without any free space breaks more than the work that filled it.
SPARE_BYTES = 200_000_000


class HlkitError(Exception):
    """Something the user can mend: the message says what was wrong, what is allowed and what to do next."""


class HlkitWarning(UserWarning):
    """A fall-back that was taken, with its reason."""


# What a user can mend by choosing another place.
PLACE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def plain_words(error: BaseException) -> str | None:
    """What went wrong, for a user; None when only the traceback can tell."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full. Free some space and run the same again; it goes on where it stopped."
    if isinstance(error, OSError) and error.errno in PLACE_ERRORS and error.filename is not None:
        reason = f"{error.filename} can't be used ({error.strerror})"
        return f"{reason}. See who may write there, or take a project in another folder."
    return str(error) if isinstance(error, HlkitError) else None


def format_time(seconds: float, *, decimals: int = 0) -> str:
    """Write seconds as `h:mm:ss`, or with `decimals` digits after the point: 3671.5 is `1:01:11.5`."""
    scale = 10**decimals
    ticks = round(abs(seconds) * scale)
    whole, fraction = divmod(ticks, scale)
    text = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    if decimals:
        text += f".{fraction:0{decimals}d}"
    return f"-{text}" if seconds < 0 and ticks else text


def parse_time(text: str | float) -> float:
    """Read seconds (`83.5`) or `h:mm:ss(.sss)` (`0:01:23.5`) as float seconds.

    Two-part times such as `1:23` are refused, because they are minutes to one reader and hours to the next.

    Raises:
        ValueError: for anything else; the message says what is allowed.
    """
    text = str(text).strip()
    if re.fullmatch(r"-?\d+(\.\d*)?|-?\.\d+", text):
        return float(text)
    if match := re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d*)?)", text):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    hint = f"; write '0:{text}' if you mean minutes and seconds" if re.fullmatch(r"\d+:\d+(\.\d*)?", text) else ""
    raise ValueError(f"'{text}' is not a time: seconds (83.5) or h:mm:ss (0:01:23.5) are allowed{hint}")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` when the block ends well, remove it when it fails.

    The temporary name keeps the suffix, so that programs which choose a format by name choose the right one.

    Raises:
        HlkitError: when a folder has the name of `target`.
    """
    _refuse_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    temporary = folder / target.name
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_place(target: Path) -> None:
    """See before long work whether `atomic_path` will be able to write `target`; nothing is made.

    Raises:
        HlkitError: when a folder has its name, or a folder for it can't be made or written to.
    """
    _refuse_folder(target)
    there = next(folder for folder in target.absolute().parents if folder.exists())
    if not there.is_dir():
        raise HlkitError(f"{target} can't be written: {there} is a file. Give a place in a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise HlkitError(f"{target} can't be written: {there} is closed to you. Give a place in another folder.")


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise HlkitError(f"{target} is a folder. Give the name of a file.")


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` in one step: a reader sees the old file or the new one, never a part."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def put_aside(file: Path) -> Path:
    """Keep what a file holds once more beside it, as `<name>.old`, or with a number where that is there already."""
    old, number = file.with_name(f"{file.name}.old"), 2
    while old.exists():
        old, number = file.with_name(f"{file.name}.old{number}"), number + 1
    with atomic_path(old) as temporary:
        shutil.copyfile(file, temporary)
    return old


def fingerprint(path: Path) -> str:
    """A short name for a file's content: 16 hex digits of SHA-256 over its size and its first and last MiB.

    Raises:
        HlkitError: when there is no such file.
    """
    if not path.is_file():
        raise HlkitError(f"There is no file {path}.")
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(FINGERPRINT_BYTES))
        file.seek(max(FINGERPRINT_BYTES, size - FINGERPRINT_BYTES))
        digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:16]


def safe_id(text: str) -> str:
    """Make a video id from any text: letters, digits, `-`, `_`, `.`; at most 80 characters, never empty or hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:80].strip("._-") or "video"


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_box(value: object) -> bool:
    if not (isinstance(value, list | tuple) and len(value) == 4 and all(type(edge) in (int, float) for edge in value)):
        return False
    x0, y0, x1, y1 = value
    return 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


# What the settings can be that stages read, and how that is said.
_SETTINGS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "box": (_is_box, "x0, y0, x1, y1 from 0 to 1, such as [0.46, 0.84, 0.54, 1]"),
    "run": (lambda value: isinstance(value, str), 'a name, such as "first"'),
    "store": (lambda value: isinstance(value, str), 'an address, such as "r2://bucket/prefix"'),
    "train_videos": (_is_texts, 'a list of video ids, such as ["vod_a"]'),
    "window_seconds": (_is_seconds, "seconds above 0, such as 30"),
}


def _run_name(run: str) -> str:
    if run != safe_id(run):
        raise HlkitError(
            f"'{run}' can't be a run's name. Letters, digits, - _ and . can, 80 of them at most: '{safe_id(run)}'."
        )
    return run


def _check_settings(settings: Mapping[str, Any], *, remedy: str = "") -> None:
    for key, (is_allowed, allowed) in _SETTINGS.items():
        if key in settings and not is_allowed(settings[key]):
            raise HlkitError(f"The setting '{key}' is {settings[key]!r}. Give {allowed}{remedy}.")


@dataclass(frozen=True)
class Project:
    """One folder that holds everything hlkit makes for one streamer. Nothing is created until something is written.

    Example: `Project(Path("my-stream")).video("vod_a")` is `my-stream/videos/vod_a.mp4`.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().resolve())
        if self.root.exists() and not self.root.is_dir():
            raise HlkitError(f"The project {self.root} is a file; give a folder.")

    @property
    def videos(self) -> Path:
        """The folder of recordings."""
        return self.root / "videos"

    @property
    def frames(self) -> Path:
        """The folder of frame stores, one sub-folder a video."""
        return self.root / "frames"

    def video_ids(self) -> list[str]:
        """The ids of the recordings that are here, sorted."""
        return sorted({file.stem for file in self._recordings()})

    def _recordings(self) -> list[Path]:
        files = self.videos.iterdir() if self.videos.is_dir() else iter(())
        return [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != "."]

    def video(self, video: str) -> Path:
        """The recording of one id.

        Raises:
            HlkitError: when the project has no such recording (lists those that it has), or it is a link to a file
                that is gone.
        """
        # Compared with what is there: a camera writes `A.MP4`, and no id leads out of the folder.
        named = [file for file in self._recordings() if file.stem == video]
        for file in sorted(named, key=lambda file: (VIDEO_SUFFIXES.index(file.suffix.lower()), file.name)):
            if file.exists():
                return file
            if file.is_symlink():
                gone = f"{file} leads to {file.readlink()}, which is gone"
                raise HlkitError(f"{gone}. Put it back, or delete {file.name} and download the recording again.")
        known = ", ".join(self.video_ids()) or "none; download one first (notebook 01, or `hlkit download`)"
        raise HlkitError(f"The project has no video '{video}'. It has: {known}.")

    def chat(self, video: str) -> Path:
        """The chat table of one video."""
        return self.videos / f"{video}.chat.parquet"

    def index(self, video: str) -> Path:
        """The frame index of one video."""
        return self.frames / video / "index.parquet"

    def signals(self, video: str) -> Path:
        """The folder of what was heard and seen in one video."""
        return self.root / "signals" / video

    def labels(self, video: str) -> Path:
        """The label spans of one video."""
        return self.root / "labels" / f"{video}.csv"

    def box(self, video: str) -> Path:
        """The part of one video's picture that counts, where that is its own."""
        return self.root / "labels" / f"{video}.box.json"

    def model(self, run: str) -> Path:
        """The folder of one training run.

        Raises:
            HlkitError: for a name that a folder can't have, since another run's could become the same.
        """
        return self.root / "models" / _run_name(run)

    def scores(self, run: str, video: str) -> Path:
        """The score table of one video by one run; errors as for `model`."""
        return self.root / "scores" / _run_name(run) / f"{video}.parquet"

    def reel(self, video: str, suffix: str = ".mp4") -> Path:
        """The reel of one video, or with another suffix what stands beside it."""
        return self.root / "reels" / f"{video}{suffix}"

    def settings(self) -> dict[str, Any]:
        """What the notebooks share, from `project.toml`: keys `videos`, `store`, `run` and others that a form wrote.

        Raises:
            HlkitError: when the file is not TOML, or a setting is of a kind that it can't be.
        """
        file = self.root / "project.toml"
        if not file.is_file():
            return {}
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HlkitError(f"{file} is not valid TOML ({error}). Mend or delete it; it is written anew.") from error
        _check_settings(settings, remedy=f" in {file}, or delete the line")
        return settings

    def save_settings(self, **changes: str | int | float | bool | Sequence[str | float]) -> None:
        """Merge `changes` into `project.toml`.

        Raises:
            HlkitError: as for `settings`.
        """
        _check_settings(changes)
        settings = self.settings() | changes
        # A JSON string, number, boolean or list of them is also valid TOML, but for the one control character that
        # JSON lets stand as it is.
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in sorted(settings.items())]
        write_text(self.root / "project.toml", "".join(lines).replace("\x7f", "\\u007f"))

    def _marker(self, stage: str, name: str) -> Path:
        plain = safe_id(name)
        if plain != name:  # others may become the same: "a b", names in another script, long ones with one beginning
            plain = f"{plain[:60]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
        return self.root / ".stages" / f"{stage}-{plain}.json"

    def is_done(self, stage: str, name: str, made_from: Mapping[str, Any]) -> bool:
        """Whether `stage` has finished on `name` with this `made_from`, and its outputs still have their lengths."""
        try:
            marker = json.loads(self._marker(stage, name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return False
        match marker:
            case {"made_from": was_made_from, "outputs": dict(sizes)}:
                files = {self.root / path: size for path, size in sizes.items()}
                intact = all(path.is_file() and path.stat().st_size == size for path, size in files.items())
                return intact and was_made_from == _as_json(made_from)
        return False

    def made_from(self, stage: str, name: str) -> dict[str, Any]:
        """What `stage` was made from when it last finished on `name`; empty when it never did."""
        try:
            return dict(json.loads(self._marker(stage, name).read_text(encoding="utf-8"))["made_from"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {}

    def mark_done(self, stage: str, name: str, made_from: Mapping[str, Any], outputs: Sequence[Path]) -> None:
        """Record that `stage` has finished on `name`: call it last, when every output is in its place."""
        sizes = {path.relative_to(self.root).as_posix(): path.stat().st_size for path in outputs}
        marker = {"made_from": _as_json(made_from), "outputs": sizes}
        write_text(self._marker(stage, name), json.dumps(marker, indent=1))


def _as_json(value: Mapping[str, Any]) -> Any:
    """What `value` becomes after a round trip through JSON, where tuples equal lists and paths equal strings."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def free_disk(path: Path) -> int:
    """Bytes free on the disk that would hold `path`, whether or not it exists yet."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def need_disk(path: Path, size: float, *, what: str) -> None:
    """Refuse work that would fill the disk of `path`: `what` takes `size` bytes, of which some more must stay free.

    Raises:
        HlkitError: when there is too little; says how much is missing.
    """
    missing = size + SPARE_BYTES - free_disk(path)
    if missing > 0:
        reason = (
            f"{what} needs about {size / 1e9:,.1f} GB, and {missing / 1e9:,.1f} GB are missing on the disk of {path}"
        )
        raise HlkitError(f"{reason}. Free some space, take another folder, or choose a lower quality.")
