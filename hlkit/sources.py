"""What a user asks for: one recording or several (a folder, a list of links), in which of the offered qualities.

A list may name stretches of recordings and what they show, as Kinetics' CSV does (Kay and others 2017, "The Kinetics
Human Action Video Dataset"; a first row `label,youtube_id,time_start,time_end,split`, times in seconds). Such a stretch
gets the id that Kinetics' own tools give it: `<id>_000012_000022`.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from hlkit.project import VIDEO_SUFFIXES, HlkitError, format_time, parse_time, safe_id

# The model sees 128 pixels; 360 lines are enough for that, and a sixth of the bytes of 1080.
ANALYSIS_HEIGHT = 360

# Half a million rows of Kinetics take half of this; above it, a table of links would be something else.
MAX_LIST_BYTES = 64_000_000

# What a list's columns may be called, the first that is there counting.
LINK_COLUMNS = ("link", "url", "path", "youtube_id")
ID_COLUMNS = ("id", "video")
START_COLUMNS, END_COLUMNS = ("start", "time_start"), ("end", "time_end")
LABEL_COLUMN = "label"
# Of a list's cells; spreadsheets of many languages write the second.
SEPARATORS = ",;\t"
# A name and two times are an id of 80 signs at most.
_STRETCH_NAME = 56

ALLOWED = (
    "Give a video file, a folder of them or a list of links (.csv, .txt) on this computer, a Twitch VOD "
    "(https://www.twitch.tv/videos/1234567, or the number alone), clip (https://clips.twitch.tv/NameOfTheClip) or "
    "channel (https://www.twitch.tv/name), or the link of another video site"
)

_TWITCH = r"(?:https?://)?(?:www\.|m\.)?twitch\.tv"
_TWITCH_PATTERNS = {
    "vod": rf"(?:{_TWITCH}/(?:videos|\w+/v(?:ideo)?)/)?(\d{{5,20}})/?(?:\?.*)?",
    "clip": rf"(?:(?:https?://)?clips\.twitch\.tv|{_TWITCH}/\w+/clip)/([A-Za-z0-9_-]+)/?(?:\?.*)?",
    "channel": rf"{_TWITCH}/(\w{{2,25}})(?:/(?:videos|clips|about|home)?)?/?(?:\?.*)?",
}
_YOUTUBE_HOST = r"(?:(?:www|m|music)\.)?youtube\.com|youtu\.be"
_YOUTUBE_ID = r"[A-Za-z0-9_-]{11}"


@dataclass(frozen=True)
class Source:
    """One thing asked for: `name` is a path, a VOD's number, a clip's slug, a Twitch channel's name, or a link."""

    kind: Literal["file", "vod", "clip", "channel", "web"]
    name: str

    @property
    def link(self) -> str:
        """Its address on the web; of a file its path."""
        match self.kind:
            case "vod":
                return f"https://www.twitch.tv/videos/{self.name}"
            case "clip":
                return f"https://clips.twitch.tv/{self.name}"
            case "channel":
                return f"https://www.twitch.tv/{self.name}"
        return self.name


@dataclass(frozen=True)
class Rendition:
    """One quality that a site offers: its `names` (the first is what a downloader takes), lines of picture, address."""

    names: tuple[str, ...]
    height: int
    is_source: bool = False
    url: str = ""


@dataclass(frozen=True)
class Stream:
    """Where the pictures of a rendition lie (`url`), and its sound when that lies elsewhere.

    `is_hls`: they are playlists. `headers` are what the site wants to be asked with. `about` is what is known of the
    video, such as its title.
    """

    url: str
    sound_url: str | None
    is_hls: bool
    headers: Mapping[str, str]
    about: Mapping[str, Any] = field(default_factory=dict)


def parse_source(source: str | Path) -> Source:
    """Tell what `source` is; a file that exists goes before all else.

    Raises:
        HlkitError: when it is nothing that can be downloaded; says what can.
    """
    text = str(source).strip()
    if not text:
        raise HlkitError(f"No recording is named: a field or a cell was left empty. {ALLOWED}.")
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if _exists(path):
        return Source("file", str(path))
    for kind in ("vod", "clip", "channel"):
        if found := re.fullmatch(_TWITCH_PATTERNS[kind], text):
            return Source(kind, found[1])
    if re.fullmatch(r"https?://[^\s/?#]+\S*", text):
        if "@" in urlsplit(text).netloc:
            raise HlkitError("The link holds a name or password (before the @). Give it without: links are stored.")
        return Source("web", text)
    raise HlkitError(f"'{text}' is neither a file that is here nor a link to a video. {ALLOWED}.")


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a link can be too long for a file name, or hold what no name can
        return False


def default_id(source: str | Path) -> str:
    """The id that a video gets when none is given.

    The file's name, the VOD's number, the clip's slug, YouTube's id; for another link the last part of its path with
    six digits of its hash, because many sites call every video `index`.

    Raises:
        HlkitError: as `parse_source` does.
    """
    known = parse_source(source)
    if known.kind == "file":
        return safe_id(Path(known.name).stem)
    if known.kind != "web":
        return safe_id(known.name)
    if (found := youtube_id(known)) is not None:
        return safe_id(found)
    parts = urlsplit(known.name)
    digest = hashlib.sha256(known.name.encode()).hexdigest()[:6]
    return f"{safe_id(Path(parts.path).stem)[:60]}-{digest}"


def youtube_id(source: Source) -> str | None:
    """The id of a video on YouTube; None for what is none."""
    if source.kind != "web":
        return None
    parts = urlsplit(source.name)
    if not re.fullmatch(_YOUTUBE_HOST, parts.hostname or ""):
        return None
    named = [*parse_qs(parts.query).get("v", ()), *reversed(parts.path.split("/"))]
    return next((each for each in named if re.fullmatch(_YOUTUBE_ID, each)), None)


def is_many(source: str | Path) -> bool:
    """Whether `source` is a folder or a list of links on this computer."""
    try:
        path = Path(str(source).strip()).expanduser()
        return path.is_dir() or (path.is_file() and path.suffix.lower() in (".csv", ".txt"))
    except (OSError, ValueError, RuntimeError):
        return False


def is_playlist(source: str | Path) -> bool:
    """Whether `source` is the link of a Twitch channel, or of a channel, a playlist or a feed elsewhere."""
    known = parse_source(source)
    parts = urlsplit(known.name)
    if known.kind != "web" or not re.fullmatch(_YOUTUBE_HOST, parts.hostname or ""):
        return known.kind == "channel" or bool(re.search(r"\.(rss|atom)$", parts.path))
    return bool(re.match(r"/(@|channel/|c/|user/|playlist)", parts.path))


class Wanted(NamedTuple):
    """One thing asked for, as a folder or a list names it.

    `source` is a link or a path; `video` the id it shall get (None: made from the source); `start` and `end` the
    stretch of it in seconds (None: all of it); `label` what it shows, all of it (None: nobody said).
    """

    source: str
    video: str | None = None
    start: float | None = None
    end: float | None = None
    label: str | None = None

    @property
    def id(self) -> str:
        """The id it gets; that of a stretch ends with its times."""
        if self.video or self.start is None or self.end is None:
            return self.video or default_id(self.source)
        return f"{default_id(self.source)[:_STRETCH_NAME]}_{_six_digits(self.start)}_{_six_digits(self.end)}"


def _six_digits(seconds: float) -> str:
    return f"{seconds:010.3f}".removesuffix(".000")


def read_many(source: str | Path) -> list[Wanted]:
    """The recordings in a folder (sorted by name), or in a list.

    A list is a text file with one link or path a line, or a CSV with a column `link` (or `url`, `path`, or `youtube_id`
    as in Kinetics' CSV) and, if wished, `id` (or `video`), `start` and `end` (or `time_start` and `time_end`; seconds
    or h:mm:ss; the start is 0 unless given), and `label`. Its separator may be a comma, a semicolon or a tab; where it
    is no comma, times may have a decimal one. Empty lines and lines that begin with `#` are passed over, and so are
    rows that say the same again; paths are relative to the list's folder.

    Raises:
        HlkitError: when there is nothing in it, a line can't be read, or two recordings would get one id; names them.
    """
    path = Path(str(source).strip()).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != ".")
        wanted = [Wanted(str(file)) for file in files]
        if not wanted:
            raise HlkitError(f"The folder {path} has no videos ({', '.join(VIDEO_SUFFIXES)}).")
    else:
        wanted = list(dict.fromkeys(_read_list(path)))
    check_ids(wanted)
    return wanted


def check_ids(wanted: Sequence[Wanted]) -> None:
    """Refuse recordings of which one would take the other's place.

    Raises:
        HlkitError: names two that would get one id.
    """
    seen: dict[str, Wanted] = {}
    for each in wanted:
        other = seen.get(each.id)
        if other is not None and other != each and other[:4] == each[:4]:
            raise HlkitError(f"'{each.id}' is {other.label} and {each.label} in the list. Give it one label.")
        if other is not None:
            both = f"'{each.source}' and '{other.source}'"
            raise HlkitError(f"{both} would both get the id '{each.id}'. Give ids in a list, or rename.")
        seen[each.id] = each


def _read_list(path: Path) -> list[Wanted]:
    if path.stat().st_size > MAX_LIST_BYTES:
        raise HlkitError(f"{path} is too large for a list of links. {ALLOWED}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise HlkitError(f"{path} is not a text file ({error}). Save the list as UTF-8 text.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if lines and re.fullmatch(r"sep=.", lines[0][1]):  # Excel's, and no row
        del lines[0]
    head, separator = _head(lines[0][1], path.name) if lines else ([], "")
    wanted, faults = [], []
    for number, line in lines[1:] if head else lines:
        try:
            cells = dict(zip(head, _row(line, separator, len(head)), strict=False)) if head else {"link": line.strip()}
            wanted.append(_read_row(cells, path.parent, comma=separator != ","))
        except (HlkitError, ValueError, csv.Error) as error:
            faults.append(f"line {number}: {str(error).removesuffix('.')}.")
    if faults:
        more = f" And {len(faults) - 1} more lines have faults." if len(faults) > 1 else ""
        raise HlkitError(f"{path.name}, {faults[0]}{more}")
    if not wanted:
        raise HlkitError(f"The list {path} is empty. Write one link a line, or a CSV with a column 'link'.")
    return wanted


def _head(line: str, name: str) -> tuple[list[str], str]:
    """The columns that a table's first line names, in small letters, and what separates them; none of other lists."""
    columns = {*LINK_COLUMNS, *ID_COLUMNS, *START_COLUMNS, *END_COLUMNS, LABEL_COLUMN}
    for separator in SEPARATORS:
        head = [cell.strip().lower() for cell in next(csv.reader([line[:1000]], delimiter=separator))]
        if any(column in head for column in LINK_COLUMNS):
            return head, separator
        if len(columns & set(head)) > 1:
            raise HlkitError(
                f"{name} has the columns {', '.join(head)}, of which none says what to fetch. Name one of them "
                f"{', '.join(LINK_COLUMNS[:-1])} or {LINK_COLUMNS[-1]}."
            )
    return [], ""


def _row(line: str, separator: str, count: int) -> list[str]:
    """A table's line as its cells."""
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))]
    if any(cells[count:]):
        raise ValueError(
            f"it has {len(cells)} cells, and the first row {count}; put a cell with a '{separator}' inside in quotes"
        )
    return cells


def _read_row(cells: Mapping[str, str], folder: Path, *, comma: bool = False) -> Wanted:
    def cell(names: Sequence[str]) -> str:
        return next((cells[name] for name in names if name in cells), "")

    link = cell(LINK_COLUMNS[:-1])
    if not link and cells.get("youtube_id"):
        link = f"https://www.youtube.com/watch?v={quote(cells['youtube_id'], safe='')}"
    source = str(folder / link) if _exists(folder / link) else link
    parse_source(source)
    texts = [cell(names).replace(",", ".") if comma else cell(names) for names in (START_COLUMNS, END_COLUMNS)]
    start, end = (parse_time(text) if text else None for text in texts)
    if end is None and start:
        raise ValueError(f"the stretch begins at {format_time(start)} and has no end; give one, or leave out both")
    if end is not None and not 0 <= (start := start or 0.0) < end:
        raise ValueError(f"the stretch from {start:g} to {end:g} s can't be; give 0 <= start < end")
    label = " ".join(cells.get(LABEL_COLUMN, "").split())
    if any(sign < " " or "\x7f" <= sign <= "\x9f" for sign in label):
        raise ValueError(f"the label {label!r} holds signs that are no text; give a name")
    return Wanted(
        source,
        cell(ID_COLUMNS) or None,
        start if end is not None else None,
        end,
        label or None,
    )


def rank_renditions(offered: Sequence[Rendition], quality: str) -> list[Rendition]:
    """What `quality` means, best first: `analysis` (nearest to 360 lines), `source` (the best), or one of the names.

    Only `analysis` and `source` have a second choice.

    Raises:
        HlkitError: when it is not offered; lists what is.
    """
    listed = ", ".join(rendition.names[-1] for rendition in offered) or "nothing"
    if quality == "analysis" and offered:
        # Of 360p60 and 360p30 the shorter name has fewer pictures to decode.
        return sorted(offered, key=lambda each: (abs(each.height - ANALYSIS_HEIGHT), each.is_source, each.names[-1]))
    if quality == "source" and offered:
        return sorted(offered, key=lambda each: (each.is_source, each.height), reverse=True)
    named = [rendition for rendition in offered if quality in rendition.names]
    if named:
        return named[:1]
    raise HlkitError(
        f"Quality '{quality}' is not offered. This video has: {listed}; 'analysis' and 'source' choose one."
    )
