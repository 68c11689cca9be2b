"""Analyse low, cut high: a reel out of a site's best rendition, of which only the cuts' own stretches are fetched.

The recording here is a small rendition. The large one is a list of segments of a few seconds (HLS, RFC 8216) or a file
with an index: what a cut needs of it is fetched into a *piece*. The clocks of the two renditions can differ, so each
piece is laid over the recording by its pictures: the first ones of the cut are looked for in the piece, to the frame.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.cuts import Cut
from hlkit.project import HlkitError, atomic_path, format_time
from hlkit.reel import Piece, write_pieces
from hlkit.sampling import SEEK_MARGINS
from hlkit.sources import parse_source, rank_renditions
from hlkit.twitch import read_renditions, twitch_facts
from hlkit.video import open_container, probe
from hlkit.web import Stream, find_stream

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# The clocks of two renditions are looked for so far apart; more would fetch more.
SEARCH_SECONDS = 2.0
# So much from a cut's start is compared: long enough to hold a movement, short beside a segment.
COMPARE_SECONDS = 2.0
# Small enough that the renditions' sharpness does not count, large enough that a movement does.
COMPARE_SIZE = (32, 18)
# Grey levels of 255: a small rendition's own loss stays below, two different scenes lie above.
MAX_DIFFERENCE = 20.0
# Offsets that fit as well as the best to within this much can't be told apart (a still picture).
SAME_SHARE, SAME_LEVELS = 1.02, 0.05

THREADS = 4
TIMEOUT_SECONDS = 30
# Seconds before each further attempt at a segment.
WAITS = (1.0, 4.0, 15.0)

_log = logging.getLogger(__name__)


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


def plan_runs(cuts: Sequence[Cut], segments: Sequence[Segment], *, margin: float = SEARCH_SECONDS) -> list[range]:
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
            raise HlkitError(f"The cut {cut} lies behind the source's end, {length}. Cut from the local recording.")
        runs.append(range(touched[0], touched[-1] + 1))
    return runs


def find_source(source: str) -> Stream:
    """Where a video's best rendition lies now.

    Args:
        source: what the recording was downloaded from (`source` in its JSON).

    Raises:
        HlkitError: when it was no site, or the video is gone.
    """
    known = parse_source(source)
    if known.kind == "vod":
        best = rank_renditions(read_renditions(twitch_facts(known)), "source")[0]
        return Stream(best.url, None, is_hls=True, headers={})
    if known.kind != "web":
        reason = "a file on this computer" if known.kind == "file" else "a clip, which comes whole"
        raise HlkitError(f"The recording was {reason}: there is no larger source. Cut from the local recording.")
    return find_stream(known.name)


def write_remote_reel(
    video: Path,
    source: Stream,
    cuts: Sequence[Cut],
    target: Path,
    *,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    crf: int = 20,
    progress: bool = True,
) -> None:
    """Write the reel of `write_reel` in a larger rendition's pictures; only the cuts' segments of it are fetched.

    What has been fetched is kept beside `target` until the reel is finished.

    Args:
        video: the local, small rendition; the times of `cuts` are its times.
        source: where the large one lies, from `find_source`.
        cuts: as for `write_reel`; their pictures are those of the source that show what the local ones show.
        target: where the reel goes; ends with `.mp4`.
        overlay: as for `write_reel`.
        scores: as for `write_reel`.
        crf: as for `write_reel`.
        progress: show progress bars.

    Raises:
        HlkitError: when a segment can't be had, or the source does not show what the local recording shows.
    """
    work = target.parent / f".source-{target.stem}"
    work.mkdir(parents=True, exist_ok=True)
    fetch = _fetch_segments if source.is_hls and source.sound_url is None else _copy_stretches
    pieces = fetch(source, cuts, work, progress)
    pieces = align(video, pieces, cuts)
    write_pieces(pieces, cuts, target, overlay=overlay, scores=scores, crf=crf, progress=progress)
    shutil.rmtree(work)


def _fetch_segments(source: Stream, cuts: Sequence[Cut], work: Path, progress: bool) -> list[Piece]:
    """The pieces of a playlist: each cut's segments, one after another."""
    segments = read_playlist(_get(source.url, source.headers).decode("utf-8", "replace"), source.url)
    runs = plan_runs(cuts, segments)
    _fetch({number for run in runs for number in run}, segments, source.headers, work, progress)
    files = {run: _join(run, segments, work) for run in set(runs)}
    return [Piece(probe(files[run]), segments[run[0]].start) for run in runs]


def _fetch(
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
        content = _get(segment.url, headers, first_byte=segment.first_byte, size=segment.size)
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)


def _get(url: str, headers: Mapping[str, str], *, first_byte: int | None = None, size: int | None = None) -> bytes:
    """What is at `url`, whole, or the stated bytes of it; tried again after growing waits.

    Raises:
        HlkitError: when it does not come; names the link without its query, where signatures stand.
    """
    headers = {"User-Agent": "Mozilla/5.0 (hlkit)"} | dict(headers)  # some sites refuse Python's own
    if first_byte is not None and size is not None:
        headers["Range"] = f"bytes={first_byte}-{first_byte + size - 1}"
    reason = ""
    for wait in (0.0, *WAITS):
        time.sleep(wait)
        try:
            # A shared opener would keep the proxy settings of its first use.
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.build_opener().open(request, timeout=TIMEOUT_SECONDS) as answer:
                content = answer.read()
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = str(error)
            if isinstance(error, urllib.error.HTTPError) and error.code == 404:
                break
            continue
        return content if size is None or len(content) == size else content[first_byte : (first_byte or 0) + size]
    where = url.split("?", maxsplit=1)[0]
    raise HlkitError(f"{where} does not come ({reason}). Run this again, or cut from the local recording.")


def _join(run: range, segments: Sequence[Segment], work: Path) -> Path:
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


def _copy_stretches(source: Stream, cuts: Sequence[Cut], work: Path, progress: bool) -> list[Piece]:
    """The pieces of a file on the web: what lies around each cut, copied by byte ranges as its index says."""
    pieces = []
    for cut in tqdm(cuts, desc="source", unit="cut", mininterval=0.5, disable=not progress):
        piece = work / f"{cut.start:.3f}-{cut.end:.3f}.mkv"
        if not piece.is_file():
            _copy_stretch(source, max(0.0, cut.start - SEARCH_SECONDS), cut.end + SEARCH_SECONDS, piece)
        info = probe(piece)
        pieces.append(Piece(info, info.start_time))
    return pieces


def _copy_stretch(source: Stream, start: float, end: float, target: Path) -> None:
    """Copy the packets between two times, and those before that they need, with the timestamps that they have."""
    import av
    from av.error import FFmpegError as LibavError

    lines = "".join(f"{name}: {value}\r\n" for name, value in source.headers.items())
    options = {"headers": lines, "reconnect": "1", "reconnect_on_network_error": "1", "rw_timeout": "30000000"}
    try:
        with ExitStack() as stack:
            inputs = [stack.enter_context(av.open(source.url, options=options))]
            if source.sound_url is not None:
                inputs.append(stack.enter_context(av.open(source.sound_url, options=options)))
            sound = inputs[-1].streams.audio[:1]
            with atomic_path(target) as temporary, av.open(str(temporary), "w") as output:
                streams = [(inputs[0], inputs[0].streams.video[0]), *((inputs[-1], stream) for stream in sound)]
                # All of them before the first packet, which writes the file's head.
                copies = [output.add_stream_from_template(stream) for _, stream in streams]
                for (container, stream), copy in zip(streams, copies, strict=True):
                    for packet in _packets_between(container, stream, start, end):
                        packet.stream = copy
                        output.mux(packet)
    except (LibavError, IndexError) as error:
        where = source.url.split("?", maxsplit=1)[0]
        reason = getattr(error, "strerror", None) or error
        raise HlkitError(
            f"{where} can't be cut ({reason}). Run this again, or cut from the local recording."
        ) from error


def _packets_between(
    container: InputContainer, stream: VideoStream | AudioStream, start: float, end: float
) -> Iterator[Packet]:
    container.seek(round(start * 1_000_000))
    for packet in container.demux(stream):
        if packet.dts is None or packet.time_base is None:
            continue
        if packet.dts * packet.time_base > end:
            return
        yield packet


def align(video: Path, pieces: Sequence[Piece], cuts: Sequence[Cut]) -> list[Piece]:
    """The pieces with the offsets at which they show what `video` shows at the beginning of each cut, to the frame.

    Where many offsets fit alike (a still picture), the one nearest to what the other cuts say is taken.

    Raises:
        HlkitError: when a piece does not show what the video shows; says how different it is.
    """
    fits = []
    for piece, cut in zip(pieces, cuts, strict=True):
        local = _pictures(video, cut.start, min(cut.end, cut.start + COMPARE_SECONDS))
        begin = cut.start - piece.offset
        distant = _pictures(piece.info.path, begin - SEARCH_SECONDS, begin + COMPARE_SECONDS + SEARCH_SECONDS)
        shifts, differences = compare(*local, *distant)
        if not len(shifts) or differences.min() > MAX_DIFFERENCE:
            reason = f"The source does not show at {format_time(cut.start)} what {video.name} shows there"
            raise HlkitError(f"{reason}. Was it downloaded from somewhere else? Cut from the local recording.")
        fits.append(shifts[differences <= differences.min() * SAME_SHARE + SAME_LEVELS] + piece.offset)
    sure = [float(fit[0]) for fit in fits if len(fit) == 1]
    usual = median(sure) if sure else 0.0
    # `fit` is how far the piece's clock is ahead of what the playlist states.
    shifts = [float(fit[np.abs(fit - usual).argmin()]) for fit in fits]
    _log.info("the source's clock is ahead by %s s", shifts)
    return [replace(piece, offset=piece.offset - shift) for piece, shift in zip(pieces, shifts, strict=True)]


def compare(
    times: np.ndarray, pictures: np.ndarray, other_times: np.ndarray, other_pictures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How well two stretches fit at each shift that puts the first picture of one on a picture of the other.

    Args:
        times: when each of `pictures` comes on screen, in seconds, ascending, (N,).
        pictures: grey, 0 to 255, (N, height, width).
        other_times: the same of the other, (M,).
        other_pictures: of the same size, (M, height, width).

    Returns:
        Shifts in seconds, to be added to `times`, (K,), K <= M: those that leave every picture something to be compared
        with; and the mean absolute difference at each, in grey levels, (K,).
    """
    if not len(times) or not len(other_times):
        return np.empty(0), np.empty(0)
    shifts = other_times - times[0]
    # A rounding must not put a picture before the one it belongs to.
    shifts = shifts[times[-1] + shifts <= other_times[-1] + 1e-3]
    shown = np.searchsorted(other_times, times[None, :] + shifts[:, None] + 1e-3, side="right") - 1  # (K, N)
    flat, other = pictures.reshape(len(times), -1), other_pictures.reshape(len(other_times), -1)
    differences = [np.abs(other[row].astype(np.float32) - flat).mean() for row in shown]
    return shifts, np.array(differences, dtype=np.float64)


def _pictures(video: Path, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Times (N,) and small grey pictures (N, height, width) of what comes on screen in `[start, end)`."""
    found = list(_decode(video, start, end))
    times = np.array([time for time, _ in found])
    return times, np.array([picture for _, picture in found])


def _decode(video: Path, start: float, end: float) -> Iterator[tuple[float, np.ndarray]]:
    width, height = COMPARE_SIZE
    with open_container(video) as (container, stream):
        origin = (container.start_time or 0) / 1_000_000
        slack = 0.5 / float(stream.average_rate or 30)
        if (seek := start - SEEK_MARGINS[1]) > 0:
            container.seek(round((origin + seek) * 1_000_000))
        for frame in container.decode(stream):
            if frame.time is None or (time_ := frame.time - origin) < start - slack:
                continue
            if time_ >= end - slack:
                return
            yield time_, frame.reformat(width, height, format="gray", interpolation="AREA").to_ndarray()
