"""Edits of a recording, read as spans: OpenTimelineIO's timelines and CMX 3600 edit decision lists (EDL).

Conventions and sources:

- **OpenTimelineIO** (`.otio`, its docs/tutorials/otio-file-format-specification.md): each clip of a video track is a
  span of the recording that it refers to: its source range, counted from the beginning of the media's available range.
  Audio tracks count where there is no video track; a clip that stands in several tracks counts once. It is read as JSON
  here: the library itself (0.18) ends the process on a file whose tracks are missing.
- **EDL**, CMX 3600 (SMPTE 258M): each event `001  AX  V  C  source-in source-out record-in record-out` is a span of the
  source from in to before out. Time code counts pictures and the rate is not in the file: at 30000/1001 a non-drop code
  counts thirty to its second, a drop-frame one (`;`, or the line `FCM: DROP FRAME`) leaves numbers out. A transition is
  a cut here. `* FROM CLIP NAME:` and a `COMMENT:` belong to the event before them.
- The label is the clip's name as `label_of` takes it, "highlight" where that is the recording's own. hlkit's EDL has
  the labels in comments. The id of the video is the name of the media's file, in an EDL that of the clip.

Both are written by `hlkit.editors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from hlkit.entries import Findings, Hints, frame_time, is_number, label_of, need_fps, shown, video_of
from hlkit.project import VIDEO_SUFFIXES, HlkitError
from hlkit.video import NTSC, TIME_BASES

_CODE = r"\d\d:\d\d:\d\d[:;.,]\d\d"
_EVENT = re.compile(
    rf"\s*(\d{{1,6}})\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+\d+)?\s+({_CODE})\s+({_CODE})\s+{_CODE}\s+{_CODE}\s*"
)
_LIKE_EVENT = re.compile(r"\s*\d{3,6}\s+\S+\s+\S+\s+\S+.*\d+:\d+:\d+[:;.,]\d+")
_NOTE = re.compile(r"\s*\*?\s*(FROM CLIP NAME|COMMENT|SOURCE FILE):\s*(.*\S)\s*")
# CMX 3600 has eighty columns, and editors write some more. A line of digits without end is no event, and would keep the
# patterns busy without end.
MAX_LINE = 500
# 23.98 stands for 23.976..., and nobody counts 23.98 frames a second.
NTSC_TOLERANCE = 0.005


def is_otio(content: Any) -> bool:
    """Whether what a JSON file holds is OpenTimelineIO's."""
    return isinstance(content, dict) and "OTIO_SCHEMA" in content


def is_edl(text: str) -> bool:
    """Whether a text has a line that looks like an event of an EDL."""
    return any(map(_like_event, text.splitlines()))


def read_otio(content: Any, hints: Hints) -> Findings:
    """Read the clips of a timeline, or of another of OpenTimelineIO's objects that holds clips.

    Args:
        content: what the JSON holds.
        hints: of the file.
    """
    found, seen = Findings("clip", names_files=True), set()
    tracks = list(_of_kind(content, "Track"))
    video = [track for track in tracks if track.get("kind", "Video") == "Video"]
    clips = [clip for track in video or tracks or [content] for clip in _of_kind(track, "Clip")]
    for place, clip in enumerate(clips, start=1):
        name = clip.get("name") if isinstance(clip.get("name"), str) else ""
        try:
            media = _media(clip)
            start, end = _excerpt(clip, media)
        except (ValueError, ArithmeticError) as error:
            found.fault(place, f"{shown(name)} says no stretch of its recording: {error}")
            continue
        recording = video_of(str(media.get("target_url") or ""))
        if (recording, start, end) not in seen:
            seen.add((recording, start, end))
            found.add(place, recording, start, end, label_of(name or "", recording))
    return found


def read_edl(text: str, hints: Hints) -> Findings:
    """Read the events of an EDL.

    Args:
        text: of the file.
        hints: with `fps`, that of the recording.

    Raises:
        HlkitError: without fps, or for one that time code can't count.
    """
    fps = _exact_rate(need_fps(hints, "an EDL"))
    found, drops = Findings("line", names_files=True, fps=fps), False
    events: list[tuple[int, float, float, dict[str, str]]] = []
    for place, line in enumerate(text.splitlines(), start=1):
        if len(line) >= MAX_LINE:
            continue
        if line.strip().upper().startswith("FCM:"):
            drops = "NON" not in line.upper()
        elif match := _EVENT.fullmatch(line):
            start, end = (_code_seconds(place, code, fps, drops, found) for code in (match[5], match[6]))
            # A transition is two events under one number; the first, of no length, is what it comes from.
            if start is not None and end is not None and not (start == end and match[4] == "C"):
                events.append((place, start, end, {}))
        elif _like_event(line):
            found.fault(
                place, f"{shown(line.strip())} is no event; allowed is 001 AX V C and four time codes hh:mm:ss:ff"
            )
        elif (note := _NOTE.fullmatch(line)) and events:
            events[-1][3].setdefault(note[1], note[2])
    for place, start, end, notes in events:
        name = notes.get("FROM CLIP NAME", "")
        recording = notes.get("SOURCE FILE") or (name if _is_file(name) else "")
        title = notes.get("COMMENT", "") if name.isdigit() or _is_file(name) else name
        found.add(place, video_of(recording), start, end, label_of(title, video_of(recording)))
    return found


def _like_event(line: str) -> bool:
    return len(line) < MAX_LINE and _LIKE_EVENT.match(line) is not None


def _is_file(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _code_seconds(place: int, code: str, fps: Fraction, drops: bool, found: Findings) -> float | None:
    """When the picture of a time code is shown, in seconds from time code 0."""
    from opentimelineio.opentime import from_timecode

    base = round(fps)
    if base not in TIME_BASES or fps not in (base, base * NTSC):
        raise HlkitError(
            f"Time code can't count {fps} frames a second; give 24, 25, 30, 48, 50, 60 or 1000/1001 of these."
        )
    drops = drops or code[8] in ";,"
    try:
        plain = f"{code[:8]}{';' if drops else ':'}{code[9:]}"
        return frame_time(round(from_timecode(plain, float(fps) if drops else base).value), fps)
    except ValueError as error:
        found.fault(place, f"{shown(code)} is no time code at {fps} frames a second ({' '.join(str(error).split())})")
        return None


def _of_kind(content: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The objects of one kind that lie in an object, from the first on, those that lie in one another too."""
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        if str(node.get("OTIO_SCHEMA")).partition(".")[0] == kind:
            yield node
        children = node.get("children")
        inner = [node.get("tracks"), *(children if isinstance(children, list) else [])]
        waiting += reversed(inner)


def _media(clip: dict[str, Any]) -> dict[str, Any]:
    """What a clip refers to: in `Clip.1` its only reference, in `Clip.2` the one that is active."""
    many = clip.get("media_references")
    key = clip.get("active_media_reference_key")
    media = many.get(key) if isinstance(many, dict) and isinstance(key, str) else clip.get("media_reference")
    return media if isinstance(media, dict) else {}


def _excerpt(clip: dict[str, Any], media: dict[str, Any]) -> tuple[float, float]:
    """The stretch of its recording that a clip shows, in seconds from the recording's beginning."""
    whole = media.get("available_range")
    taken = clip.get("source_range") or whole
    begin = _seconds(whole, "start_time") if isinstance(whole, dict) else Fraction(0)
    start, lasts = _seconds(taken, "start_time"), _seconds(taken, "duration")
    return float(start - begin), float(start - begin + lasts)


def _seconds(span: Any, name: str) -> Fraction:
    time = span.get(name) if isinstance(span, dict) else None
    value, rate = (time.get(part) if isinstance(time, dict) else None for part in ("value", "rate"))
    if not (is_number(value) and is_number(rate) and rate > 0):
        raise ValueError(f"{name} is {shown(time)}; allowed is a value at a rate above 0")
    return Fraction(value) / _exact_rate(rate)


def _exact_rate(rate: float | Fraction) -> Fraction:
    """A rate as a fraction; 29.97 and others that are written so are those of NTSC, 1000/1001 of whole ones."""
    base = Fraction(round(rate))
    return base * NTSC if base and abs(float(base * NTSC) - rate) < NTSC_TOLERANCE else Fraction(rate)
