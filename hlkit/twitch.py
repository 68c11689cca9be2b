"""A Twitch VOD or clip and what is known of it, by way of twitch-dl.

twitch-dl ends with status 0 when a video is missing, stops at one refused segment, and joins what there is of a stream
that still runs. So everything is settled before it starts, and what it leaves is checked.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from hlkit.project import HlkitError, HlkitWarning, need_disk, safe_id
from hlkit.sources import ANALYSIS_HEIGHT, Rendition, Source, rank_renditions
from hlkit.twitchdl import TwitchDlError, address_of, patiently, run_for_json, run_twitch_dl
from hlkit.video import probe

# Twitch states a VOD's length in whole seconds and may cut a segment at its end; more than this is a broken download.
MISSING_SECONDS = 30
MISSING_SHARE = 0.1  # of a short clip

# Six hours of 360p take 1.7 GB, of 1080p60 18.6 GB: bytes a second grow by this power of the height.
ANALYSIS_BYTES_PER_SECOND = 79_000
HEIGHT_POWER = 2.2

# How segments begin: ISO 13818-1, 2.4.3.2; ISO 14496-12, 8.16.
TS_SYNC = b"\x47"
MP4_BOXES = (b"ftyp", b"styp", b"sidx", b"moof", b"emsg", b"prft")


def twitch_facts(source: Source) -> dict[str, Any]:
    """What `twitch-dl info --json` says of a VOD or a clip, tried again after growing waits.

    Raises:
        HlkitError: when there is no such video.
        TwitchDlError: when twitch-dl or Twitch fails all the time.
    """

    def ask() -> dict[str, Any]:
        facts = run_for_json(["info", address_of(source), "--json"])
        if not isinstance(facts, dict):
            raise TwitchDlError(f"twitch-dl says nothing that can be read about {source.link}.")
        return facts

    return patiently(ask, source.link)


def read_renditions(facts: Mapping[str, Any]) -> list[Rendition]:
    """The renditions in what `twitch-dl info --json` says: of a VOD (`playlists`) or of a clip (`videoQualities`)."""
    offered = []
    for playlist in facts.get("playlists") or ():
        name, group = str(playlist["name"]).removesuffix(" (source)"), str(playlist["group_id"])
        height = re.search(r"x(\d+)$", playlist.get("resolution") or "") or re.match(r"(\d+)p", name)
        if height is not None:  # there is also one of sound only
            is_source = bool(playlist.get("is_source"))
            names = ("source" if is_source else group, group, name)
            offered.append(Rendition(names, int(height[1]), is_source, str(playlist.get("url") or "")))
    for place, clip in enumerate(facts.get("videoQualities") or ()):
        name = str(clip["quality"])
        offered.append(Rendition((name, f"{name}p"), int(name), is_source=place == 0))
    return offered


def read_facts(facts: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Title, channel, when it began (`published`), chapters (start, end in s, title); and the length in seconds."""
    chapters = [
        {
            "start": chapter["positionMilliseconds"] / 1000,
            "end": (chapter["positionMilliseconds"] + chapter["durationMilliseconds"]) / 1000,
            "title": chapter["description"],
        }
        for chapter in facts.get("chapters") or ()
    ]
    length = facts.get("lengthSeconds") or facts.get("durationSeconds") or 0
    owner = facts.get("owner") or facts.get("broadcaster") or {}
    about = {"title": facts.get("title") or "", "channel": owner.get("login"), "published": facts.get("createdAt")}
    return about | {"chapters": chapters}, float(length)


def expected_bytes(height: int, seconds: float) -> int:
    """About how large `seconds` of a Twitch rendition of so many lines are."""
    return round(ANALYSIS_BYTES_PER_SECOND * seconds * (height / ANALYSIS_HEIGHT) ** HEIGHT_POWER)


def fetch_twitch(source: Source, target: Path, *, quality: str, progress: bool = True) -> dict[str, Any]:
    """Bring a VOD or a clip to `target` (.mp4) and return what is known of it.

    Segments are kept in a folder beside `target` until the video is whole, so a download that was broken off goes on
    where it stopped. A rendition that is listed but can't be had gives way to the next (HlkitWarning) unless
    it was named.

    Raises:
        HlkitError: when there is no such video, it still runs, the quality is not offered, or the disk is too full.
        TwitchDlError: when twitch-dl fails all the time.
    """
    facts = twitch_facts(source)
    about, length = read_facts(facts)
    if facts.get("status") == "RECORDING":
        reason = f"The stream {source.link} is still running, so its video would come cut off"
        raise HlkitError(f"{reason}. Run this again when the stream has ended.")
    ranked = rank_renditions(read_renditions(facts), quality)
    for place, rendition in enumerate(ranked):
        try:
            _fetch_rendition(source, rendition, target, length, progress)
        except _MissingRenditionError as error:
            if place + 1 == len(ranked):
                raise TwitchDlError(str(error)) from error
            message = f"{error} Taking {ranked[place + 1].names[-1]} instead."
            warnings.warn(message, HlkitWarning, stacklevel=2)
        else:
            return about | {"quality": rendition.names[-1]}
    raise AssertionError("rank_renditions gives at least one")


class _MissingRenditionError(HlkitError):
    """Twitch lists this rendition but does not have it."""


def _fetch_rendition(source: Source, rendition: Rendition, target: Path, length: float, progress: bool) -> None:
    # One folder for each quality, or the segments of two would be joined.
    work = target.with_name(f"{target.stem}-{safe_id(rendition.names[0])}")
    work.mkdir(parents=True, exist_ok=True)
    here = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    size = expected_bytes(rendition.height, length)
    # The segments and the video that is joined from them lie side by side for a moment.
    need_disk(work, max(2 * size - here, size), what=f"{source.link} in {rendition.names[-1]}")
    fetched = patiently(lambda: _attempt(source, rendition, work, length, target.stem, progress), source.link)
    fetched.replace(target)
    shutil.rmtree(work)


def _attempt(source: Source, rendition: Rendition, work: Path, length: float, desc: str, progress: bool) -> Path:
    # A killed run's ffmpeg may still be joining, so no name is used by two attempts.
    for old in work.glob("attempt-*"):
        shutil.rmtree(old)
    fetched = Path(tempfile.mkdtemp(prefix="attempt-", dir=work)) / "video.mp4"
    options = ["--quality", rendition.names[0], "--overwrite", "--skip-live", "--keep", "--format", "mp4"]
    options += ["--output", f"{fetched.parent.name}/{fetched.name}", "--cache-dir", "segments"]
    with tqdm(total=100, desc=desc, unit="%", mininterval=0.5, disable=not progress) as bar:
        try:
            said = run_twitch_dl(
                ["download", address_of(source), *options], cwd=work, on_line=lambda line: _show(line, bar)
            )
        except TwitchDlError as error:
            if re.search(r"'40[34] .*\.m3u8", str(error)):
                name = rendition.names[-1]
                raise _MissingRenditionError(f"Twitch lists {name} for {source.link}, but does not have it.") from error
            raise
    if not fetched.is_file():
        raise TwitchDlError(f"twitch-dl ended without a video: {said}")
    if wrong := [file for file in (work / "segments").glob("*.[tm][sp]*") if not _is_segment(file)]:
        for file in wrong:
            file.unlink()
        raise TwitchDlError(f"Twitch sent something that is no video for {len(wrong)} segments of {source.link}.")
    wanted = length - min(MISSING_SECONDS, length * MISSING_SHARE)
    wanted = max(wanted, _length_of_playlist(work / "segments" / "playlist_downloaded.m3u8"))
    if (seconds := probe(fetched).duration) < wanted:
        # Whichever of the segments is wrong, fetching all again is what helps.
        shutil.rmtree(work / "segments", ignore_errors=True)
        raise TwitchDlError(f"Twitch states {length:.0f} s for {source.link}, but {seconds:.0f} s came.")
    return fetched


def _is_segment(file: Path) -> bool:
    """Whether a segment begins as one; an error page in its place would be joined into a gap without complaint."""
    with file.open("rb") as opened:
        head = opened.read(8)
    return head[:1] == TS_SYNC if file.suffix == ".ts" else head[4:] in MP4_BOXES


def _length_of_playlist(playlist: Path) -> float:
    """Seconds of video that a playlist's segments must give at least; 0 without a playlist."""
    if not playlist.is_file():
        return 0.0
    seconds = [float(length) for length in re.findall(r"^#EXTINF:([\d.]+)", playlist.read_text(), re.MULTILINE)]
    return sum(seconds) - max(seconds, default=0) / 2


def _show(line: str, bar: tqdm[Any]) -> None:
    if found := re.match(r"Downloaded .*?(\d+)%(.*)", line):
        bar.update(min(int(found[1]), 100) - bar.n)
        bar.set_postfix_str(re.sub(r" ETA.*", "", found[2]).strip(), refresh=False)
    elif line.startswith("Joining files"):
        bar.set_postfix_str("joining")
