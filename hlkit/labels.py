"""Label files: the one door to all formats, and the span tables that come out of it.

A span table has the columns of `SPAN_SCHEMA` and perhaps `origin`; see `hlkit.spans`, whose names stand here too. Which
format a file is in is told by what it holds, never by its name. Each format is described, with its source, by the
module that reads it: `hlkit.sheets` (hlkit's CSV, TSV, Kinetics, LosslessCut), `boxed`, `blocks`, `scalabel`,
`labelstudio`, `edits` (OpenTimelineIO, EDL) and `chapters`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from hlkit.blocks import is_blocks, read_blocks
from hlkit.boxed import is_boxed, read_boxed, read_boxed_boxes, write_boxed
from hlkit.chapters import is_chapters, read_chapters
from hlkit.edits import is_edl, is_otio, read_edl, read_otio
from hlkit.entries import Findings, Hints, read_json, read_text
from hlkit.labelstudio import is_labelstudio, read_labelstudio, write_labelstudio
from hlkit.project import HlkitError, parse_time, write_text
from hlkit.sampling import Box
from hlkit.scalabel import is_scalabel, read_scalabel, write_scalabel
from hlkit.sheets import read_sheet, sheet_kind, write_csv, write_kinetics, write_tsv
from hlkit.spans import (
    BACKGROUND,
    DEFAULT_CLASSES,
    DEFAULT_LABEL,
    END_SLACK_SECONDS,
    MARK_SCHEMA,
    ORIGIN,
    REVIEW,
    SPAN_SCHEMA,
    TIME_DECIMALS,
    TIME_TOLERANCE,
    Rest,
    add_background,
    check_spans,
    clip_ends,
    clip_spans,
    covered,
    label_frames,
    map_labels,
    merge_spans,
    partly_seen,
    raise_faults,
    span_columns,
    span_faults,
)
from hlkit.video import frame_rate

__all__ = [
    "BACKGROUND",
    "DEFAULT_CLASSES",
    "DEFAULT_LABEL",
    "END_SLACK_SECONDS",
    "LABEL_FORMATS",
    "MARK_SCHEMA",
    "ORIGIN",
    "REVIEW",
    "SPAN_SCHEMA",
    "TIME_DECIMALS",
    "TIME_TOLERANCE",
    "WRITTEN_FORMATS",
    "Fps",
    "LabelFormat",
    "Rest",
    "add_background",
    "check_spans",
    "clip_spans",
    "covered",
    "label_format",
    "label_frames",
    "labels_text",
    "map_labels",
    "merge_spans",
    "parse_spans",
    "partly_seen",
    "read_boxes",
    "read_labels",
    "span_columns",
    "write_labels",
]

LabelFormat = Literal[
    "csv", "tsv", "boxed", "scalabel", "blocks", "kinetics", "labelstudio", "losslesscut", "otio", "edl", "chapters"
]
LABEL_FORMATS: tuple[LabelFormat, ...] = get_args(LabelFormat)
WRITTEN_FORMATS: tuple[LabelFormat, ...] = ("csv", "tsv", "boxed", "scalabel", "kinetics", "labelstudio")

Fps = str | float | Fraction


def read_labels(
    path: Path,
    *,
    video: str | None = None,
    durations: Mapping[str, float] | None = None,
    fps: Fps | None = None,
    format: LabelFormat | None = None,
) -> pl.DataFrame:
    """Read a label file of any format into a span table, in the order of the file.

    Args:
        path: the file.
        video: the id that every span must have; it fills in where the file names none. Where the file names a recording
            rather than an id (boxed lines, Scalabel, Label Studio, edits), and one alone, it is taken for this video,
            with an HlkitWarning.
        durations: seconds of each video that may occur; when given, the spans are checked as by `check_spans`. Needed
            where a format says "to the end": boxed lines without spans, chapters, LosslessCut's open segments.
        fps: frames a second, above 0 and at most 240, where the file counts frames and does not say how many make a
            second: Scalabel, Label Studio, EDL.
        format: which it is, where what it holds would be taken for another.

    Returns:
        Columns of `SPAN_SCHEMA`, and `origin` where the file has it. `label` is "highlight" where the file gives none.

    Raises:
        HlkitError: for a missing file, one that is in none of the formats, and for all wrong rows at once, each with
            its number, its value and what is allowed.
    """
    path = Path(path)
    hints = Hints(str(path), video, durations, None if fps is None else frame_rate(fps))
    text = read_text(path)
    found = _read(text, hints, format)
    if format in _BY_LINES and text.strip() and not (found.entries or found.faults):
        raise HlkitError(f"{path} has no line as {format} has it. Leave the format out, or give another file.")
    entries = [entry for entry in found.ids(hints) if entry.video or found.fault(entry.place, _NO_VIDEO)]
    rows = [(each.video, each.start, each.end, each.label, each.origin) for each in entries]
    spans = pl.DataFrame(rows, schema=MARK_SCHEMA, orient="row")
    places = [entry.place for entry in entries]
    faults = found.faults + span_faults(spans, places, durations, found.unit, fps=found.fps)
    raise_faults(faults, path, found.unit)
    spans = spans if found.has_origin else spans.drop(ORIGIN)
    return spans if durations is None else clip_ends(spans, durations)


# Here a line of another kind is passed over, so a file of another format would seem to hold no labels.
_BY_LINES = ("boxed", "blocks", "edl", "chapters")
_NO_VIDEO = "video: '' is not allowed; allowed is the id of a video: name it (--video ID)"


def label_format(path: Path) -> LabelFormat:
    """Which format a label file is in, by what it holds; "csv" where that tells of none.

    Raises:
        HlkitError: for a missing file, or one that is no text or no JSON although it looks so.
    """
    path = Path(path)
    return _detect(read_text(path), Hints(str(path)))


def read_boxes(path: Path) -> dict[str, Box]:
    """The part of the picture that a file of boxed lines names for each video, as `hlkit.sampling.Box`.

    Raises:
        HlkitError: for a missing file, one of another format, or wrong lines, all at once.
    """
    path = Path(path)
    text = read_text(path)
    if not is_boxed(text):
        raise HlkitError(
            f'{path} has no boxes; allowed are lines such as video.mp4 "[0.4, 0.8, 0.6, 1]" "(83.5, 120)".'
        )
    boxes, found = read_boxed_boxes(text, Hints(str(path)))
    raise_faults(found.faults, path, found.unit)
    return boxes


def parse_spans(text: str, *, video: str, label: str = DEFAULT_LABEL) -> pl.DataFrame:
    """Read typed stretches, `start-end` with commas or line ends between them, times as in a label file.

    Returns:
        Columns of `SPAN_SCHEMA`, in the order typed. Example: `0:01:10-0:01:25, 90-95.5` gives two spans.

    Raises:
        HlkitError: for every part that is not `start-end`, all at once.
    """
    rows, faults = [], []
    parts = [part.strip() for part in re.split(r"[,;\n]", text) if part.strip()]
    for number, part in enumerate(parts, start=1):
        start, dash, end = part.partition("-")
        try:
            rows.append((video, parse_time(start), parse_time(end), label))
        except ValueError as error:
            reason = str(error) if dash else f"'{part}' is no stretch; allowed is start-end, as in 0:01:10-0:01:25"
            faults.append((number, reason))
    raise_faults(faults, "The typed times", "part")
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


def write_labels(
    spans: pl.DataFrame,
    path: Path,
    *,
    format: LabelFormat = "csv",
    fps: Fps | None = None,
    boxes: Mapping[str, Box] | None = None,
) -> None:
    """Write a span table to a file in one step; `read_labels` reads the same table back. Arguments as `labels_text`.

    Raises:
        HlkitError: as `labels_text` does; no file changes then.
    """
    write_text(Path(path), labels_text(spans, format=format, fps=fps, boxes=boxes))


def labels_text(
    spans: pl.DataFrame,
    *,
    format: LabelFormat = "csv",
    fps: Fps | None = None,
    boxes: Mapping[str, Box] | None = None,
) -> str:
    """A span table in the words of a format.

    Args:
        spans: columns of `SPAN_SCHEMA`. `origin` is written by "csv", which keeps times to the microsecond.
        format: one of `WRITTEN_FORMATS`.
        fps: frames a second, for "scalabel" and "labelstudio", whose ends are moved to the nearest frame.
        boxes: the part of the picture for each video, for "boxed".

    Raises:
        HlkitError: for a format that is not written, one that can't hold this table, or without fps.
    """
    if format not in WRITTEN_FORMATS:
        others = f"; highlights are written to {', '.join(LABEL_FORMATS[-4:])} by `hlkit export`"
        raise HlkitError(f"Labels are not written as '{format}'. There is {', '.join(WRITTEN_FORMATS)}{others}.")
    if format in _COUNTED:
        return _COUNTED[format](spans, _rate(fps, format))
    if format == "boxed":
        return write_boxed(spans, boxes)
    return {"csv": write_csv, "tsv": write_tsv, "kinetics": write_kinetics}[format](spans)


_COUNTED: Mapping[str, Callable[[pl.DataFrame, Fraction], str]] = {
    "scalabel": write_scalabel,
    "labelstudio": write_labelstudio,
}


def _rate(fps: Fps | None, format: str) -> Fraction:
    if fps is None:
        raise HlkitError(f"'{format}' counts frames. Give how many make a second (--fps), such as 30 or 30000/1001.")
    return frame_rate(fps)


def _read(text: str, hints: Hints, format: LabelFormat | None) -> Findings:
    if format is not None and format not in LABEL_FORMATS:
        raise HlkitError(f"'{format}' is no format of labels. There is {', '.join(LABEL_FORMATS)}.")
    kind = format or _detect(text, hints)
    match kind:
        case "csv" | "tsv" | "kinetics" | "losslesscut":
            return read_sheet(text, hints, kind)
        case "boxed":
            return read_boxed(text, hints)
        case "blocks":
            return read_blocks(text, hints)
        case "edl":
            return read_edl(text, hints)
        case "chapters":
            return read_chapters(text, hints)
    content = read_json(text, hints)
    is_kind, read = _JSON[kind]
    if not is_kind(content):
        raise HlkitError(f"{hints.source} is JSON, but not as {kind} has it. Leave the format out, or export it again.")
    return read(content, hints)


def _detect(text: str, hints: Hints) -> LabelFormat:
    """The format of a text. What could be two is the one that says more: a sheet before chapters."""
    sign = text.lstrip()[:1]
    if sign == "{" or (sign == "[" and not is_blocks(text)):
        content = read_json(text, hints)
        for kind, (is_kind, _) in _JSON.items():
            if is_kind(content):
                return kind
        raise HlkitError(
            f"{hints.source} is JSON, but none of {', '.join(_JSON)} is like it. Export it as one of these."
        )
    if kind := sheet_kind(text):
        return kind
    if is_edl(text):
        return "edl"
    if is_boxed(text):
        return "boxed"
    if is_blocks(text):
        return "blocks"
    return "chapters" if is_chapters(text) else "csv"


_JSON: Mapping[LabelFormat, tuple[Callable[..., bool], Callable[..., Findings]]] = {
    "otio": (is_otio, read_otio),
    "scalabel": (is_scalabel, read_scalabel),
    "labelstudio": (is_labelstudio, read_labelstudio),
}
