"""Labels: stretches of time that a person marked, as a table of spans, and which frames fall inside them.

A span table has the columns of `SPAN_SCHEMA`: `video` (id), `start` and `end` (seconds from the start of the video,
half-open `[start, end)`), `label` (the name of a class). A span labelled `background` was looked at and rejected. A
fifth column is optional: `origin` (str, null where nobody knows), who or what said so, such as `hand`, `import:csv`,
`review` or `reel:best_of_may`. The file format is hlkit's own CSV with the same columns: UTF-8 with or without a
byte-order mark, times as seconds (`83.5`) or `h:mm:ss` (`0:01:23.5`), `label` and `origin` optional.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from hlkit.project import HlkitError, format_time, parse_time, write_text

SPAN_SCHEMA = pl.Schema({"video": pl.String, "start": pl.Float64, "end": pl.Float64, "label": pl.String})

ORIGIN = "origin"

BACKGROUND = "background"
DEFAULT_LABEL = "highlight"
DEFAULT_CLASSES = (BACKGROUND, DEFAULT_LABEL)

Rest = Literal["background", "ignore", "auto"]
"""What time counts as that no span covers: background; nothing (label -1); or `auto`, which ignores it in a video that
has a span of background, where somebody said what was looked at, and takes it for background in a video without."""

# `0.1 * 3 > 0.3` in floating point. A microsecond is far above the rounding of any time in a day-long video (1e-11 s)
# and far below the distance between two pictures, so times this close are the same time.
TIME_TOLERANCE = 1e-6

# Players show whole seconds, so a mark on the last picture may lie up to a second behind the end.
END_SLACK_SECONDS = 1.0

_FAULTS_SHOWN = 20


def read_labels(path: Path, *, video: str | None = None, durations: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Read a label file into a span table, in the order of the file.

    Args:
        path: a CSV with the columns `start` and `end`, and optionally `video` and `label`.
        video: the id that every row must have; it fills in where the file names none. Needed when there is no `video`
            column.
        durations: seconds of each video that may occur; when given, the spans are checked as by `check_spans`.

    Returns:
        Columns of `SPAN_SCHEMA`, and `origin` where the file has it. `label` is "highlight" where the file gives none.

    Raises:
        HlkitError: for a missing file, for wrong columns, and for all wrong rows at once, each with its number, its
            value and what is allowed.
    """
    path = Path(path)
    lines = _read_lines(path)
    columns = _check_columns(lines[0][1] if lines else [], path, video)
    rows, numbers, faults = [], [], []
    for number, cells in lines[1:]:
        row, wrong = _parse_row(cells, columns, video)
        faults += [(number, text) for text in wrong]
        if not wrong:
            rows.append(row)
            numbers.append(number)
    spans = pl.DataFrame(rows, schema={**SPAN_SCHEMA, ORIGIN: pl.String}, orient="row")
    spans = spans if ORIGIN in columns else spans.drop(ORIGIN)
    _raise_all(faults + _span_faults(spans, numbers, durations, "row"), path, "row")
    return spans if durations is None else _clip_ends(spans, durations)


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
    _raise_all(faults, "The typed times", "part")
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


def write_labels(spans: pl.DataFrame, path: Path) -> None:
    """Write a span table as CSV, times in seconds to the microsecond; `read_labels` reads the same table back.

    `origin` is written where the table has it, other columns beyond those of `SPAN_SCHEMA` are not.
    """
    table = spans.select(span_columns(spans)).with_columns(pl.col("start", "end").round(6))
    write_text(Path(path), table.write_csv(float_scientific=False))


def span_columns(spans: pl.DataFrame) -> list[str]:
    """The columns of a span table that are kept: those of `SPAN_SCHEMA`, and `origin` where it has it."""
    return [*SPAN_SCHEMA.names(), *([ORIGIN] if ORIGIN in spans.columns else [])]


def check_spans(spans: pl.DataFrame, durations: Mapping[str, float], *, source: str = "labels") -> pl.DataFrame:
    """Return `spans` when each lies inside its video. An end up to a second behind the video's end becomes that end.

    Args:
        spans: columns of `SPAN_SCHEMA`; `origin` is kept.
        durations: seconds of every video that may occur.
        source: what the error calls the table.

    Raises:
        HlkitError: lists every span that is reversed, empty, before 0, beyond the end of its video, of an unknown
            video, or that overlaps another of the same label.
    """
    if missing := [name for name in SPAN_SCHEMA.names() if name not in spans.columns]:
        raise HlkitError(f"{source}: the span table lacks {', '.join(missing)}; it has {', '.join(spans.columns)}.")
    kinds = {name: SPAN_SCHEMA.get(name, pl.String()) for name in span_columns(spans)}
    spans = spans.select(*kinds).cast(pl.Schema(kinds))
    _raise_all(_span_faults(spans, range(1, spans.height + 1), durations, "span"), source, "span")
    return _clip_ends(spans, durations)


def merge_spans(spans: pl.DataFrame, *, gap_seconds: float = 0.0) -> pl.DataFrame:
    """Join spans of one video and label that overlap, touch, or lie at most `gap_seconds` apart.

    Returns:
        Columns of `SPAN_SCHEMA`, sorted by video and start; spans of one label are disjoint. Where the table has
        `origin`, a joined span names all of its own, in the order of their starts, with "+" between.
    """
    origins = pl.col("origin").drop_nulls().unique(maintain_order=True)
    joined = {ORIGIN: pl.when(origins.len() > 0).then(origins.str.join("+"))} if ORIGIN in spans.columns else {}
    return (
        spans.sort("video", "label", "start")
        .with_columns(gap=pl.col("start") - pl.col("end").cum_max().shift(1).over("video", "label"))
        .with_columns(piece=(pl.col("gap") > gap_seconds + TIME_TOLERANCE).fill_null(True).cum_sum())
        .group_by("piece")
        .agg(pl.first("video"), pl.min("start"), pl.max("end"), pl.first("label"), **joined)
        .sort("video", "start", "label")
        .select(span_columns(spans))
    )


def covered(frames: pl.DataFrame, spans: pl.DataFrame) -> np.ndarray:
    """Whether each row's time falls in any span of its video, whatever the label.

    Args:
        frames: any table with `video` and `time` (seconds), in any order.
        spans: columns of `SPAN_SCHEMA`.

    Returns:
        bool (rows,): `start <= time < end`, with times closer than a microsecond taken as equal.
    """
    inside = np.zeros(frames.height, dtype=bool)
    times = frames.get_column("time").cast(pl.Float64).to_numpy() + TIME_TOLERANCE
    videos = frames.get_column("video")
    for (video,), part in merge_spans(spans.with_columns(label=pl.lit(""))).group_by("video"):
        rows = np.flatnonzero((videos == video).to_numpy())
        begun = np.searchsorted(part.get_column("start").to_numpy(), times[rows], side="right")
        latest_end = np.append(-np.inf, part.get_column("end").to_numpy())[begun]
        inside[rows] = times[rows] < latest_end
    return inside


def label_frames(
    frames: pl.DataFrame,
    spans: pl.DataFrame,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    rest: Rest = "background",
) -> pl.DataFrame:
    """Add `label` (i8): the index in `classes` of the span that holds the frame's time, of the background first.

    Args:
        frames: any table with `video` and `time` (seconds), in any order.
        spans: columns of `SPAN_SCHEMA`.
        classes: their names; the first is the background.
        rest: what frames are that no span holds: 0 ("background"), -1 ("ignore"), or -1 in the videos that have a span
            of the first class and 0 in the others ("auto").

    Spans are half-open: with a span [10, 20) the frame at 10.0 s is inside and the frame at 20.0 s is not. Where spans
    of different classes overlap, the class that stands later in `classes` wins.

    Raises:
        HlkitError: when a span has a label that is not in `classes`.
    """
    if unknown := set(spans.get_column("label")) - set(classes):
        raise HlkitError(
            f"The label {_quoted(unknown)} is none of this model's classes: {_quoted(classes, keep_order=True)}. "
            "Correct the label file, or give the classes that it uses."
        )
    looked_at = spans.filter(pl.col("label") == classes[0]).get_column("video").unique()
    unknown_rest = {
        "background": np.zeros(frames.height, dtype=bool),
        "ignore": np.ones(frames.height, dtype=bool),
        "auto": frames.get_column("video").is_in(looked_at.implode()).to_numpy(),
    }[rest]
    label = np.where(unknown_rest, -1, 0).astype(np.int8)
    for index, name in enumerate(classes):
        label[covered(frames, spans.filter(pl.col("label") == name))] = index
    return frames.with_columns(pl.Series("label", label))


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV that hold anything, each with its number in the file (from 1)."""
    if not path.is_file():
        raise HlkitError(f"There is no label file {path}. Mark highlights first (notebook 04), or put a CSV there.")
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), skipinitialspace=True)
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HlkitError(f"{path} is not CSV in UTF-8 ({error}). Save it as 'CSV UTF-8'.") from error


def _check_columns(header: Sequence[str], path: Path, video: str | None) -> list[str]:
    """The columns' names, or an error that says which are missing, unknown or doubled."""
    columns = [cell.strip().lower() for cell in header]
    needed = {"start", "end"} if video is not None else {"video", "start", "end"}
    if not needed <= set(columns) <= {*SPAN_SCHEMA, ORIGIN} or len(set(columns)) < len(columns):
        raise HlkitError(
            f"{path} has the columns '{','.join(columns)}'; allowed are video,start,end,label in the first row "
            f"({' and '.join(sorted(needed))} must be there). Correct the first row."
        )
    return columns


def _parse_row(cells: Sequence[str], columns: Sequence[str], video: str | None) -> tuple[tuple, list[str]]:
    """One row as (video, start, end, label, origin), and what is wrong with it."""
    if len(cells) != len(columns):
        return (), [f"'{','.join(cells)}' has {len(cells)} values; allowed are {len(columns)}: {','.join(columns)}"]
    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    faults, times = [], []
    name = row.get("video") or video or ""
    if not name or name != (video or name):
        allowed = "the id of a video" if video is None else f"'{video}', or no video column"
        faults.append(f"video: '{name}' is not allowed; allowed is {allowed}")
    for column in ("start", "end"):
        try:
            times.append(parse_time(row[column]))
        except ValueError as error:
            faults.append(f"{column}: {error}")
    return (name, *times, row.get("label") or DEFAULT_LABEL, row.get(ORIGIN) or None), faults


def _span_faults(
    spans: pl.DataFrame, numbers: Sequence[int], durations: Mapping[str, float] | None, unit: str
) -> list[tuple[int, str]]:
    """What is wrong with each span by itself and beside the others, with the span's number.

    Args:
        spans: columns of `SPAN_SCHEMA`.
        numbers: where each span stands.
        durations: seconds of each video, or None to leave the end unchecked.
        unit: what the numbers count, "row" or "span".
    """
    faults = []
    bare = spans.select("video", "start", "end")
    for number, (video, start, end) in zip(numbers, bare.iter_rows(), strict=True):
        faults += [(number, text) for text in _own_faults(video, start, end, durations)]
    return faults + list(_overlaps(spans, numbers, unit))


def _own_faults(video: str, start: float, end: float, durations: Mapping[str, float] | None) -> Iterator[str]:
    if start is None or end is None or not (math.isfinite(start) and math.isfinite(end)):
        yield f"start and end: {start} and {end} are not both times; allowed are seconds"
        return
    if start < 0:
        yield f"start: {start:g} is before the video begins; allowed is 0 or later"
    if end <= start:
        shown = f"{format_time(end, decimals=2)} is not after the start {format_time(start, decimals=2)}"
        yield f"end: {shown}; allowed is a later end"
    if durations is None:
        return
    if video not in durations:
        yield f"video: '{video}' is unknown; allowed is {_quoted(durations)}"
    elif max(start, end - END_SLACK_SECONDS) > durations[video]:
        length = format_time(durations[video], decimals=2)
        yield f"end: {format_time(end, decimals=2)} lies outside the video; allowed is up to its length {length}"


def _overlaps(spans: pl.DataFrame, numbers: Sequence[int], unit: str) -> Iterator[tuple[int, str]]:
    """A fault for each span that begins inside an earlier one of the same video and label."""
    latest: dict[tuple[str, str], tuple[float, int]] = {}
    table = spans.with_columns(pl.Series("number", numbers, dtype=pl.Int64)).filter(pl.col("start") < pl.col("end"))
    ordered = table.sort("start", "number").select(*SPAN_SCHEMA.names(), "number")
    for video, start, end, label, number in ordered.iter_rows():
        reach, other = latest.get((video, label), (-math.inf, 0))
        if start < reach - TIME_TOLERANCE:
            shown = format_time(start, decimals=2)
            yield number, f"start: {shown} lies inside {unit} {other}; spans of one label must not overlap"
        if end > reach:
            latest[video, label] = (end, number)


def _clip_ends(spans: pl.DataFrame, durations: Mapping[str, float]) -> pl.DataFrame:
    length = pl.col("video").replace_strict(dict(durations), default=None, return_dtype=pl.Float64)
    return spans.with_columns(end=pl.min_horizontal("end", length))


def _raise_all(faults: Sequence[tuple[int, str]], source: object, unit: str) -> None:
    """Raise one error that lists the faults on one line, since a command shows its reason on one line."""
    texts = [f"{unit} {number}, {text}." for number, text in sorted(faults)]
    if len(texts) == 1:
        raise HlkitError(f"{source}, {texts[0]}")
    if texts:
        listed = " ".join(f"({place}) {text}" for place, text in enumerate(texts[:_FAULTS_SHOWN], start=1))
        more = len(texts) - _FAULTS_SHOWN
        raise HlkitError(f"{source} has {len(texts)} faults: {listed}" + (f" And {more} more." if more > 0 else ""))


def _quoted(names: Iterable[str], *, keep_order: bool = False) -> str:
    return ", ".join(f"'{name}'" for name in (names if keep_order else sorted(names))) or "none"
