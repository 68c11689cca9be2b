"""YouTube and the other video sites by way of yt-dlp (https://github.com/yt-dlp/yt-dlp), used as a library.

None of the user's own yt-dlp settings are read, nothing is asked, and titles never become file names.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.cookiejar import Cookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import polars as pl
from tqdm.auto import tqdm

from hlkit.channel import LISTING
from hlkit.project import VIDEO_SUFFIXES, HlkitError, need_disk, safe_id
from hlkit.sources import Rendition, Stream, rank_renditions
from hlkit.tries import UNANSWERED, patiently, tell_wait, waits_after
from hlkit.twitchdl import TOKEN
from hlkit.video import find_ffmpeg, probe

if TYPE_CHECKING:
    from yt_dlp import YoutubeDL

# The seconds before each further try of one request.
WAITS = (2.0, 10.0, 30.0, 60.0)

# Sites round the lengths that they state; more than this, or this share, is a broken download.
MISSING_SECONDS = 5
MISSING_SHARE = 0.02

# What yt-dlp's readers of pages raise, besides its own errors, when a page is not as they know it.
MISREADINGS = (LookupError, AttributeError, TypeError, ValueError, AssertionError)

# Reasons of yt-dlp's that may be gone a moment later.
PASSING = r"HTTP Error (429|5\d\d)|[Tt]imed out|[Cc]onnection|IncompleteRead|Remote end"

_log = logging.getLogger(__name__)


class PassingError(HlkitError):
    """A site did not bring what it has, for a reason that may be gone a moment later."""


def web_facts(link: str) -> dict[str, Any]:
    """What yt-dlp knows of the one video behind `link`.

    Raises:
        HlkitError: when there is none, there are several, it is live, or the site refuses; with yt-dlp's own reason.
    """
    with _open(noplaylist=True) as ydl:
        facts = _ask(ydl, link)
        entries = list(facts.get("entries") or ()) if facts.get("_type") == "playlist" else None
        if entries is not None and len(entries) == 1:
            facts = _ask(ydl, entries[0].get("url") or link) if entries[0].get("url") else entries[0]
        elif entries is not None:
            raise HlkitError(
                f"{link} holds {len(entries)} videos. Give the link of one, or list them: `hlkit channel`."
            )
    if facts.get("live_status") in ("is_live", "is_upcoming", "post_live") or facts.get("is_live"):
        raise HlkitError(f"The stream {link} is still running or not ready. Run this again when it has ended.")
    if not read_formats(facts):
        raise HlkitError(f"{link} has no pictures that can be downloaded. Give the link of a video.")
    return facts


def list_web(link: str, *, limit: int) -> pl.DataFrame:
    """The first `limit` videos of a channel or playlist; a site lists the newest first.

    Returns:
        `id`, `title`, `length` (f64 s, null where the site does not tell), `published` (ISO 8601 or empty), `link`.

    Raises:
        HlkitError: when the link is no list of videos, or the site refuses.
    """
    with _open(playlistend=limit) as ydl:
        facts = _ask(ydl, link)
        # A channel's own page lists its parts (videos, live, shorts); the first has what was asked for.
        while facts.get("_type") == "playlist" and (first := next(iter(facts["entries"]), None)):
            if first.get("_type") == "playlist":
                facts = first
            elif re.search(r"youtube\.com/.+/(videos|streams)$", first.get("url") or ""):
                facts = _ask(ydl, first["url"])
            else:
                break
    if facts.get("_type") != "playlist":
        raise HlkitError(f"{link} is not a list of videos. Give the link of a channel or of a playlist.")
    entries = [entry for entry in facts["entries"] if entry and (entry.get("url") or entry.get("webpage_url"))]
    rows = [
        {
            "id": str(entry.get("id") or ""),
            "title": entry.get("title") or "",
            "length": None if entry.get("duration") is None else float(entry["duration"]),
            "published": _published(entry),
            "link": entry.get("webpage_url") or entry["url"],
        }
        for entry in entries[:limit]
    ]
    return pl.DataFrame(rows, schema=LISTING)


def read_formats(facts: Mapping[str, Any]) -> list[Rendition]:
    """The renditions with pictures in yt-dlp's facts, one for each height and rate; `names` end with such as `720p60`.

    Where a site says nothing about its one format, that is a rendition of 0 lines named `source`.
    """
    heights: dict[str, int] = {}
    for form in _with_pictures(facts):
        heights.setdefault(_name(form), int(form.get("height") or 0))
    best = max(heights.values(), default=0)
    return [Rendition((name,), height, is_source=height == best) for name, height in heights.items()]


def pick_formats(facts: Mapping[str, Any], quality: str) -> tuple[str, list[dict[str, Any]]]:
    """The name of the rendition that `quality` means, and its format, followed by one of sound where it has none.

    Of several formats of that height H.264 is taken, because everything plays it; of those the smallest for `analysis`
    and the best otherwise.

    Raises:
        HlkitError: when the quality is not offered; lists what is.
    """
    name = rank_renditions(read_formats(facts), quality)[0].names[0]
    wanted = [form for form in _with_pictures(facts) if _name(form) == name]
    sign = -1 if quality == "analysis" else 1

    def rank(form: Mapping[str, Any]) -> tuple[bool, float, bool]:
        plays = str(form.get("vcodec") or "").startswith(("avc1", "h264"))
        return plays, sign * float(form.get("tbr") or form.get("vbr") or 0), form.get("acodec") != "none"

    picked = max(wanted, key=rank)
    sounds = [
        form for form in facts["formats"] if form.get("vcodec") == "none" and form.get("acodec") not in (None, "none")
    ]
    if picked.get("acodec") == "none" and sounds:
        fitting = [form for form in sounds if form.get("ext") == "m4a"] if picked.get("ext") == "mp4" else []
        return name, [picked, max(fitting or sounds, key=lambda form: float(form.get("abr") or form.get("tbr") or 0))]
    return name, [picked]


def find_stream(link: str, quality: str = "source") -> Stream:
    """Where a rendition of a video lies now. Such addresses are good for hours, so they are not stored.

    Raises:
        HlkitError: as `web_facts` does, or when the quality is not offered.
    """
    facts = web_facts(link)
    name, (picture, *sound) = pick_formats(facts, quality)
    is_hls = str(picture.get("protocol")).startswith("m3u8")
    about = read_web_facts(facts) | {"quality": name}
    headers = picture.get("http_headers") or {}
    return Stream(picture["url"], sound[0]["url"] if sound else None, is_hls, headers, about)


def _with_pictures(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    formats = facts.get("formats") or ()
    return [form for form in formats if form.get("vcodec") != "none" and form.get("protocol") != "mhtml"]


def _name(form: Mapping[str, Any]) -> str:
    if not form.get("height"):
        return "source"
    return f"{form['height']}p{round(form['fps']) if (form.get('fps') or 0) > 30 else ''}"


def read_web_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Title, channel, time of publishing and chapters (start, end in s, title) from yt-dlp's facts."""
    chapters = [
        {"start": float(chapter["start_time"]), "end": float(chapter["end_time"]), "title": chapter.get("title") or ""}
        for chapter in facts.get("chapters") or ()
        if chapter.get("start_time") is not None and chapter.get("end_time") is not None
    ]
    channel = facts.get("uploader_id") or facts.get("channel") or facts.get("uploader")
    about = {"title": facts.get("title") or "", "channel": channel, "published": _published(facts) or None}
    return about | {"chapters": chapters}


def _published(facts: Mapping[str, Any]) -> str:
    if facts.get("timestamp"):
        return f"{datetime.fromtimestamp(facts['timestamp'], UTC):%Y-%m-%dT%H:%M:%SZ}"
    date = str(facts.get("upload_date") or "")
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else ""


def fetch_web(link: str, target: Path, *, quality: str, progress: bool = True) -> tuple[Path, dict[str, Any]]:
    """Bring the video behind `link` to `target`, with the suffix of what came; return the path and what is known of it.

    What has come is kept in a folder beside `target`, so a download that was broken off goes on where it stopped.

    Raises:
        HlkitError: as `web_facts` does; or when the quality is not offered, the disk is too full, or what came is cut
            off.
    """
    facts = web_facts(link)
    name, formats = pick_formats(facts, quality)
    work = target.with_name(f"{target.stem}-{safe_id(name)}")
    work.mkdir(parents=True, exist_ok=True)
    need_disk(work, _expected_bytes(formats, facts.get("duration")), what=f"{link} in {name}")
    with tqdm(desc=target.stem, unit="B", unit_scale=True, mininterval=0.5, disable=not progress) as bar:
        options = {
            "format": lambda _: iter([_joined(formats)]),
            "paths": {"home": str(work.resolve())},
            "outtmpl": {"default": "video.%(ext)s"},
            "merge_output_format": "mp4/mkv",
            "progress_hooks": [lambda state: _show(state, bar)],
        }
        with _open(**options) as ydl:
            _failing_plainly(lambda: ydl.process_ie_result(cast(Any, dict(facts)), download=True), link)
    came = [file for file in work.glob("video.*") if file.suffix.lower() in VIDEO_SUFFIXES]
    if len(came) != 1:
        raise HlkitError(f"yt-dlp ended without a video of {link}. Run this again.")
    stated = float(facts.get("duration") or 0)
    try:
        seconds = probe(came[0]).duration
    except HlkitError:
        shutil.rmtree(work)  # a second run would take it up again
        raise
    if seconds < stated - max(MISSING_SECONDS, stated * MISSING_SHARE):
        shutil.rmtree(work)
        raise HlkitError(f"The site states {stated:.0f} s for {link}, but {seconds:.0f} s came. Run this again.")
    final = target.with_suffix(came[0].suffix.lower())
    came[0].replace(final)
    shutil.rmtree(work)
    return final, read_web_facts(facts) | {"quality": name}


def _expected_bytes(formats: Sequence[Mapping[str, Any]], seconds: float | None) -> float:
    """About what a download takes, as far as the site tells; twice where pictures and sound must be joined."""
    sizes = [
        form.get("filesize") or form.get("filesize_approx") or 125 * (form.get("tbr") or 0) * (seconds or 0)
        for form in formats
    ]
    return sum(sizes) * (2 if len(formats) > 1 else 1)


def _joined(formats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The formats as one, in the form that yt-dlp's own selectors give."""
    if len(formats) == 1:
        return formats[0]
    picture, sound = formats
    both = {"format_id": f"{picture['format_id']}+{sound['format_id']}", "requested_formats": list(formats)}
    alike = picture.get("ext") == "mp4" and sound.get("ext") in ("m4a", "mp4")
    both |= {"ext": "mp4" if alike else "mkv", "protocol": f"{picture['protocol']}+{sound['protocol']}"}
    return (
        both | {key: picture.get(key) for key in ("width", "height", "fps", "vcodec")} | {"acodec": sound.get("acodec")}
    )


def _show(state: Mapping[str, Any], bar: tqdm[Any]) -> None:
    bar.total = state.get("total_bytes") or state.get("total_bytes_estimate") or bar.total
    bar.update((state.get("downloaded_bytes") or 0) - bar.n)


def _open(**options: Any) -> YoutubeDL:
    from yt_dlp import YoutubeDL

    logger = _Logger()
    settings: dict[str, Any] = {
        "logger": logger,
        "noprogress": True,
        "cachedir": False,
        "extract_flat": "in_playlist",
        "ffmpeg_location": find_ffmpeg(),
        "retries": len(WAITS),
        "fragment_retries": len(WAITS),
        "extractor_retries": len(WAITS),
        "file_access_retries": len(WAITS),
        "retry_sleep_functions": dict.fromkeys(("http", "fragment", "extractor", "file_access"), logger.wait),
        "skip_unavailable_fragments": False,
        "socket_timeout": 30,
    }
    # yt-dlp prefers its own list of certificates to the one that this machine was told to use.
    settings |= {"compat_opts": {"no-certifi"}} if os.environ.get("SSL_CERT_FILE") else {}
    ydl = YoutubeDL(cast(Any, settings | options))
    if token := os.environ.get(TOKEN):
        ydl.cookiejar.set_cookie(_twitch_cookie(token))
    return ydl


def _twitch_cookie(token: str) -> Cookie:
    address = {"domain": ".twitch.tv", "domain_specified": True, "domain_initial_dot": True, "path": "/", "port": None}
    rest = {"path_specified": True, "port_specified": False, "secure": True, "expires": None, "discard": True}
    return Cookie(0, "auth-token", token, **address, **rest, comment=None, comment_url=None, rest={})


class _Logger:
    """Takes yt-dlp's lines; what matters to a user comes as an error anyway, but for what it tries again by itself."""

    def __init__(self) -> None:
        self._reason = ""

    def debug(self, message: str) -> None:
        line = _plain(message)
        _log.debug("%s", line)
        if (found := re.match(r"(?:\[[^\]]*\] )?(?:Got error: )?(.*?)\.? Retrying\b.*\(\d+/\d+\)", line)) is not None:
            self._reason = found[1]

    info = warning = error = debug

    def wait(self, n: int) -> float:
        """How long yt-dlp is to wait after `n` further tries, having said why."""
        left = waits_after(self._reason, WAITS)
        seconds = left[min(n, len(left) - 1)]
        tell_wait(self._reason or "It did not come", seconds, number=n + 2, most=len(WAITS) + 1)
        return seconds


def _ask(ydl: YoutubeDL, link: str) -> dict[str, Any]:
    facts = _failing_plainly(lambda: ydl.extract_info(link, download=False), link)
    if not isinstance(facts, dict):
        raise HlkitError(f"yt-dlp finds no video at {link}. Check the link.")
    if isinstance(facts.get("entries"), Iterator):
        facts["entries"] = list(facts["entries"])
    return facts


def _failing_plainly(work: Callable[[], Any], link: str) -> Any:
    """What `work` returns, tried again where that may help; yt-dlp's errors become one sentence.

    Raises:
        HlkitError: with yt-dlp's own reason.
    """
    return patiently(lambda: _tried(work, link), waits=WAITS, passing=PassingError)


def _tried(work: Callable[[], Any], link: str) -> Any:
    from yt_dlp.utils import YoutubeDLError

    try:
        return work()
    except YoutubeDLError as error:
        reason = _plain(str(error))
    except MISREADINGS as error:
        reason = _plain(f"{type(error).__name__}: {error}; it may not know how this site is made now")
    # Not raised above: yt-dlp's exceptions hold the requests that were sent, cookies and all.
    hint = " Is this computer connected to the internet?" if UNANSWERED.search(reason) else ""
    kind = PassingError if re.search(PASSING, reason) else HlkitError
    raise kind(f"{link} can't be downloaded. yt-dlp says: {reason}{hint}")


def _plain(message: str) -> str:
    """yt-dlp's message in one line, without colours, the queries of links, and its appeal to report a bug."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", message).split("; please report this issue")[0]
    text = text.split(" (caused by ", maxsplit=1)[0]  # the same once more, as Python writes it
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1", " ".join(text.split()))
    if token := os.environ.get(TOKEN):
        text = text.replace(token, "***")
    return text.removeprefix("ERROR: ")[:500]
