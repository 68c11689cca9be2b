"""What a user asks for: one recording or several (a folder, a list of links), in which of the offered qualities."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from hlkit.project import VIDEO_SUFFIXES, HlkitError, safe_id

# The model sees 128 pixels; 360 lines are enough for that, and a sixth of the bytes of 1080.
ANALYSIS_HEIGHT = 360

# Above this a table of links would be something else.
MAX_LIST_BYTES = 1_000_000

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


def parse_source(source: str | Path) -> Source:
    """Tell what `source` is; a file that exists goes before all else.

    Raises:
        HlkitError: when it is nothing that can be downloaded; says what can.
    """
    text = str(source).strip()
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


def read_many(source: str | Path) -> list[tuple[str, str | None]]:
    """The recordings in a folder (sorted by name), or in a list: each one's source, and its id where the list has one.

    A list is a text file with one link or path a line, or a CSV with a column `link` (or `url`) and, if wished, `id`
    (or `video`). Empty lines and lines that begin with `#` are passed over; paths are relative to the list's folder.

    Raises:
        HlkitError: when there is nothing in it, a line can't be read, or two recordings would get one id; names them.
    """
    path = Path(str(source).strip()).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != ".")
        wanted: list[tuple[str, str | None]] = [(str(file), None) for file in files]
        if not wanted:
            raise HlkitError(f"The folder {path} has no videos ({', '.join(VIDEO_SUFFIXES)}).")
    else:
        wanted = _read_list(path)
    check_ids(wanted)
    return wanted


def check_ids(wanted: Sequence[tuple[str, str | None]]) -> None:
    """Refuse recordings of which one would take the other's place.

    Raises:
        HlkitError: names two that would get one id.
    """
    seen: dict[str, str] = {}
    for each, video in wanted:
        name = video or default_id(each)
        if name in seen:
            raise HlkitError(
                f"'{each}' and '{seen[name]}' would both get the id '{name}'. Give ids in a list, or rename."
            )
        seen[name] = each


def _read_list(path: Path) -> list[tuple[str, str | None]]:
    if path.stat().st_size > MAX_LIST_BYTES:
        raise HlkitError(f"{path} is too large for a list of links. {ALLOWED}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise HlkitError(f"{path} is not a text file ({error}). Save the list as UTF-8 text.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    head = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))] if lines else []
    link = next((head.index(name) for name in ("link", "url") if name in head), None)
    video = next((head.index(name) for name in ("id", "video") if name in head), None)
    wanted = []
    for number, line in lines if link is None else lines[1:]:
        row = [line] if link is None else next(csv.reader([line]))
        cells = [cell.strip() for cell in row] + [""] * len(head)
        each, name = cells[link or 0], cells[video] if link is not None and video is not None else ""
        beside = path.parent / each
        each = str(beside) if _exists(beside) else each
        try:
            parse_source(each)
        except HlkitError as error:
            raise HlkitError(f"{path.name}, line {number}: {error}") from error
        wanted.append((each, name or None))
    if not wanted:
        raise HlkitError(f"The list {path} is empty. Write one link a line, or a CSV with a column 'link'.")
    return wanted


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
