"""The segments of a media playlist (HLS, RFC 8216): which of them a cut needs, and how they come."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from hlkit.cuts import Cut
from hlkit.project import HlkitError, atomic_path, format_time
from hlkit.tries import patiently

THREADS = 4
TIMEOUT_SECONDS = 30
# Seconds before each further attempt at a segment.
WAITS = (1.0, 4.0, 15.0)


class FetchError(HlkitError):
    """Something did not come; what did is kept, and a second run goes on from there."""


class BusyError(FetchError):
    """It did not come for a reason that may pass."""


@dataclass(frozen=True)
class Segment:
    """One segment of a media playlist: it shows `[start, end)`, seconds from the playlist's start.

    `first_byte` and `size` where it is a part of a file; `init` is the link of what must come before it (fMP4).
    """

    url: str
    start: float
    end: float
    first_byte: int | None = None
    size: int | None = None
    init: str | None = None


def read_playlist(text: str, url: str) -> list[Segment]:
    """The segments of the media playlist `text`, which came from `url`.

    Raises:
        HlkitError: when it is no finished media playlist, or what hlkit can't cut from: encrypted, with parts of
            different clocks, or with links that are not of the web.
    """
    import m3u8

    playlist = m3u8.loads(text, uri=url)
    if not playlist.segments or not playlist.is_endlist:
        raise HlkitError("The source has no playlist of a finished recording. Cut from the local recording instead.")
    segments, begin = [], 0.0
    for part in playlist.segments:
        if part.key is not None and part.key.method not in (None, "NONE"):
            raise HlkitError("The source is encrypted. Cut from the local recording instead.")
        # Only account holders get a muted segment's sound; all others get it without.
        link = part.absolute_uri.replace("-unmuted", "-muted")
        init = None if part.init_section is None else part.init_section.absolute_uri
        if any(urlsplit(each).scheme not in ("http", "https") for each in (link, init or link)):
            raise HlkitError("The source's playlist leads out of the web. It is not used.")
        first_byte, size = _byte_range(part.byterange, segments, link)
        end = begin + float(part.duration or 0)
        segments.append(Segment(link, begin, end, first_byte, size, init))
        begin = end
    return segments


def _byte_range(stated: str | None, before: Sequence[Segment], link: str) -> tuple[int | None, int | None]:
    """First byte and length of `#EXT-X-BYTERANGE` (RFC 8216, 4.3.2.2): without a start it follows the one before."""
    if stated is None:
        return None, None
    size, _, first = stated.partition("@")
    if not first and before and before[-1].url == link and before[-1].first_byte is not None:
        return before[-1].first_byte + (before[-1].size or 0), int(size)
    return int(first or 0), int(size)


def plan_runs(cuts: Sequence[Cut], segments: Sequence[Segment], *, margin: float) -> list[range]:
    """For each cut the segments that show it with `margin` seconds on both sides, as a range of their numbers.

    Raises:
        HlkitError: when a cut begins after the end of the last segment.
    """
    runs = []
    for cut in cuts:
        low, high = cut.start - margin, cut.end + margin
        touched = [number for number, each in enumerate(segments) if each.start < high and each.end > low]
        if not touched or cut.start >= segments[-1].end:
            length = format_time(segments[-1].end if segments else 0)
            raise HlkitError(f"The cut {cut} lies behind the source's end, {length}. Correct its times.")
        runs.append(range(touched[0], touched[-1] + 1))
    return runs


def fetch_segments(
    numbers: set[int], segments: Sequence[Segment], headers: Mapping[str, str], work: Path, progress: bool
) -> None:
    """Bring the segments of these numbers, and what must come before them, into `work`, unless they are there."""
    wanted = {_file(segments[number], work): segments[number] for number in sorted(numbers)}
    wanted |= {_file(Segment(init, 0, 0), work): Segment(init, 0, 0) for each in wanted.values() if (init := each.init)}
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(wanted), desc="source", unit="segment", mininterval=0.5, disable=not progress) as bar,
    ):
        jobs = [pool.submit(_fetch_one, segment, headers, file) for file, segment in wanted.items()]
        try:
            for job in jobs:
                job.result()
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _file(segment: Segment, work: Path) -> Path:
    """Where a segment is kept: signatures in the queries of links change from day to day, so they do not count."""
    key = f"{urlsplit(segment.url).path} {segment.first_byte} {segment.size}"
    return work / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.part"


def _fetch_one(segment: Segment, headers: Mapping[str, str], file: Path) -> None:
    if not file.is_file():
        content = get(segment.url, headers, first_byte=segment.first_byte, size=segment.size)
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)


def get(url: str, headers: Mapping[str, str], *, first_byte: int | None = None, size: int | None = None) -> bytes:
    """What is at `url`, whole, or the stated bytes of it; tried again after growing waits.

    Raises:
        FetchError: when it does not come; names the link without its query, where signatures stand.
    """
    headers = {"User-Agent": "Mozilla/5.0 (hlkit)"} | dict(headers)  # some sites refuse Python's own
    if first_byte is not None and size is not None:
        headers["Range"] = f"bytes={first_byte}-{first_byte + size - 1}"
    try:
        content = patiently(lambda: _ask(url, headers), waits=WAITS, passing=BusyError)
    except FetchError as error:
        raise FetchError(f"{error} Run this again, or cut from the local recording.") from None
    return content if size is None or len(content) == size else content[first_byte : (first_byte or 0) + size]


def _ask(url: str, headers: Mapping[str, str]) -> bytes:
    try:
        # A shared opener would keep the proxy settings of its first use.
        request = urllib.request.Request(url, headers=dict(headers))
        with urllib.request.build_opener().open(request, timeout=TIMEOUT_SECONDS) as answer:
            return answer.read()
    except (urllib.error.URLError, HTTPException, OSError) as error:
        kind = FetchError if isinstance(error, urllib.error.HTTPError) and error.code == 404 else BusyError
        where = url.split("?", maxsplit=1)[0]
        raise kind(f"{where} does not come ({error}).") from None


def join_segments(run: range, segments: Sequence[Segment], work: Path) -> Path:
    """One file of the segments of `run`, one after another."""
    chosen = [segments[number] for number in run]
    if len({segment.init for segment in chosen}) > 1:
        raise HlkitError("The source changes its format within a cut. Cut from the local recording instead.")
    parts = [_file(segment, work) for segment in chosen]
    if (init := chosen[0].init) is not None:
        parts.insert(0, _file(Segment(init, 0, 0), work))
    piece = work / f"{run[0]}-{run[-1]}.{'ts' if init is None else 'mp4'}"
    with atomic_path(piece) as temporary, temporary.open("wb") as writer:
        for part in parts:
            with part.open("rb") as reader:
                shutil.copyfileobj(reader, writer, 1 << 20)
    return piece
