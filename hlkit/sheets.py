"""Label files that are tables: hlkit's CSV, the TSV of clock times, Kinetics' CSV, and LosslessCut's segments.

Conventions and sources:

- **hlkit CSV**: a first row with `start,end` and perhaps `video,label,origin`, in any order; times are seconds (`83.5`)
  or `h:mm:ss(.sss)`.
- **TSV**: `vid_id<TAB>start<TAB>stop`, times `hh:mm:ss(.sss)`, with or without that first row. It has no classes.
- **Kinetics** (Kay and others 2017, "The Kinetics Human Action Video Dataset"; its CSV files): a first row
  `label,youtube_id,time_start,time_end,split`, seconds; whole ones in the dataset, decimals here too. `split` says
  which part a row was dealt to and is passed over, as is `is_cc`. Ids are YouTube's, which hlkit gives its downloads.
- **LosslessCut** (its docs/import-export.md and `edlFormats.ts`): no first row, always three columns: start, end, name;
  seconds or clock times. An empty start is 0, an empty end the end of the video. Names are titles, see `label_of`.
  Written by `hlkit.editors.to_losslesscut`.

Spreadsheets: the separator may be a comma, a semicolon or a tab, with Excel's `sep=;` line before it. Where it is no
comma, times may have a decimal one (`83,5`). In a file with commas `"1,500"` is refused: it is 1.5 to one reader and
1500 to the next.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import polars as pl

from hlkit.entries import Findings, Hints, clock_text, label_of, need_video, one_line, seconds_text, shown
from hlkit.project import HlkitError
from hlkit.spans import DEFAULT_LABEL, ORIGIN, SPAN_SCHEMA, TIME_DECIMALS, quoted, span_columns

SheetKind = Literal["csv", "tsv", "kinetics", "losslesscut"]

KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
TSV_COLUMNS = ("vid_id", "start", "stop")

_CLOCK = re.compile(r"\d+:\d\d?:\d\d?([.,]\d*)?")
_SEGMENT_TIME = re.compile(r"\d*|\d+[.,]\d*|(\d+:)?\d+:\d\d?([.,]\d*)?")
# Three of these are a list of blocks (`hlkit.blocks`), not a segment that is named like a time.
_BLOCK = re.compile(r"\d+:\d\d?")
_SEPARATORS = ("\t", ";", ",")


def sheet_kind(text: str) -> SheetKind | None:
    """Which of these formats a text is in, by its first row; None for none."""
    _, separator_line, body = _separator_line(text)
    for separator in [separator_line] if separator_line else _SEPARATORS:
        if kind := _kind_of(_first_cells(body, separator)):
            return kind
    return None


def read_sheet(text: str, hints: Hints, kind: SheetKind) -> Findings:
    """Read a table of one of these formats.

    Raises:
        HlkitError: for wrong columns, or a text that can't be split into cells.
    """
    rows, separator = _rows(text, hints)
    found = Findings("row")
    read = {"csv": _read_csv, "tsv": _read_tsv, "kinetics": _read_kinetics, "losslesscut": _read_losslesscut}[kind]
    read(rows, hints, found, separator != ",")
    return found


def write_csv(spans: pl.DataFrame) -> str:
    """hlkit's CSV, times in seconds to the microsecond; `origin` where the table has it."""
    table = spans.select(span_columns(spans)).with_columns(pl.col("start", "end").round(TIME_DECIMALS))
    return table.write_csv(float_scientific=False)


def write_tsv(spans: pl.DataFrame) -> str:
    """The TSV of clock times.

    Raises:
        HlkitError: for labels other than "highlight", which it has no column for.
    """
    if others := set(spans["label"]) - {DEFAULT_LABEL}:
        raise HlkitError(f"A TSV of times has no classes, so it can't hold {quoted(others)}. Write a CSV.")
    rows = [
        (video, clock_text(start), clock_text(end))
        for video, start, end, _ in spans.select(SPAN_SCHEMA.names()).iter_rows()
    ]
    return _written([TSV_COLUMNS, *rows], "\t")


def write_kinetics(spans: pl.DataFrame) -> str:
    """Kinetics' CSV, all rows in the split "train"."""
    rows = [
        (label, video, seconds_text(start), seconds_text(end), "train")
        for video, start, end, label in spans.select(SPAN_SCHEMA.names()).iter_rows()
    ]
    return _written([KINETICS_COLUMNS, *rows], ",")


def _written(rows: Sequence[Sequence[str]], separator: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _separator_line(text: str) -> tuple[int, str | None, str]:
    """Excel's `sep=;` line: how many lines it takes, its separator, and the text behind it."""
    if match := re.match(r"sep=(.)\r?\n", text):
        return 1, match[1], text[match.end() :]
    return 0, None, text


def _first_cells(body: str, separator: str) -> list[str]:
    """The first row that holds anything; none where it can't be read."""
    try:
        for cells in csv.reader(io.StringIO(body, newline=""), delimiter=separator, skipinitialspace=separator != "\t"):
            if any(cell.strip() for cell in cells):
                return cells
    except csv.Error:
        pass
    return []


def _kind_of(cells: Sequence[str]) -> SheetKind | None:
    names = [cell.strip().lower() for cell in cells]
    if {"start", "end"} <= set(names):
        return "csv"
    if {"youtube_id", "time_start", "time_end"} <= set(names):
        return "kinetics"
    if len(names) == 3 and names[1:] == list(TSV_COLUMNS[1:]):
        return "tsv"
    if len(names) == 3 and names[0] and all(map(_CLOCK.fullmatch, names[1:])):
        return "tsv"
    if all(map(_BLOCK.fullmatch, names)):
        return None
    if len(names) == 3 and any(names[:2]) and all(map(_SEGMENT_TIME.fullmatch, names[:2])):
        return "losslesscut"
    return None


def _rows(text: str, hints: Hints) -> tuple[list[tuple[int, list[str]]], str]:
    """The rows that hold anything, each with its number in the file (from 1), and the separator."""
    skipped, separator, body = _separator_line(text)
    if separator is None:
        known = (each for each in _SEPARATORS if _kind_of(_first_cells(body, each)))
        separator = next(known, ",")
    try:
        # A tab is white space too, and an empty cell behind it must stay one.
        # A quote that is never closed would else take all rows behind it into its cell.
        reader = csv.reader(
            io.StringIO(body, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
        )
        rows = [(reader.line_num + skipped, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise HlkitError(
            f"{hints.source} can't be split into rows and cells ({error}). Look for a quotation mark left open, "
            "or save it as 'CSV UTF-8'."
        ) from error
    return rows, separator


def _read_csv(rows: Sequence[tuple[int, list[str]]], hints: Hints, found: Findings, comma: bool) -> None:
    columns = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    columns, width = _without_empty(columns), len(columns)
    needed = {"start", "end"} if hints.video is not None else {"video", "start", "end"}
    allowed = {*SPAN_SCHEMA, ORIGIN}
    if not rows:
        raise HlkitError(
            f"{hints.source} is empty; allowed is a first row video,start,end,label and a row for each span."
        )
    if not needed <= set(columns) <= allowed or len(set(columns)) < len(columns):
        must = " and ".join(name for name in SPAN_SCHEMA if name in needed)
        remedy = (
            "Correct the first row, or give a file in another format that hlkit reads (`hlkit label --help` names them)"
        )
        if needed - set(columns) == {"video"}:
            remedy = "Name the video that all of it is of (--video ID), or add the column"
        raise HlkitError(
            f"{hints.source} has the columns {_listed(columns)}; allowed are video,start,end,label in the first "
            f"row ({must} must be there; origin may). {remedy}."
        )
    found.has_origin = ORIGIN in columns
    for place, row in _cells(rows[1:], columns, width, found):
        start = found.time(place, "start", row["start"], comma=comma)
        end = found.time(place, "end", row["end"], comma=comma)
        video = row.get("video", "")
        if not (video or hints.video):
            found.fault(place, "video: '' is not allowed; allowed is the id of a video")
        elif start is not None and end is not None:
            found.add(place, video, start, end, row.get("label"), row.get(ORIGIN))


def _read_tsv(rows: Sequence[tuple[int, list[str]]], hints: Hints, found: Findings, comma: bool) -> None:
    if rows and not _CLOCK.fullmatch(rows[0][1][-1].strip()) and rows[0][1][-1].strip().lower() == TSV_COLUMNS[-1]:
        rows = rows[1:]
    for place, row in _cells(rows, TSV_COLUMNS, len(TSV_COLUMNS), found):
        start = found.time(place, "start", row["start"], comma=comma)
        end = found.time(place, "stop", row["stop"], comma=comma)
        if not row["vid_id"]:
            found.fault(place, "vid_id: '' is not allowed; allowed is the id of a video")
        elif start is not None and end is not None:
            found.add(place, row["vid_id"], start, end)


def _read_kinetics(rows: Sequence[tuple[int, list[str]]], hints: Hints, found: Findings, comma: bool) -> None:
    columns = _without_empty([cell.strip().lower() for cell in rows[0][1]]) if rows else []
    if not set(KINETICS_COLUMNS[:-1]) <= set(columns) or len(set(columns)) < len(columns):
        raise HlkitError(
            f"{hints.source} has the columns {_listed(columns)}; Kinetics' files with labels have "
            f"{','.join(KINETICS_COLUMNS)}. Give such a one: that of the test split holds no labels."
        )
    for place, row in _cells(rows[1:], columns, len(rows[0][1]), found):
        start = found.time(place, "time_start", row["time_start"], comma=comma)
        end = found.time(place, "time_end", row["time_end"], comma=comma)
        for column in ("youtube_id", "label"):
            if not row[column]:
                found.fault(place, f"{column}: '' is not allowed; allowed is a name")
        if row["youtube_id"] and row["label"] and start is not None and end is not None:
            found.add(place, row["youtube_id"], start, end, row["label"])


def _read_losslesscut(rows: Sequence[tuple[int, list[str]]], hints: Hints, found: Findings, comma: bool) -> None:
    video = need_video(hints, "a list of LosslessCut's segments")
    for place, row in _cells(rows, ("start", "end", "name"), 3, found):
        start = _segment_time(place, "start", row["start"] or "0", found, comma)
        end = hints.length(video) if not row["end"] else _segment_time(place, "end", row["end"], found, comma)
        if not row["end"] and end is None:
            found.fault(place, "end: '' is the end of the video, whose length is not known; write the time")
        if start is not None and end is not None:
            found.add(place, video, start, end, label_of(row["name"]))


def _segment_time(place: int, column: str, text: str, found: Findings, comma: bool) -> float | None:
    # Here two parts are minutes and seconds, as LosslessCut reads them.
    return found.time(place, column, f"0:{text}" if text.count(":") == 1 else text, comma=comma)


def _listed(columns: Sequence[str]) -> str:
    return f"'{one_line(','.join(columns))[:200]}'"


def _without_empty(cells: list[str]) -> list[str]:
    """The cells without empty ones at the end, which spreadsheets leave."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _cells(
    rows: Sequence[tuple[int, list[str]]], columns: Sequence[str], width: int, found: Findings
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Each row's cells by column; a fault for a row with more or fewer.

    `width` counts the columns with the empty ones that the first row ends with.
    """
    for place, raw in rows:
        cells = [cell.strip() for cell in raw]
        if len(cells) > len(columns) and len(cells) <= width:
            cells = [*cells[: len(columns)], *_without_empty(cells[len(columns) :])]
        if len(cells) == len(columns):
            yield place, dict(zip(columns, cells, strict=True))
        else:
            text = shown(one_line(",".join(raw)))
            found.fault(place, f"{text} has {len(cells)} values; allowed are {len(columns)}: {','.join(columns)}")
