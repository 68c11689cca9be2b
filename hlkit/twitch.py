"""Twitch by way of the program twitch-dl: a VOD or a clip with its facts, a channel's videos and clips, a VOD's chat.

twitch-dl (3.3, https://twitch-dl.bezdomni.net) is GPL software and runs as a program of its own. Left to itself it asks
when something is open, ends with status 0 when a video is missing, stops at one refused segment, and joins what there
is of a stream that still runs. So everything is settled before it starts, and what it leaves is checked.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar

import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError, HlkitWarning, need_disk, safe_id
from hlkit.sources import ANALYSIS_HEIGHT, Rendition, Source, rank_renditions
from hlkit.video import find_ffmpeg, probe

# The environment variable (or notebook secret) with the `auth_token` cookie of a Twitch account.
TOKEN = "TWITCH_AUTH_TOKEN"

# Seconds before each further attempt: a server that is busy gets more time each time.
WAITS = (2.0, 10.0, 30.0)

# Twitch states a VOD's length in whole seconds and may cut a segment at its end; more than this is a broken download.
MISSING_SECONDS = 30
MISSING_SHARE = 0.1  # of a short clip

# Six hours of 360p take 1.7 GB, of 1080p60 18.6 GB: bytes a second grow by this power of the height.
ANALYSIS_BYTES_PER_SECOND = 79_000
HEIGHT_POWER = 2.2

# Reading blocks: where signals go to any thread, Ctrl-C would wait for the program's next line.
STOP_SECONDS = 0.2

# How segments begin: ISO 13818-1, 2.4.3.2; ISO 14496-12, 8.16.
TS_SYNC = b"\x47"
MP4_BOXES = (b"ftyp", b"styp", b"sidx", b"moof", b"emsg", b"prft")

# A clip is made some time after what it shows, while the stream or its last minutes run.
CLIP_DELAY = timedelta(minutes=10)
MAX_CLIPS = 100

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class TwitchDlError(HlkitError):
    """twitch-dl did not bring what Twitch has; another program might."""


def twitch_facts(source: Source) -> dict[str, Any]:
    """What `twitch-dl info --json` says of a VOD or a clip, tried again after growing waits.

    Raises:
        HlkitError: when there is no such video.
        TwitchDlError: when twitch-dl or Twitch fails all the time.
    """

    def ask() -> dict[str, Any]:
        facts = _read_json(_run_for_output(["info", _address(source), "--json"]))
        if not isinstance(facts, dict):
            raise TwitchDlError(f"twitch-dl says nothing that can be read about {source.link}.")
        return facts

    return _patiently(ask, source.link)


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
    """Title, channel, time of publishing and chapters (start, end in s, title), and the length in seconds."""
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


class _MissingRenditionError(TwitchDlError):
    """Twitch lists this rendition but does not have it."""


def _fetch_rendition(source: Source, rendition: Rendition, target: Path, length: float, progress: bool) -> None:
    # One folder for each quality, or the segments of two would be joined.
    work = target.with_name(f"{target.stem}-{safe_id(rendition.names[0])}")
    work.mkdir(parents=True, exist_ok=True)
    here = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    size = expected_bytes(rendition.height, length)
    # The segments and the video that is joined from them lie side by side for a moment.
    need_disk(work, max(2 * size - here, size), what=f"{source.link} in {rendition.names[-1]}")
    fetched = _patiently(lambda: _attempt(source, rendition, work, length, target.stem, progress), source.link)
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
                ["download", _address(source), *options], cwd=work, on_line=lambda line: _show(line, bar)
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


def list_channel(name: str, *, limit: int) -> pl.DataFrame:
    """The newest `limit` VODs of a Twitch channel, newest first, without one that still runs.

    Returns:
        `id` str, `title` str, `length` f64 s, `published` str (ISO 8601, UTC), `link` str.

    Raises:
        HlkitError: when there is no such channel.
    """
    words = ["videos", name, "--limit", str(limit), "--sort", "time", "--skip-live", "--json"]
    videos = _patiently(lambda: _read_json(_run_for_output(words)), f"the channel {name}")["videos"]
    rows = [
        {
            "id": str(video["id"]),
            "title": video.get("title") or "",
            "length": float(video.get("lengthSeconds") or 0),
            "published": video.get("publishedAt") or video.get("createdAt") or "",
            "link": Source("vod", str(video["id"])).link,
        }
        for video in videos[:limit]
    ]
    return pl.DataFrame(rows, schema=LISTING)


LISTING = {"id": pl.String, "title": pl.String, "length": pl.Float64, "published": pl.String, "link": pl.String}


def fetch_clips(channel: str, started: str, length: float) -> list[dict[str, Any]]:
    """The clips that viewers made during a stream, out of the channel's 100 most seen, as `read_clips` gives them.

    Args:
        channel: the login name.
        started: when the stream began, ISO 8601.
        length: of the stream, in seconds.
    """
    age = datetime.now(UTC) - _parse_time(started)
    words = ["clips", channel, "--limit", str(MAX_CLIPS), "--period", clips_period(age), "--json"]
    return read_clips(_patiently(lambda: _read_json(_run_for_output(words)), f"{channel}'s clips"), started, length)


def clips_period(age: timedelta) -> str:
    """The shortest of twitch-dl's periods that reaches back to a stream of that age."""
    periods = {"last_day": 1, "last_week": 7, "last_month": 30}
    return next((name for name, days in periods.items() if age < timedelta(days=days)), "all_time")


def read_clips(clips: Sequence[Mapping[str, Any]], started: str, length: float) -> list[dict[str, Any]]:
    """Those of a channel's clips that were made during a stream.

    Each has `link`, `title`, `views`, `length` (s) and `made`: seconds into the stream when somebody made it, which is
    up to some minutes after what it shows. Twitch does not tell twitch-dl where in the stream a clip lies.
    """
    found = []
    for clip in clips:
        made = _parse_time(clip["createdAt"]) - _parse_time(started)
        if timedelta(0) <= made <= timedelta(seconds=length) + CLIP_DELAY:
            about = {"link": clip["url"], "title": clip["title"], "views": clip["viewCount"]}
            found.append(about | {"length": float(clip["durationSeconds"]), "made": made.total_seconds()})
    return sorted(found, key=lambda clip: clip["made"])


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def fetch_chat_json(source: Source, target: Path, *, progress: bool = True) -> None:
    """Write a VOD's chat to `target` as `twitch-dl chat json` gives it."""

    def ask() -> None:
        with tqdm(total=100, desc="chat", unit="%", mininterval=0.5, disable=not progress) as bar:

            def show(line: str) -> None:
                if found := re.match(r"Loading Comments .*\((\d+)%\)", line):
                    bar.update(min(int(found[1]), 100) - bar.n)

            words = ["chat", "json", _address(source), "--output", target.name, "--overwrite"]
            try:
                said = run_twitch_dl(words, cwd=target.parent, on_line=show)
            except TwitchDlError as error:
                if "IndexError" in str(error):  # version 3.3 falls over an empty page
                    raise HlkitError(f"Twitch has no chat of {source.link}: nobody wrote, or it is gone.") from error
                raise
        if not target.is_file():
            raise TwitchDlError(f"twitch-dl ended without a chat: {said}")

    _patiently(ask, f"the chat of {source.link}")


def _patiently(work: Callable[[], Result], what: str) -> Result:
    """Do `work` again after each of `WAITS` while twitch-dl fails for a reason that may pass."""
    for wait in WAITS:
        try:
            return work()
        except _MissingRenditionError:
            raise
        except TwitchDlError as error:
            _log.info("%s: %s; trying again in %g s", what, error, wait)
            time.sleep(wait)
    return work()


def _address(source: Source) -> str:
    return source.name if source.kind == "vod" else source.link


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise TwitchDlError(f"twitch-dl's answer can't be read: {text[:200]!r}") from error


def _run_for_output(args: list[str]) -> str:
    with tempfile.TemporaryDirectory() as work:
        return run_twitch_dl(args, cwd=Path(work))


def run_twitch_dl(args: list[str], *, cwd: Path, on_line: Callable[[str], object] | None = None) -> str:
    """Run twitch-dl without input to its end; no process of it outlives an exception.

    Args:
        args: what follows the program's name. Secrets do not belong here: other users can list command lines.
        cwd: its working folder, where it may also keep a cache.
        on_line: takes its lines as they come, on other threads.

    Returns:
        Its output; with `on_line` its last words on the error stream.

    Raises:
        HlkitError: when it says that there is no such video or channel, or that it may be for subscribers only.
        TwitchDlError: when it fails for another reason, with its last words.
    """
    process = subprocess.Popen(
        [_twitch_dl(), *args],
        cwd=cwd,
        env=_environment(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it starts ffmpeg, which must end with it
        preexec_fn=_die_with_parent(),
    )
    assert process.stdout is not None and process.stderr is not None
    words: deque[str] = deque(maxlen=3)
    output: list[str] = []

    def listen(stream: IO[bytes], keep: Callable[[str], object]) -> None:
        for line in _plain_lines(_blocks(stream)):
            keep(line)

    def take(line: str) -> None:
        if on_line is not None:
            on_line(line)

    def take_words(line: str) -> None:
        words.append(line)
        take(line)

    jobs = ((process.stdout, output.append if on_line is None else take), (process.stderr, take_words))
    listeners = [threading.Thread(target=listen, args=job, daemon=True) for job in jobs]
    try:
        for listener in listeners:
            listener.start()
        for listener in listeners:
            while listener.is_alive():
                listener.join(STOP_SECONDS)
        status = process.wait()
    finally:
        _end(process)
        for listener in listeners:
            listener.join()
        process.stdout.close()
        process.stderr.close()
    last = _reason(" ".join(words))
    if re.search(r"(Video|Clip|Channel) \S+ not found", last):
        raise HlkitError(f"Twitch has nothing there: {last}. Check the link; VODs are deleted after some weeks.")
    if status and re.search("sub-only|auth token", last):
        advice = (
            f"put the auth_token cookie of an account that may see it into {TOKEN} (environment or notebook secret)"
        )
        raise HlkitError(f"This video may be for subscribers only: {last} Then {advice}.")
    if status:
        raise TwitchDlError(f"twitch-dl failed with status {status}: {last}")
    return "\n".join(output) if on_line is None else last


def _reason(words: str) -> str:
    """The reason in twitch-dl's last words, without Python's traceback and without secrets.

    In the queries of links stand Twitch's signatures for this account.
    """
    if found := re.search(r"[\w.]*(?:Error|Exception): .*", words):
        words = found[0].split(" For more information check")[0]
    if token := os.environ.get(TOKEN):
        words = words.replace(token, "***")
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1", words)[-500:] or "it gave no reason"


def _twitch_dl() -> str:
    beside = Path(sys.executable).with_name("twitch-dl")  # a virtual environment that is used without being activated
    if found := shutil.which("twitch-dl") or shutil.which(str(beside)):
        return found
    raise HlkitError("The program twitch-dl is not here. Run `pip install twitch-dl`.")


def _die_with_parent() -> Callable[[], object] | None:
    """What makes a child end when this process is killed: or it would go on writing beside the run that follows."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _environment(work: Path) -> dict[str, str]:
    """This process's environment, in which twitch-dl finds an ffmpeg, a folder for its cache, and the token.

    twitch-dl reads every option from a variable too. A user's own would change what is settled here; the token's is the
    one way to hand it over that is not a command line.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWITCH_DL_")}
    if token := os.environ.get(TOKEN):
        environment |= {"TWITCH_DL_INFO_AUTH_TOKEN": token, "TWITCH_DL_DOWNLOAD_AUTH_TOKEN": token}
    environment["XDG_CACHE_HOME"] = str(work.resolve())
    if not shutil.which("ffmpeg"):
        link = work / "bin" / "ffmpeg"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(find_ffmpeg())
        environment["PATH"] = f"{link.parent.resolve()}{os.pathsep}{os.environ.get('PATH', '')}"
    return environment


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := os.read(stream.fileno(), 4096):
        yield block


def _plain_lines(blocks: Iterator[bytes] | Sequence[bytes]) -> Iterator[str]:
    """The lines in a terminal's output as they come, without colours; a carriage return ends a line too."""
    rest = ""
    for block in blocks:
        *lines, rest = re.split(r"[\r\n]+", rest + block.decode("utf-8", "replace"))
        yield from filter(None, map(_plain, lines))
    if _plain(rest):
        yield _plain(rest)


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip()
