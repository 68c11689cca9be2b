"""Cut lists for those who watch: YouTube chapters, links into a Twitch VOD, captions; and the list of all exports.

Conventions and sources:

- **YouTube chapters** (support.google.com/youtube/answer/9884579): a line each in the description, the first at 0:00,
  at least three, rising, each at least 10 s long. Times are whole seconds, rounded down. A highlight that begins less
  than 10 s after the chapter before it, or less than 10 s before the end, gets no chapter of its own; one that begins
  within the first 10 s of a stream names the chapter at 0:00.
- **Twitch links**: `https://www.twitch.tv/videos/NUMBER?t=1h2m3s`, whole seconds, rounded down. Only VODs have them.
- **YouTube links**: `https://youtu.be/ID?t=SECONDS`, as YouTube's own "copy link at the current time" has them.
- **SRT**: numbered captions, `hh:mm:ss,mmm`, a blank line after each. Times are rounded down to the millisecond, so
  that a caption is on screen with the first picture of its highlight and gone with the first one after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Literal, get_args

from hlkit.cutlist import CutList
from hlkit.editors import LeftOutError, milliseconds, to_edl, to_fcpxml, to_losslesscut, to_otio, to_resolve
from hlkit.project import format_time
from hlkit.sources import youtube_id

ExportKind = Literal["otio", "fcpxml", "edl", "resolve", "losslesscut", "chapters", "twitch", "youtube", "srt"]
EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)

MIN_CHAPTERS = 3
MIN_CHAPTER_SECONDS = 10


def write_exports(cuts: CutList, kind: ExportKind) -> dict[str, str | LeftOutError]:
    """The files of one kind: their suffixes, and their text or the reason why one does not apply.

    Example: `write_exports(cuts, "srt").keys()` are `.srt`, which fits the reel, and `.stream.srt`, which fits the
    recording.
    """
    made: dict[str, str | LeftOutError] = {}
    for suffix, write in _WRITERS[kind].items():
        try:
            made[suffix] = write(cuts)
        except LeftOutError as reason:
            made[suffix] = reason
    return made


def export_suffixes(kind: ExportKind) -> tuple[str, ...]:
    """What the names of a kind's files end with."""
    return tuple(_WRITERS[kind])


def reel_chapters(cuts: CutList) -> str:
    """YouTube chapters of the reel.

    Raises:
        LeftOutError: when there would be fewer than three.
    """
    names = ((begin / cuts.rate, _with_time(cuts, excerpt.first, excerpt.name)) for begin, excerpt in cuts.in_reel())
    return _chapters(names, cuts.reel_pictures / cuts.rate, "")


def stream_chapters(cuts: CutList) -> str:
    """YouTube chapters of the whole recording; what comes before the first highlight is named "Start".

    Raises:
        LeftOutError: when there would be fewer than three.
    """
    names = ((excerpt.first / cuts.rate, excerpt.name) for excerpt in cuts.excerpts)
    return _chapters(names, cuts.pictures / cuts.rate, "Start")


def twitch_links(cuts: CutList) -> str:
    """A line for each highlight: the link to its start in the VOD, a tab, its name and score.

    Raises:
        LeftOutError: when the recording is no Twitch VOD.
    """
    source = cuts.source
    if source is None or source.kind != "vod":
        raise LeftOutError("the recording is no Twitch VOD")
    lines = []
    for excerpt in cuts.excerpts:
        seconds = int(excerpt.first / cuts.rate)
        time = f"{seconds // 3600}h{seconds // 60 % 60}m{seconds % 60}s"
        lines.append(f"{source.link}?t={time}\t{excerpt.caption}\n")
    return "".join(lines)


def youtube_links(cuts: CutList) -> str:
    """A line for each highlight: the link to its start in the video, a tab, its name and score.

    Raises:
        LeftOutError: when the recording is not from YouTube.
    """
    video = None if cuts.source is None else youtube_id(cuts.source)
    if video is None:
        raise LeftOutError("the recording is not from YouTube")
    links = (f"https://youtu.be/{video}?t={int(excerpt.first / cuts.rate)}" for excerpt in cuts.excerpts)
    return "".join(f"{link}\t{excerpt.caption}\n" for link, excerpt in zip(links, cuts.excerpts, strict=True))


def reel_captions(cuts: CutList) -> str:
    """SRT captions of the reel: which highlight this is, when it was, and its score."""
    # Of two highlights that share pictures, the second is named: players show one caption after another.
    begins = [*(begin for begin, _ in cuts.in_reel()), cuts.reel_pictures]
    return _srt(cuts, pairwise(begins))


def stream_captions(cuts: CutList) -> str:
    """SRT captions of the whole recording, shown during its highlights."""
    return _srt(cuts, ((excerpt.first, excerpt.stop) for excerpt in cuts.excerpts))


def _chapters(names: Iterable[tuple[Fraction, str]], length: Fraction, start: str) -> str:
    chapters = [(0, start)]
    for time, name in names:
        second = math.floor(time)
        if chapters == [(0, start)] and second < MIN_CHAPTER_SECONDS:
            chapters = [(0, name)]
        elif second - chapters[-1][0] >= MIN_CHAPTER_SECONDS and length - second >= MIN_CHAPTER_SECONDS:
            chapters.append((second, name))
    if len(chapters) < MIN_CHAPTERS:
        reason = f"YouTube wants {MIN_CHAPTERS} chapters of {MIN_CHAPTER_SECONDS} s or more, and this would have"
        raise LeftOutError(f"{reason} {len(chapters)}")
    return "".join(f"{_youtube_time(second)} {name}\n" for second, name in chapters)


def _youtube_time(second: int) -> str:
    """`m:ss`, and from an hour on `h:mm:ss`."""
    return format_time(second) if second >= 3600 else f"{second // 60}:{second % 60:02d}"


def _with_time(cuts: CutList, picture: int, name: str) -> str:
    return f"{name} ({format_time(math.floor(picture / cuts.rate))})"


def _srt(cuts: CutList, borders: Iterable[tuple[int, int]]) -> str:
    captions = []
    for number, (excerpt, border) in enumerate(zip(cuts.excerpts, borders, strict=True), start=1):
        begin, end = (_srt_time(milliseconds(picture, cuts.rate)) for picture in border)
        # Players take what stands in pointed brackets for markup.
        text = _with_time(cuts, excerpt.first, excerpt.caption).replace("<", "(").replace(">", ")")
        captions.append(f"{number}\n{begin} --> {end}\n{text}\n\n")
    return "".join(captions)


def _srt_time(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{fraction:03d}"


_WRITERS: Mapping[ExportKind, Mapping[str, Callable[[CutList], str]]] = {
    "otio": {".otio": to_otio},
    "fcpxml": {".fcpxml": to_fcpxml},
    "edl": {".edl": to_edl},
    "resolve": {".resolve.edl": to_resolve},
    "losslesscut": {".losslesscut.csv": to_losslesscut},
    "chapters": {".chapters.txt": reel_chapters, ".stream.chapters.txt": stream_chapters},
    "twitch": {".twitch.txt": twitch_links},
    "youtube": {".youtube.txt": youtube_links},
    "srt": {".srt": reel_captions, ".stream.srt": stream_captions},
}
