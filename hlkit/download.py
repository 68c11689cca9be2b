"""Download: a file on this computer, or a Twitch VOD or clip by way of twitch-dl, becomes a video of the project.

twitch-dl is GPL software and runs as a program of its own. It asks when something is left open, so nothing is: the
quality is chosen here from what `twitch-dl info --json` offers, overwriting is on, and its input is closed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tqdm.auto import tqdm

from hlkit.project import VIDEO_SUFFIXES, HlkitError, atomic_path, safe_id, write_text
from hlkit.video import find_ffmpeg, probe

# The model sees 128 pixels; 360 lines are enough for that, and a sixth of the bytes of 1080.
ANALYSIS_HEIGHT = 360

# Twitch states a VOD's length in whole seconds and may cut a segment at its end; more than this is a broken download.
MISSING_SECONDS = 30

COPY_BLOCK = 1 << 22

ALLOWED = (
    "Give a video file on this computer, a Twitch VOD (https://www.twitch.tv/videos/1234567, or the number alone) "
    "or a Twitch clip (https://clips.twitch.tv/NameOfTheClip)"
)

_TWITCH_PATTERNS = {
    "vod": r"(?:(?:https?://)?(?:www\.|m\.)?twitch\.tv/(?:videos|\w+/v(?:ideo)?)/)?(\d{5,20})/?(?:\?.*)?",
    "clip": r"(?:https?://)?(?:clips\.twitch\.tv|(?:www\.|m\.)?twitch\.tv/\w+/clip)/([A-Za-z0-9_-]+)/?(?:\?.*)?",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What was asked for: `name` is a path, the number of a VOD or the slug of a clip."""

    kind: Literal["file", "vod", "clip"]
    name: str


@dataclass(frozen=True)
class Rendition:
    """One quality that Twitch offers: its `names` (the first is what twitch-dl takes) and its lines of picture."""

    names: tuple[str, ...]
    height: int
    is_source: bool = False


def parse_source(source: str | Path) -> Source:
    """Tell what `source` is; a file that exists goes before all else.

    Raises:
        HlkitError: when it is nothing that can be downloaded; says what can.
    """
    text = str(source).strip()
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    if _is_file(path):
        return Source("file", str(path))
    if found := re.fullmatch(_TWITCH_PATTERNS["vod"], text):
        return Source("vod", found[1])
    if found := re.fullmatch(_TWITCH_PATTERNS["clip"], text):
        return Source("clip", found[1])
    raise HlkitError(f"'{text}' is neither a file that is here nor a Twitch link. {ALLOWED}.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a link can be too long for a file name, or hold what no name can
        return False


def default_id(source: str | Path) -> str:
    """The id that a video gets when none is given: the file's name, the VOD's number or the clip's slug.

    Raises:
        HlkitError: as `parse_source` does.
    """
    known = parse_source(source)
    return safe_id(Path(known.name).stem if known.kind == "file" else known.name)


def choose_rendition(offered: Sequence[Rendition], quality: str) -> Rendition:
    """The rendition that `quality` means: `analysis` (nearest to 360 lines), `source` (the best), or one of the names.

    Raises:
        HlkitError: when it is not offered; lists what is.
    """
    listed = ", ".join(rendition.names[-1] for rendition in offered) or "nothing"
    if quality == "analysis" and offered:
        # Of 360p60 and 360p30 the shorter name has fewer pictures to decode.
        return min(offered, key=lambda each: (abs(each.height - ANALYSIS_HEIGHT), each.is_source, each.names[-1]))
    if quality == "source" and offered:
        return max(offered, key=lambda each: (each.is_source, each.height))
    for rendition in offered:
        if quality in rendition.names:
            return rendition
    raise HlkitError(
        f"Quality '{quality}' is not offered. This video has: {listed}; 'analysis' and 'source' choose one."
    )


def download(
    source: str | Path,
    folder: Path,
    *,
    video_id: str | None = None,
    quality: str = "analysis",
    progress: bool = True,
) -> Path:
    """Bring one recording into `folder` as `<id><suffix>`, with `<id>.json` (source, title, length in s, chapters).

    A file is linked where the disk allows it, else copied. A VOD's segments are kept in a hidden folder until all are
    there, so that a download that was broken off goes on where it stopped. The video gets its name when it is whole.

    Args:
        source: a file, or the link or number of a Twitch VOD, or the link of a Twitch clip.
        folder: the project's `videos`.
        video_id: the id; made from the source unless given.
        quality: of what Twitch offers: `analysis` (nearest to 360p), `source` (the best) or a name such as `720p60`.
        progress: show a progress bar.

    Raises:
        HlkitError: when the source is none of these, the quality is not offered, the download fails, or what came is no
            whole video.
    """
    known = parse_source(source)
    video = video_id or default_id(source)
    if video != safe_id(video):
        raise HlkitError(f"'{video}' can't be a video's id. Letters, digits, - _ and . can: '{safe_id(video)}'.")
    suffix = Path(known.name).suffix.lower() if known.kind == "file" else ".mp4"
    target = folder / f"{video}{suffix}"
    _check_target(target, suffix)
    folder.mkdir(parents=True, exist_ok=True)
    if known.kind == "file":
        about = _take_file(Path(known.name), target, progress=progress)
    else:
        about = _take_twitch(known, target, quality=quality, progress=progress)
    about = {"source": str(source)} | about | {"length": probe(target).duration}
    write_text(target.with_name(f"{video}.json"), json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return target


def _check_target(target: Path, suffix: str) -> None:
    if suffix not in VIDEO_SUFFIXES:
        raise HlkitError(f"'{suffix}' is not the suffix of a video. These are: {', '.join(VIDEO_SUFFIXES)}.")
    for other in VIDEO_SUFFIXES:
        if other != suffix and target.with_suffix(other).exists():
            name = f"{target.stem}{other}"
            raise HlkitError(
                f"The project already has a video '{target.stem}' ({name}). Choose another id, or delete it."
            )


def _take_file(source: Path, target: Path, *, progress: bool) -> dict[str, Any]:
    probe(source)
    if not (target.exists() and target.samefile(source)):
        with atomic_path(target) as temporary:
            try:
                os.link(source.resolve(), temporary)
                temporary.open("rb+").close()
            except OSError as error:
                _log.info("%s can't be linked (%s); copying it", source, error)
                temporary.unlink(missing_ok=True)
                _copy(source, temporary, progress=progress)
    return {"title": source.stem, "chapters": []}


def _copy(source: Path, target: Path, *, progress: bool) -> None:
    size = source.stat().st_size
    bar = tqdm(total=size, desc=source.name, unit="B", unit_scale=True, mininterval=0.5, disable=not progress)
    with bar, source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(COPY_BLOCK):
            writer.write(block)
            bar.update(len(block))


def _take_twitch(source: Source, target: Path, *, quality: str, progress: bool) -> dict[str, Any]:
    address = source.name if source.kind == "vod" else f"https://clips.twitch.tv/{source.name}"
    facts = _twitch_facts(address)
    about, length = read_facts(facts)
    rendition = choose_rendition(read_renditions(facts), quality)
    # One folder for each quality, or the segments of two would be joined.
    work = target.with_name(f".download-{target.stem}-{safe_id(rendition.names[0])}")
    work.mkdir(exist_ok=True)
    fetched = work / "video.mp4"
    fetched.unlink(missing_ok=True)
    options = ["--quality", rendition.names[0], "--overwrite", "--format", "mp4"]
    options += ["--output", fetched.name, "--cache-dir", "segments"]
    words = _run_twitch_dl(["download", address, *options], cwd=work, desc=target.stem, progress=progress)
    if not fetched.is_file():
        raise HlkitError(f"twitch-dl ended without a video: {words}")
    seconds = probe(fetched).duration
    if seconds < length - MISSING_SECONDS:
        raise HlkitError(f"Twitch states {length:.0f} s for {address}, but {seconds:.0f} s came. Run this again.")
    fetched.replace(target)
    shutil.rmtree(work)
    return about | {"quality": rendition.names[-1]}


def read_renditions(facts: Mapping[str, Any]) -> list[Rendition]:
    """The renditions in what `twitch-dl info --json` says: of a VOD (`playlists`) or of a clip (`videoQualities`)."""
    offered = []
    for playlist in facts.get("playlists") or ():
        name, group = str(playlist["name"]).removesuffix(" (source)"), str(playlist["group_id"])
        height = re.search(r"x(\d+)$", playlist.get("resolution") or "") or re.match(r"(\d+)p", name)
        if height is not None:  # there is also one of sound only
            is_source = bool(playlist.get("is_source"))
            offered.append(Rendition(("source" if is_source else group, group, name), int(height[1]), is_source))
    for place, clip in enumerate(facts.get("videoQualities") or ()):
        name = str(clip["quality"])
        offered.append(Rendition((name, f"{name}p"), int(name), is_source=place == 0))
    return offered


def read_facts(facts: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Title and chapters (start and end in seconds, title), and the length in seconds, from `twitch-dl info --json`."""
    chapters = [
        {
            "start": chapter["positionMilliseconds"] / 1000,
            "end": (chapter["positionMilliseconds"] + chapter["durationMilliseconds"]) / 1000,
            "title": chapter["description"],
        }
        for chapter in facts.get("chapters") or ()
    ]
    length = facts.get("lengthSeconds") or facts.get("durationSeconds") or 0
    return {"title": facts.get("title") or "", "chapters": chapters}, float(length)


def _twitch_facts(address: str) -> dict[str, Any]:
    command = [_twitch_dl(), "info", address, "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    reason = " ".join(_plain_lines([done.stderr]))[-500:] or "it gave no reason"
    try:
        facts = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise HlkitError(f"Twitch gives nothing for {address}. twitch-dl says: {reason}")
    return facts


def _twitch_dl() -> str:
    beside = Path(sys.executable).with_name("twitch-dl")  # a virtual environment that is used without being activated
    if found := shutil.which("twitch-dl") or shutil.which(str(beside)):
        return found
    raise HlkitError("The program twitch-dl is not here. Run `pip install twitch-dl`.")


def _run_twitch_dl(args: list[str], *, cwd: Path, desc: str, progress: bool) -> str:
    """Run twitch-dl with one progress line and return its last words; no process of it outlives an exception.

    Raises:
        HlkitError: when it reports failure, with its last words.
    """
    process = subprocess.Popen(
        [_twitch_dl(), *args],
        cwd=cwd,
        env=_environment(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it starts ffmpeg, which must end with it
    )
    assert process.stdout is not None and process.stderr is not None
    words: deque[str] = deque(maxlen=3)
    listener = threading.Thread(target=words.extend, args=(_plain_lines(_blocks(process.stderr)),), daemon=True)
    listener.start()
    try:
        with tqdm(total=100, desc=desc, unit="%", mininterval=0.5, disable=not progress) as bar:
            for line in _plain_lines(_blocks(process.stdout)):
                if found := re.match(r"Downloaded .*?(\d+)%", line):
                    bar.update(min(int(found[1]), 100) - bar.n)
        status = process.wait()
    finally:
        _end(process)
        listener.join()
        process.stdout.close()
        process.stderr.close()
    last = " ".join(words)[-500:] or "it gave no reason"
    if status:
        raise HlkitError(f"twitch-dl failed with status {status}: {last}")
    return last


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _environment(work: Path) -> dict[str, str]:
    """This process's environment, in which twitch-dl finds an `ffmpeg`."""
    if shutil.which("ffmpeg"):
        return dict(os.environ)
    link = work / "bin" / "ffmpeg"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(find_ffmpeg())
    return os.environ | {"PATH": f"{link.parent.resolve()}{os.pathsep}{os.environ.get('PATH', '')}"}


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
