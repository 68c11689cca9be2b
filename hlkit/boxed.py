"""Boxed lines: a line a recording, with the part of the picture that was looked at and the highlights in it.

Convention (the lists of the first highlight finders): `path "[x0, y0, x1, y1]" "(start, end)" "(start, end)"`,
separated by spaces, quoted where there are spaces inside, as a CSV with a space for its separator. The box is
normalised: 0 to 1 from the picture's upper left. Times are seconds or `h:mm:ss(.sss)`. A line without spans is a
recording that is all background; then its length must be known. The id of the video is the path's name without its
suffix.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence

import polars as pl

from hlkit.entries import Findings, Hints, seconds_text, shown, video_of
from hlkit.project import HlkitError
from hlkit.sampling import WHOLE_PICTURE, Box, check_box
from hlkit.spans import BACKGROUND, DEFAULT_LABEL, SPAN_SCHEMA, TIME_TOLERANCE, quoted

_LINE = re.compile(r'\s*("[^"]+"|\S+) +"?\[[^\]:]*\]"?( |$)')
_SPAN = re.compile(r"\(\s*([^,()]+),\s*([^,()]+)\)")


def is_boxed(text: str) -> bool:
    """Whether the first line that holds anything is a boxed line."""
    return bool(_LINE.match(text.lstrip().partition("\n")[0].rstrip()))


def read_boxed(text: str, hints: Hints) -> Findings:
    """Read the spans of boxed lines; the boxes are checked too.

    Raises:
        HlkitError: for a text that can't be split into lines and values.
    """
    found, boxes = Findings("line", names_files=True), {}
    for place, path, box, spans in _lines(text, hints, found):
        video = video_of(path)
        if boxes.setdefault(video, (place, box))[1] != box:
            found.fault(place, f"box: {box} is another one than in line {boxes[video][0]}; a video has one box")
        for span in spans:
            match = _SPAN.fullmatch(span)
            if match is None:
                found.fault(
                    place, f"{shown(span)} is no stretch of time; allowed is (start, end), as in (83.5, 0:02:00)"
                )
                continue
            start, end = (
                found.time(place, column, text) for column, text in zip(("start", "end"), match.groups(), strict=True)
            )
            if start is not None and end is not None:
                found.add(place, video, start, end)
        if not spans:
            _add_nothing(place, video, hints, found)
    return found


def _add_nothing(place: int, video: str, hints: Hints, found: Findings) -> None:
    length = hints.length(video)
    if length is None:
        found.fault(place, f"{shown(video)} has no spans, so all of it is background, and its length is not known")
    else:
        found.add(place, video, 0.0, length, BACKGROUND)


def read_boxed_boxes(text: str, hints: Hints) -> tuple[dict[str, Box], Findings]:
    """The box of each video, and what is wrong with the lines."""
    found = read_boxed(text, Hints(hints.source))
    # Lines without spans are no fault here, where lengths don't matter.
    found.faults = [(place, text) for place, text in found.faults if not text.endswith("length is not known")]
    return {video_of(path): box for _, path, box, _ in _lines(text, hints, Findings("line"))}, found


def write_boxed(spans: pl.DataFrame, boxes: Mapping[str, Box] | None = None) -> str:
    """Boxed lines, a line a video; the box is the whole picture where none is given.

    Raises:
        HlkitError: for labels other than "highlight", for background beside spans or not from the beginning, and for a
            video's name that a line can't hold.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter=" ", lineterminator="\n")
    for (video,), part in spans.sort("video", maintain_order=True).group_by("video", maintain_order=True):
        labels = set(part["label"])
        if labels == {BACKGROUND} and part.height == 1 and abs(part["start"][0]) < TIME_TOLERANCE:
            part = part.clear()
        elif others := labels - {DEFAULT_LABEL}:
            raise HlkitError(f"Boxed lines have no classes, so '{video}' can't have {quoted(others)}. Write a CSV.")
        box = (boxes or {}).get(str(video), WHOLE_PICTURE)
        times = part.select(SPAN_SCHEMA.names()).iter_rows()
        texts = [f"({seconds_text(start)}, {seconds_text(end)})" for _, start, end, _ in times]
        writer.writerow([f"{video}.mp4", f"[{', '.join(f'{edge:g}' for edge in box)}]", *texts])
    return lines.getvalue()


def _lines(text: str, hints: Hints, found: Findings) -> list[tuple[int, str, Box, Sequence[str]]]:
    """The lines as number, path, box and spans; a fault for each that is none."""
    lines = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=" ", skipinitialspace=True)
        rows = [(reader.line_num, [cell for cell in cells if cell.strip()]) for cells in reader]
    except csv.Error as error:
        raise HlkitError(f"{hints.source} can't be split into lines and values ({error}).") from error
    for place, cells in rows:
        if not cells:
            continue
        path, box = cells[0], cells[1] if len(cells) > 1 else ""
        try:
            if not (box.startswith("[") and box.endswith("]")):
                raise ValueError
            lines.append((place, path, check_box([float(edge) for edge in box[1:-1].split(",")]), cells[2:]))
        except (ValueError, HlkitError):
            found.fault(
                place,
                f'box: {shown(box)} is none; allowed is "[x0, y0, x1, y1]", 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1',
            )
    return lines
