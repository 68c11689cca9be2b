"""Scalabel's JSON: frames of recordings, those at the borders of a highlight labelled as such.

Conventions and source (scalabel's doc/src/format.rst): `{"frames": [...], "config": {...}}`, or the list of frames
alone. A frame has `videoName`, `frameIndex` (from 0) and `labels` with a `category`. Here a category is the name of a
class with "start" or "end" behind it, such as "Highlight start": the class begins with the frame that is labelled
"start", and the frame that is labelled "end" is the first one after it, so that spans are half-open. Frame `i` is shown
at `i / fps`, and fps is not in the file. Where no frame of a video has a `frameIndex`, the file lists all of its frames
in order. "Highlight" is the class "highlight", others keep their letters. Labels of other categories are passed over.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import polars as pl

from hlkit.entries import Findings, Hints, frame_time, nearest_frames, need_fps, one_line, shown, video_of
from hlkit.spans import DEFAULT_LABEL, SPAN_SCHEMA

_BORDER = re.compile(r"(.+) (start|end)", re.IGNORECASE)

# No recording at 240 frames a second has as many in a month.
MAX_FRAME = 1_000_000_000


def is_scalabel(content: Any) -> bool:
    """Whether what a JSON file holds are frames with labels."""
    if isinstance(content, dict):
        return isinstance(content.get("frames"), list)
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and (
        "videoName" in first or "frameIndex" in first or isinstance(first.get("labels"), list)
    )


def read_scalabel(content: Any, hints: Hints) -> Findings:
    """Read the spans between "start" and "end" frames.

    Args:
        content: what the JSON holds.
        hints: with `fps`.

    Raises:
        HlkitError: without fps.
    """
    fps = need_fps(hints, "Scalabel's JSON")
    found = Findings("frame", names_files=True, fps=fps)
    borders: dict[tuple[str, str], list[tuple[int, bool, int]]] = defaultdict(list)
    for place, video, number, categories in _frames(content["frames"] if isinstance(content, dict) else content, found):
        for category in categories:
            if match := _BORDER.fullmatch(one_line(category)):
                name = DEFAULT_LABEL if match[1].lower() == DEFAULT_LABEL else match[1]
                borders[video, name].append((number, match[2].lower() == "start", place))
    for (video, name), marks in borders.items():
        _pair(video, name, marks, fps, found)
    return found


def write_scalabel(spans: pl.DataFrame, fps: Fraction) -> str:
    """Scalabel's JSON of the frames at the borders of spans, each moved to the nearest frame."""
    frames: dict[tuple[str, int], list[str]] = defaultdict(list)
    for video, start, end, label in spans.select(SPAN_SCHEMA.names()).iter_rows():
        name = label.capitalize() if label == DEFAULT_LABEL else label
        for number, side in zip(nearest_frames(start, end, fps), ("start", "end"), strict=True):
            frames[video, number].append(f"{name} {side}")
    content = {
        "frames": [
            {
                "name": f"{video}-{number:07d}.jpg",
                "videoName": video,
                "frameIndex": number,
                "labels": [{"id": str(place), "category": category} for place, category in enumerate(categories)],
            }
            for (video, number), categories in sorted(frames.items())
        ],
        "config": {"categories": sorted({category for categories in frames.values() for category in categories})},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _frames(frames: Any, found: Findings) -> Iterator[tuple[int, str, int, list[str]]]:
    """The frames as place, video, number and categories; a fault for each that can't be one."""
    whole = all(not isinstance(frame, dict) or frame.get("frameIndex") is None for frame in frames)
    seen: dict[str, int] = defaultdict(int)
    for place, frame in enumerate(frames, start=1):
        if not isinstance(frame, dict):
            found.fault(
                place, f"{shown(frame)} is no frame; allowed is an object with videoName, frameIndex and labels"
            )
            continue
        name, labels = frame.get("videoName") or "", frame.get("labels") or []
        number = seen[str(name)] if whole else frame.get("frameIndex")
        seen[str(name)] += 1
        if not isinstance(name, str):
            found.fault(place, f"videoName: {shown(name)} is no name of a video")
        elif not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
            found.fault(place, f"labels: {shown(labels)} is no list of labels")
        elif not labels:
            continue
        elif not isinstance(number, int) or not 0 <= number < MAX_FRAME:
            found.fault(place, f"frameIndex: {shown(number)} is not allowed; allowed is a whole number from 0")
        else:
            yield place, video_of(name), number, [str(label.get("category") or "") for label in labels]


def _pair(video: str, name: str, marks: list[tuple[int, bool, int]], fps: Fraction, found: Findings) -> None:
    """Make spans of the borders of one class. On one frame an end comes before a start, so that spans may touch."""
    began: tuple[int, int] | None = None
    for number, is_start, place in sorted(marks):
        if is_start and began is not None:
            found.fault(place, f"category: {shown(name)} starts again before it ended; it started in frame {began[1]}")
        elif not is_start and began is None:
            found.fault(place, f"category: {shown(name)} ends and has not started; label the frame where it starts")
        elif not is_start and began is not None:
            found.add(began[1], video, frame_time(began[0], fps), frame_time(number, fps), name)
        began = (number, place) if is_start else None
    if began is not None:
        found.fault(began[1], f"category: {shown(name)} starts and does not end; label the first frame after it")
