"""Edits of a recording, read as spans: OpenTimelineIO's timelines and CMX 3600 edit decision lists (EDL).

Conventions and sources:

- **OpenTimelineIO** (`.otio`, its own library): each clip of a video track is a span of the recording that it refers
  to: its source range, counted from the beginning of the media's available range. Audio tracks count where there is no
  video track; a clip that stands in several tracks counts once.
- **EDL**, CMX 3600 (SMPTE 258M): each event `001  AX  V  C  source-in source-out record-in record-out` is a span of the
  source from in to before out. Time code counts pictures and the rate is not in the file: at 30000/1001 a non-drop code
  counts thirty to its second, a drop-frame one (`;`, or the line `FCM: DROP FRAME`) leaves numbers out. A transition is
  a cut here. `* FROM CLIP NAME:` and a `COMMENT:` belong to the event before them.
- The label is the clip's name as `label_of` takes it, "highlight" where that is the recording's own. hlkit's EDL has
  the labels in comments. The id of the video is the name of the media's file, in an EDL that of the clip.

Both are written by `hlkit.editors`.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hlkit.entries import Findings, Hints, frame_time, label_of, need_fps, shown, video_of
from hlkit.project import VIDEO_SUFFIXES, HlkitError

if TYPE_CHECKING:
    from opentimelineio.schema import Clip

_CODE = r"\d\d:\d\d:\d\d[:;.,]\d\d"
_EVENT = re.compile(
    rf"\s*(\d{{1,6}})\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+\d+)?\s+({_CODE})\s+({_CODE})\s+{_CODE}\s+{_CODE}\s*"
)
_LIKE_EVENT = re.compile(r"\s*\d{3,6}\s+\S+\s+\S+\s+\S+.*\d+:\d+:\d+[:;.,]\d+")
_NOTE = re.compile(r"\s*\*?\s*(FROM CLIP NAME|COMMENT|SOURCE FILE):\s*(.*\S)\s*")
_NTSC = Fraction(1000, 1001)
_LONGEST_SECONDS = 1e9


def is_otio(content: Any) -> bool:
    """Whether what a JSON file holds is OpenTimelineIO's."""
    return isinstance(content, dict) and "OTIO_SCHEMA" in content


def is_edl(text: str) -> bool:
    """Whether a text has a line that looks like an event of an EDL."""
    return any(map(_LIKE_EVENT.match, text.splitlines()))


def read_otio(content: Any, hints: Hints) -> Findings:
    """Read the clips of a timeline.

    Raises:
        HlkitError: when the library can't read it, or it has no tracks.
    """
    import opentimelineio

    failures = (
        opentimelineio.exceptions.OTIOError,
        *(ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError),
    )
    found, seen = Findings("clip", names_files=True), set()
    try:
        root = opentimelineio.adapters.read_from_string(json.dumps(content), "otio_json")
        clips = _clips(root)
    except failures as error:
        raise HlkitError(
            f"{hints.source} is no timeline that OpenTimelineIO {opentimelineio.__version__} reads ({error})."
        ) from error
    for place, clip in enumerate(clips, start=1):
        try:
            video, start, end = _excerpt(clip)
        except failures as error:
            found.fault(place, f"{shown(clip.name)} says no stretch of its recording ({' '.join(str(error).split())})")
            continue
        if not (abs(start) < _LONGEST_SECONDS and abs(end) < _LONGEST_SECONDS):
            found.fault(place, f"{shown(clip.name)} lies at {start:g} to {end:g} s, and that can't be")
        elif (video, start, end) not in seen:
            seen.add((video, start, end))
            found.add(place, video, start, end, label_of(clip.name, video))
    return found


def read_edl(text: str, hints: Hints) -> Findings:
    """Read the events of an EDL.

    Args:
        text: of the file.
        hints: with `fps`, that of the recording.

    Raises:
        HlkitError: without fps, or for one that time code can't count.
    """
    fps = need_fps(hints, "an EDL")
    found, drops = Findings("line", names_files=True, fps=fps), False
    events: list[tuple[int, float, float, dict[str, str]]] = []
    for place, line in enumerate(text.splitlines(), start=1):
        if line.strip().upper().startswith("FCM:"):
            drops = "NON" not in line.upper()
        elif match := _EVENT.fullmatch(line):
            start, end = (_code_seconds(place, code, fps, drops, found) for code in (match[5], match[6]))
            # A transition is two events under one number; the first, of no length, is what it comes from.
            if start is not None and end is not None and not (start == end and match[4] == "C"):
                events.append((place, start, end, {}))
        elif _LIKE_EVENT.match(line):
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


def _is_file(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _code_seconds(place: int, code: str, fps: Fraction, drops: bool, found: Findings) -> float | None:
    """When the picture of a time code is shown, in seconds from time code 0."""
    from opentimelineio.opentime import from_timecode

    base = round(fps)
    if fps not in (base, base * _NTSC):
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


def _clips(root: Any) -> list[Clip]:
    """The clips of the video tracks, of all tracks where there is none, or of what is no timeline."""
    from opentimelineio import schema

    if isinstance(root, schema.Timeline):
        tracks = root.video_tracks() or root.audio_tracks()
        return [clip for track in tracks for clip in track.find_clips()]
    if isinstance(root, schema.Clip):
        return [root]
    return list(root.find_clips())


def _excerpt(clip: Clip) -> tuple[str, float, float]:
    """The id of a clip's recording, and the stretch of it in seconds from its beginning."""
    taken = clip.trimmed_range()
    media = clip.media_reference
    begin = media.available_range.start_time if media is not None and media.available_range is not None else None
    offset = 0.0 if begin is None else begin.value / begin.rate
    start = taken.start_time.value / taken.start_time.rate - offset
    video = video_of(getattr(media, "target_url", "") or "")
    return video, start, start + taken.duration.value / taken.duration.rate
