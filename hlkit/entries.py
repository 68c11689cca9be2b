"""Entries: what a reader of one label format found in a file, row by row, with all that is wrong with the rows.

Every reader takes the file's text and `Hints`, and returns `Findings`: entries and faults, each with the number of its
row (or line, frame, task ...), so that the whole file is checked before an error lists everything at once.
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard
from urllib.parse import unquote, urlsplit

from hlkit.project import VIDEO_SUFFIXES, HlkitError, HlkitWarning, parse_time
from hlkit.spans import DEFAULT_CLASSES, DEFAULT_LABEL

# A week of labels is a hundredth of this; more is a recording that was taken for a label file.
MAX_BYTES = 64_000_000

# A value in an error message is cut off here.
SHOWN_SIGNS = 60

# Written times are read to the nanosecond: 3600 + 60 + 1.1 is then 3661.1 and not the number next to it.
TIME_DIGITS = 9

_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Hints:
    """What the caller knows and the file may not say.

    `source` is what errors call the file; `video` the id of the one video; `durations` the seconds of each video that
    may occur; `fps` the frames a second by which the file counts.
    """

    source: str
    video: str | None = None
    durations: Mapping[str, float] | None = None
    fps: Fraction | None = None

    def length(self, video: str) -> float | None:
        """Seconds of a video, if known; of the one video where the file names it differently."""
        durations = self.durations or {}
        return durations.get(video, durations.get(self.video or video))


@dataclass(frozen=True)
class Entry:
    """One span as a file gives it. `place` counts from 1; `start` and `end` are seconds."""

    place: int
    video: str
    start: float
    end: float
    label: str = DEFAULT_LABEL
    origin: str | None = None


@dataclass
class Findings:
    """What a reader found.

    `unit` says what places count; `fps` is set where the file counts frames, `has_origin` where it has a column for the
    origin. `names_files` tells that the file names recordings and not ids of videos: a single name then may stand for
    the video that the caller named.
    """

    unit: str
    names_files: bool = False
    fps: Fraction | None = None
    has_origin: bool = False
    entries: list[Entry] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def fault(self, place: int, text: str) -> None:
        """Note what is wrong at a place."""
        self.faults.append((place, text))

    def add(
        self, place: int, video: str, start: float, end: float, label: str | None = None, origin: str | None = None
    ) -> None:
        """Note a span. An empty label is "highlight"; white space in it becomes single spaces.

        Spreadsheets begin a cell with a capital, so "Background" and "Highlight" are these classes and no others.
        """
        texts = {"video": video, "label": one_line(label or "") or DEFAULT_LABEL, "origin": one_line(origin or "")}
        if texts["label"].lower() in DEFAULT_CLASSES:
            texts["label"] = texts["label"].lower()
        for column, text in texts.items():
            if not is_plain(text):
                self.fault(place, f"{column}: {shown(text)} holds signs that are no text; allowed are letters")
                return
        self.entries.append(Entry(place, video, start, end, texts["label"], texts["origin"] or None))

    def time(self, place: int, column: str, value: Any, *, comma: bool = False) -> float | None:
        """Read a time as `parse_time` does, or note a fault. With `comma`, 83,5 is read too."""
        text = str(value).strip()
        if comma and re.fullmatch(r"[\d:]+,\d+", text):
            text = text.replace(",", ".")
        try:
            return round(parse_time(text), TIME_DIGITS)
        except (ValueError, OverflowError) as error:
            long = len(text) > SHOWN_SIGNS or isinstance(error, OverflowError)
            reason = f"{shown(text)} is not a time" if long else " ".join(str(error).split())
            self.fault(place, f"{column}: {reason}")
            return None

    def ids(self, hints: Hints) -> list[Entry]:
        """The entries with the ids of their videos; faults are noted for those of another video than the caller's."""
        if hints.video is None:
            return self.entries
        others = {entry.video for entry in self.entries} - {hints.video, ""}
        if self.names_files and len({entry.video for entry in self.entries}) == 1 and others:
            warnings.warn(
                f"{hints.source} names the recording {shown(others.pop())}; it is taken for '{hints.video}', as asked.",
                HlkitWarning,
                stacklevel=4,
            )
            return [replace(entry, video=hints.video) for entry in self.entries]
        for entry in self.entries:
            if entry.video in others:
                allowed = f"'{hints.video}', or no video column"
                self.fault(entry.place, f"video: {shown(entry.video)} is not allowed; allowed is {allowed}")
        return [replace(entry, video=hints.video) for entry in self.entries if entry.video not in others]


def read_text(path: Path) -> str:
    """A label file's text. UTF-8 and UTF-16 are read as they are; else Windows-1252, as Excel writes it, is assumed.

    Raises:
        HlkitError: for a file that is missing, too large or no text.
    """
    if not path.is_file():
        raise HlkitError(f"There is no label file {path}. Mark highlights first (notebook 04), or put a CSV there.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise HlkitError(f"{path} has {size / 1e6:,.0f} MB, so it is no label file. Give a list of times.")
    content = path.read_bytes()
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and (half := _zero_half(content)) is not None:
        encoding = f"utf-16-{half}"
    try:
        text, is_windows = content.decode(encoding), False
    except UnicodeDecodeError:
        text, is_windows = _windows_text(content, path), True
    if any(sign < " " and sign not in "\t\n\r\f" for sign in text):
        raise HlkitError(f"{path} is no text, so it is no label file. Give a list of times, such as a CSV.")
    if is_windows:
        warnings.warn(
            f"{path} is not in UTF-8 and is read as Windows-1252; check its accents, or save it as 'CSV UTF-8'.",
            HlkitWarning,
            stacklevel=3,
        )
    return text


def _zero_half(content: bytes) -> str | None:
    """Which half of each pair of bytes is 0: Latin letters in UTF-16 without a byte-order mark."""
    if len(content) < 4 or len(content) % 2:
        return None
    zeros = content[1::2].count(0), content[::2].count(0)
    for half, (here, there) in {"le": zeros, "be": zeros[::-1]}.items():
        if here > 0.8 * len(content) / 2 and not there:
            return half
    return None


def _windows_text(content: bytes, path: Path) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise HlkitError(
            f"{path} is no text in UTF-8, UTF-16 or Windows-1252 ({error.reason}). Save it as 'CSV UTF-8'."
        ) from error


def read_json(text: str, hints: Hints) -> Any:
    """What a JSON text holds.

    Raises:
        HlkitError: when it is no JSON, with line and column.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HlkitError(f"{hints.source} looks like JSON and is none ({error}). Export it again.") from error


def video_of(name: str) -> str:
    """The id of the video that a path, an address or a file's name stands for: the name without a video's suffix.

    Label Studio puts eight hex digits before the names of uploaded files; these go too.
    """
    if "://" in name:
        with contextlib.suppress(ValueError):  # no address after all
            name = unquote(urlsplit(name).path)
    name = PurePosixPath(name.replace("\\", "/")).name
    stem, dot, suffix = name.rpartition(".")
    name = stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name
    return re.sub(r"^[0-9a-f]{8}-(?=.)", "", name)


def label_of(name: str, recording: str = "") -> str:
    """The class that a title stands for, where a format has titles and no classes.

    A number at the end goes, and so does the score that hlkit writes there: "highlight 3, score 0.91" is "highlight",
    and "Boss fight 2" is "Boss fight". A title that is the recording's own name, as editors give it, says nothing.
    """
    name = one_line(name)
    if video_of(name) == recording:
        return DEFAULT_LABEL
    name = re.sub(r"(, score \d\.\d+)?(\s*\(\d+:\d\d:\d\d\))?$", "", name)
    return re.sub(r"(^|\s+)#?\d+$", "", name) or DEFAULT_LABEL


def need_fps(hints: Hints, what: str) -> Fraction:
    """The frames a second that the caller gave.

    Raises:
        HlkitError: when none are given.
    """
    if hints.fps is None:
        raise HlkitError(
            f"{hints.source}: {what} counts frames and does not say how many make a second. Give fps (--fps)."
        )
    return hints.fps


def need_video(hints: Hints, what: str) -> str:
    """The id of the video that the caller named.

    Raises:
        HlkitError: when none is named.
    """
    if hints.video is None:
        raise HlkitError(f"{hints.source}: {what} does not say which video it is of. Name it (--video ID).")
    return hints.video


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a JSON is a number of seconds that could be a time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def one_line(text: str) -> str:
    """`text` with its white space made single spaces."""
    return " ".join(text.split())


def is_plain(text: str) -> bool:
    """Whether a text has neither control characters nor halves of others, which no file could hold."""
    return not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text)


def plain_name(name: str) -> str:
    """A file's name as a label file can hold it: one line, with `_` for signs that are no text."""
    return "".join(sign if is_plain(sign) else "_" for sign in one_line(name))


def shown(value: object) -> str:
    """A value of a file in quotes, on one line and cut off where it is long."""
    text = one_line(str(value)).encode("utf-8", "backslashreplace").decode()
    return f"'{text[:SHOWN_SIGNS]}...'" if len(text) > SHOWN_SIGNS else f"'{text}'"


def seconds_text(seconds: float) -> str:
    """Seconds to the microsecond, without zeros at the end: `83.5`."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def clock_text(seconds: float) -> str:
    """`hh:mm:ss`, with up to six digits after a point where there are any: `00:01:23.5`."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{fraction}"


def frame_time(frame: int, fps: Fraction) -> float:
    """When frame `frame` (from 0) is shown, in seconds."""
    return float(frame / fps)


def nearest_frames(start: float, end: float, fps: Fraction) -> tuple[int, int]:
    """The first frame of a span and the first one behind it, each to the nearest; one frame at least."""
    first = round(Fraction(start) * fps)
    return first, max(round(Fraction(end) * fps), first + 1)
