"""Label Studio's JSON of recordings whose timeline was labelled.

Conventions and sources (Label Studio's docs/source/tags/timelinelabels.md, and `Video.js` and `TimelineRegion.js` of
its editor): the export "JSON" is a list of tasks, each with `data` (the recording's address) and `annotations`, whose
`result` holds regions. A region of `TimelineLabels` has `value.ranges`, each with `start` and `end`, and
`value.timelinelabels`. These are numbers of frames from 1, both inside: frames 3 to 5 are the time
`[2 / fps, 5 / fps)`. The frames a second are those of the `<Video frameRate>` of the project (24 unless set there), and
not in the file unless the task's data have an `fps`. Regions of `Labels` over synchronised sound have `value.start`,
`value.end` in seconds and `value.labels`. "JSON-MIN" has the values of the regions directly in the task. Predictions,
cancelled annotations and regions of other kinds are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import polars as pl

from hlkit.entries import Findings, Hints, frame_time, is_number, nearest_frames, need_fps, shown, video_of
from hlkit.project import HlkitError
from hlkit.scalabel import MAX_FRAME
from hlkit.spans import SPAN_SCHEMA
from hlkit.video import frame_rate

_ADDRESSES = ("video", "video_url", "url", "audio")


def is_labelstudio(content: Any) -> bool:
    """Whether what a JSON file holds are tasks of Label Studio."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return False
    if "annotations" in first or ("data" in first and "id" in first):
        return True
    return any(name in first for name in _ADDRESSES) and any(
        _is_region(each) for value in first.values() for each in _listed(value)
    )


def read_labelstudio(content: Any, hints: Hints) -> Findings:
    """Read the labelled stretches of the timeline.

    Args:
        content: what the JSON holds.
        hints: with `fps` where neither the tasks say it nor the regions are in seconds.

    Raises:
        HlkitError: when fps is needed and not known.
    """
    found = Findings("task", names_files=True)
    for place, task in enumerate(content if isinstance(content, list) else [content], start=1):
        if not isinstance(task, dict):
            found.fault(place, f"{shown(task)} is no task; allowed is an object with data and annotations")
            continue
        data = task["data"] if isinstance(task.get("data"), dict) else task
        address = next((data[name] for name in _ADDRESSES if isinstance(data.get(name), str)), "")
        for value in _regions(place, task, found):
            for start, end in _stretches(place, value, data, hints, found):
                for label in _listed(value.get("timelinelabels")) or _listed(value.get("labels")) or [""]:
                    found.add(place, video_of(address), start, end, str(label))
    return found


def write_labelstudio(spans: pl.DataFrame, fps: Fraction) -> str:
    """Tasks to import into Label Studio, a task a video; ends are moved to the nearest frame.

    The project needs `<Video name="video" value="$video" frameRate="$fps"/>` and
    `<TimelineLabels name="label" toName="video">` with the labels.
    """
    tasks = []
    rows = spans.select(SPAN_SCHEMA.names()).sort("video", maintain_order=True)
    for (video,), part in rows.group_by("video", maintain_order=True):
        result = []
        for number, (_, start, end, label) in enumerate(part.iter_rows()):
            first, stop = nearest_frames(start, end, fps)
            value = {"ranges": [{"start": first + 1, "end": stop}], "timelinelabels": [label]}
            names = {"id": f"span-{number}", "type": "timelinelabels", "from_name": "label", "to_name": "video"}
            result.append({**names, "value": value})
        data = {"video": f"{video}.mp4", "fps": int(fps) if fps.denominator == 1 else float(fps)}
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"result": result}]})
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_region(value: Any) -> bool:
    """Whether something is the value of a region on the timeline."""
    if not isinstance(value, dict):
        return False
    return isinstance(value.get("ranges"), list) or (
        isinstance(value.get("labels"), list) and {"start", "end"} <= set(value)
    )


def _regions(place: int, task: dict[str, Any], found: Findings) -> Iterator[dict[str, Any]]:
    """The values of a task's regions on the timeline."""
    if "annotations" not in task:
        yield from (each for value in task.values() for each in _listed(value) if _is_region(each))
        return
    annotations = [
        each for each in _listed(task["annotations"]) if isinstance(each, dict) and not each.get("was_cancelled")
    ]
    if len(annotations) > 1:
        found.fault(
            place, f"annotations: {len(annotations)} people or times labelled it; allowed is one, delete the others"
        )
        return
    for annotation in annotations:
        for result in _listed(annotation.get("result")):
            value = result.get("value") if isinstance(result, dict) else None
            if isinstance(value, dict) and _is_region(value):
                yield value


def _stretches(
    place: int, value: dict[str, Any], data: dict[str, Any], hints: Hints, found: Findings
) -> Iterator[tuple[float, float]]:
    """The times of a region, in seconds."""
    if isinstance(value.get("ranges"), list):
        fps = _fps(data, hints)
        found.fps = fps
        for each in value["ranges"]:
            first, last = (each.get(name) if isinstance(each, dict) else None for name in ("start", "end"))
            if type(first) is int and type(last) is int and 0 < first < MAX_FRAME and 0 < last < MAX_FRAME:
                yield frame_time(first - 1, fps), frame_time(last, fps)
            else:
                found.fault(place, f"ranges: {shown(each)} is not allowed; allowed are start and end, frames from 1")
    elif is_number(value["start"]) and is_number(value["end"]):
        yield float(value["start"]), float(value["end"])
    else:
        found.fault(place, f"start and end: {shown(value['start'])} and {shown(value['end'])} are not both seconds")


def _fps(data: dict[str, Any], hints: Hints) -> Fraction:
    given = data.get("fps")
    if hints.fps is None and given is not None:
        try:
            return frame_rate(given)
        except HlkitError as error:
            raise HlkitError(f"{hints.source}: {error}") from error
    return need_fps(hints, "Label Studio's JSON")
