"""Download: a file on this computer, or a video on Twitch or another site, becomes a video of the project."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from tqdm.auto import tqdm

from hlkit.channel import fetch_clips, list_channel
from hlkit.faults import find_jump
from hlkit.project import VIDEO_SUFFIXES, HlkitError, HlkitWarning, atomic_path, need_disk, safe_id, write_text
from hlkit.sources import Source, default_id, parse_source
from hlkit.twitch import fetch_twitch
from hlkit.twitchdl import TwitchDlError
from hlkit.video import FFmpegError, open_container, probe, run_ffmpeg
from hlkit.web import fetch_web, list_web

COPY_BLOCK = 1 << 22

_log = logging.getLogger(__name__)


def download(
    source: str | Path,
    folder: Path,
    *,
    video_id: str | None = None,
    quality: str = "analysis",
    progress: bool = True,
) -> Path:
    """Bring one recording into `folder` as `<id><suffix>`, with `<id>.json` (source, title, length in s, chapters).

    A file is linked where the disk allows it, else copied; a recording whose clock starts again (joined MPEG-TS) is
    rewritten with one clock, as `.mkv` (HlkitWarning). What comes from a site is kept in a hidden folder until all
    is there, so that a download that was broken off goes on where it stopped. Twitch comes by way of twitch-dl and,
    when that fails time and again, of yt-dlp (HlkitWarning). The video gets its name when it is whole.

    Args:
        source: a file, the link or number of a Twitch VOD, the link of a Twitch clip or of a video on another site.
        folder: the project's `videos`.
        video_id: the id; made from the source unless given.
        quality: of what a site offers: `analysis` (nearest to 360p), `source` (the best) or a name such as `720p60`.
        progress: show a progress bar.

    Raises:
        HlkitError: when the source is none of these, the quality is not offered, the download fails, or what came is no
            whole video.
    """
    known = parse_source(source)
    if known.kind == "channel":
        raise HlkitError(f"{known.link} is a channel. Give the link of one of its videos: `hlkit channel` lists them.")
    video = video_id or default_id(source)
    suffix = Path(known.name).suffix.lower() if known.kind == "file" else ".mp4"
    jumps = known.kind == "file" and find_jump(Path(known.name)) is not None
    target = folder / f"{video}{'.mkv' if jumps else suffix}"
    check_target(target, video)
    folder.mkdir(parents=True, exist_ok=True)
    if jumps:
        about = _rewrite_file(Path(known.name), target, progress=progress)
    elif known.kind == "file":
        about = _take_file(Path(known.name), target, progress=progress)
    else:
        target, about = _take_from_site(known, target, quality=quality, progress=progress)
    about = {"source": str(source)} | about | {"length": probe(target).duration}
    write_text(target.with_name(f"{video}.json"), json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return target


def check_target(target: Path, video: str) -> None:
    """Raise HlkitError unless `target` can become the recording of that id: its name, and what is beside it."""
    suffix = target.suffix
    if video != safe_id(video):
        raise HlkitError(f"'{video}' can't be a video's id. Letters, digits, - _ and . can: '{safe_id(video)}'.")
    if suffix not in VIDEO_SUFFIXES:
        raise HlkitError(f"'{suffix}' is not the suffix of a video. These are: {', '.join(VIDEO_SUFFIXES)}.")
    for other in VIDEO_SUFFIXES:
        if other != suffix and target.with_suffix(other).exists():
            name = f"{video}{other}"
            raise HlkitError(f"The project already has a video '{video}' ({name}). Choose another id, or delete it.")


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


def _rewrite_file(source: Path, target: Path, *, progress: bool) -> dict[str, Any]:
    """Copy the packets into a Matroska file whose clock does not jump; nothing is encoded.

    Raises:
        HlkitError: when it is too damaged for that.
    """
    reason = f"{source.name} is made of several recordings, and its clock starts again"
    warnings.warn(f"{reason}; rewriting it with one clock as {target.name}.", HlkitWarning, stacklevel=3)
    need_disk(target.parent, source.stat().st_size, what=f"A copy of {source}")
    with atomic_path(target) as temporary:
        copy = ["-i", f"file:{source.resolve()}", "-map", "0:V:0", "-map", "0:a?", "-c", "copy", str(temporary)]
        try:
            run_ffmpeg(copy, desc=source.name, progress=progress)
        except FFmpegError as error:
            reason = str(error).splitlines()[-1]
            raise HlkitError(
                f"{source} is damaged and can't be rewritten ({reason}). Copy or download it again."
            ) from error
    return {"title": source.stem, "chapters": []}


def _copy(source: Path, target: Path, *, progress: bool) -> None:
    size = source.stat().st_size
    need_disk(target.parent, size, what=f"A copy of {source}")
    bar = tqdm(total=size, desc=source.name, unit="B", unit_scale=True, mininterval=0.5, disable=not progress)
    with bar, source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(COPY_BLOCK):
            writer.write(block)
            bar.update(len(block))


def _take_from_site(known: Source, target: Path, *, quality: str, progress: bool) -> tuple[Path, dict[str, Any]]:
    """Fetch what a site has, in a hidden folder until its pictures are known to be readable."""
    hidden = target.parent / ".fetching" / target.stem / target.name
    if known.kind == "web":
        hidden, about = fetch_web(known.name, hidden, quality=quality, progress=progress)
    else:
        try:
            about = fetch_twitch(known, hidden, quality=quality, progress=progress)
        except TwitchDlError as error:
            warnings.warn(f"{error} Taking yt-dlp instead.", HlkitWarning, stacklevel=2)
            hidden, about = fetch_web(known.link, hidden, quality=quality, progress=progress)
    try:
        _check_pictures(hidden)
    except HlkitError:
        hidden.unlink()
        raise
    final = target.with_suffix(hidden.suffix)
    hidden.replace(final)
    shutil.rmtree(hidden.parent)
    with suppress(OSError):  # another download may be at work there
        hidden.parent.parent.rmdir()
    return final, about | _clips(known, about, probe(final).duration)


def _check_pictures(video: Path) -> None:
    """Refuse a codec that is here for nobody: sites offer AV1 and HEVC too."""
    from av.error import FFmpegError as LibavError

    codec = probe(video).codec
    try:
        with open_container(video) as (container, stream):
            next(container.decode(stream))
    except (LibavError, StopIteration) as error:
        reason = f"The pictures came as {codec}, and can't be decoded here ({error!r})"
        raise HlkitError(f"{reason}. Choose another quality, such as 720p60.") from error


def _clips(known: Source, about: dict[str, Any], length: float) -> dict[str, Any]:
    """The clips that viewers made of a VOD, as `{"clips": [...]}`; nothing where Twitch does not give them."""
    channel, started = about.get("channel"), about.get("published")
    if known.kind != "vod" or not channel or not started:
        return {}
    try:
        return {"clips": fetch_clips(channel, started, length)}
    except HlkitError as error:
        warnings.warn(f"The clips of {known.link} are left out: {error}", HlkitWarning, stacklevel=2)
        return {}


def list_videos(source: str, *, limit: int) -> pl.DataFrame:
    """The newest `limit` videos of a Twitch channel (name or link), or of another site's channel or playlist (link).

    Returns:
        `id` str, `title` str, `length` f64 s (null where the site does not tell), `published` str (ISO 8601, or empty),
        `link` str.

    Raises:
        HlkitError: when there is no such channel.
    """
    if limit < 1:
        raise HlkitError(f"The limit is {limit}. Give 1 or more.")
    if not source.strip():
        raise HlkitError("No channel is named. Give a Twitch channel's name, or the link of a channel or playlist.")
    known = parse_source(source if "/" in source else f"https://www.twitch.tv/{source}")
    match known.kind:
        case "channel":
            return list_channel(known.name, limit=limit)
        case "web":
            return list_web(known.name, limit=limit)
    raise HlkitError(f"'{source}' is no channel. Give a Twitch channel's name, or the link of a channel or playlist.")
