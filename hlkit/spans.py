"""Span tables: stretches of time that somebody marked, and which frames fall inside them.

A span table has the columns of `SPAN_SCHEMA`: `video` (id), `start` and `end` (seconds from the start of the video,
half-open `[start, end)`), `label` (the name of a class). A span labelled `background` was looked at and rejected. A
fifth column is optional: `origin` (str, null where nobody knows), who or what said so, such as `hand`,
`import:saturday.csv`, `review` or `reel:best_of_may`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import polars as pl

from hlkit.project import HlkitError, format_time

SPAN_SCHEMA = pl.Schema({"video": pl.String, "start": pl.Float64, "end": pl.Float64, "label": pl.String})

ORIGIN = "origin"
MARK_SCHEMA = pl.Schema({**SPAN_SCHEMA, ORIGIN: pl.String})
"""Of a span table with origins."""
REVIEW = "review"
"""The origin of answers to what hlkit asked."""

BACKGROUND = "background"
DEFAULT_LABEL = "highlight"
DEFAULT_CLASSES = (BACKGROUND, DEFAULT_LABEL)

Rest = Literal["background", "ignore", "auto"]
"""What time counts as that no span covers: background; nothing (label -1); or `auto`, which ignores it in the videos
that are `partly_seen` and takes it for background in the others."""

# `0.1 * 3 > 0.3` in floating point. A microsecond is far above the rounding of any time in a day-long video (1e-11 s)
# and far below the distance between two pictures, so times this close are the same time.
TIME_TOLERANCE = 1e-6
# Label files keep times to a microsecond.
TIME_DECIMALS = 6

# Players show whole seconds, so a mark on the last picture may lie up to a second behind the end.
END_SLACK_SECONDS = 1.0

# Thirty years; a time beyond is a number of another kind.
MOST_SECONDS = 1e9

_FAULTS_SHOWN = 20


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
    raise_faults(span_faults(spans, range(1, spans.height + 1), durations, "span"), source, "span")
    return clip_ends(spans, durations)


def merge_spans(spans: pl.DataFrame, *, gap_seconds: float = 0.0) -> pl.DataFrame:
    """Join spans of one video and label that overlap, touch, or lie at most `gap_seconds` apart.

    Returns:
        Columns of `SPAN_SCHEMA`, sorted by video and start; spans of one label are disjoint. Where the table has
        `origin`, a joined span names all of its own, in the order of their starts, with "+" between.
    """
    origins = pl.col(ORIGIN).drop_nulls().unique(maintain_order=True)
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


def clip_spans(spans: pl.DataFrame, durations: Mapping[str, float]) -> pl.DataFrame:
    """Cut off what lies before 0 or behind the end of a video; what is left empty goes, and so do other videos' spans.

    Args:
        spans: columns of `SPAN_SCHEMA`, and others, which are kept.
        durations: seconds of each video.
    """
    inside = clip_ends(spans.filter(pl.col("video").is_in(list(durations))), durations)
    return inside.with_columns(pl.col("start").clip(lower_bound=0)).filter(pl.col("start") < pl.col("end"))


def map_labels(spans: pl.DataFrame, classes: Mapping[str, str]) -> pl.DataFrame:
    """Give spans other labels, and join what then overlaps or touches under one label.

    Args:
        spans: columns of `SPAN_SCHEMA`; `origin` is kept.
        classes: the new label for each old one. `*` stands for all labels that are not named, which keep theirs without
            it. An empty new label drops the spans. Old labels are compared as they are written.

    Returns:
        As `merge_spans` does. Example: `{"Triple kill": "highlight", "Start": "background", "*": ""}`.
    """
    others = pl.lit(classes["*"]) if "*" in classes else pl.col("label")
    named = {old: new for old, new in classes.items() if old != "*"}
    label = pl.col("label").replace_strict(named, default=others, return_dtype=pl.String) if named else others
    return merge_spans(spans.with_columns(label=label).filter(pl.col("label") != ""))


def add_background(spans: pl.DataFrame, looked_at: pl.DataFrame | Mapping[str, float]) -> pl.DataFrame:
    """Make background explicit: what was looked at and lies in no span becomes spans of `background`.

    Args:
        spans: columns of `SPAN_SCHEMA`; `origin` is kept, and missing for what is added.
        looked_at: the stretches that somebody saw, as a span table whose labels don't count; or the lengths of videos
            in seconds, which then were seen from end to end.

    Returns:
        As `merge_spans` does, with the background that was there already joined to what is added.
    """
    if isinstance(looked_at, Mapping):
        rows = [(video, 0.0, float(seconds), "") for video, seconds in looked_at.items()]
        looked_at = pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")
    seen = merge_spans(looked_at.select(SPAN_SCHEMA.names()).with_columns(label=pl.lit("")))
    marked = merge_spans(spans.select(SPAN_SCHEMA.names()).with_columns(label=pl.lit("")))
    rows = []
    for video, start, end, _ in seen.iter_rows():
        inside = marked.filter((pl.col("video") == video) & (pl.col("end") > start) & (pl.col("start") < end))
        borders = [start, *inside.select(pl.concat_list("start", "end").explode()).to_series(), end]
        rows += [(video, *gap, BACKGROUND) for gap in zip(borders[::2], borders[1::2], strict=True)]
    empty = pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row").filter(
        pl.col("end") - pl.col("start") > TIME_TOLERANCE
    )
    return merge_spans(pl.concat([spans.select(span_columns(spans)), empty], how="diagonal"))


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
        rest: what frames are that no span holds: 0 ("background"), -1 ("ignore"), or -1 in the videos that are
            `partly_seen` and 0 in the others ("auto").

    Spans are half-open: with a span [10, 20) the frame at 10.0 s is inside and the frame at 20.0 s is not. Where spans
    of different classes overlap, the class that stands later in `classes` wins.

    Raises:
        HlkitError: when a span has a label that is not in `classes`.
    """
    if unknown := set(spans.get_column("label")) - set(classes):
        raise HlkitError(
            f"The label {quoted(unknown)} is none of this model's classes: {quoted(classes, keep_order=True)}. "
            "Correct the label file, or give the classes that it uses."
        )
    unknown_rest = {
        "background": np.zeros(frames.height, dtype=bool),
        "ignore": np.ones(frames.height, dtype=bool),
        "auto": frames.get_column("video").is_in(partly_seen(spans, background=classes[0]).implode()).to_numpy(),
    }[rest]
    label = np.where(unknown_rest, -1, 0).astype(np.int8)
    for index, name in enumerate(classes):
        label[covered(frames, spans.filter(pl.col("label") == name))] = index
    return frames.with_columns(pl.Series("label", label))


def partly_seen(spans: pl.DataFrame, *, background: str = BACKGROUND) -> pl.Series:
    """The videos (str) of which somebody looked at nothing but what the spans cover; the others were seen throughout.

    Who gave spans of background said with them what was looked at. And whose spans are answers to a review, all of
    them, looked at what was asked and no further, even if every answer was yes.

    Args:
        spans: columns of `SPAN_SCHEMA`, and perhaps `origin`.
        background: the label that stands for it.
    """
    reviewed = pl.col(ORIGIN).eq(REVIEW).fill_null(False) if ORIGIN in spans.columns else pl.lit(False)
    said = spans.group_by("video", maintain_order=True).agg(
        partly=(pl.col("label") == background).any() | reviewed.all()
    )
    return said.filter("partly").get_column("video")


def span_faults(
    spans: pl.DataFrame,
    numbers: Sequence[int],
    durations: Mapping[str, float] | None,
    unit: str,
    *,
    fps: Fraction | None = None,
) -> list[tuple[int, str]]:
    """What is wrong with each span by itself and beside the others, with the span's number.

    Args:
        spans: columns of `SPAN_SCHEMA`.
        numbers: where each span stands.
        durations: seconds of each video, or None to leave the end unchecked.
        unit: what the numbers count, such as "row" or "span".
        fps: the frames a second by which the times were counted, if they were; a wrong one moves spans over the end.
    """
    faults = []
    bare = spans.select("video", "start", "end")
    for number, (video, start, end) in zip(numbers, bare.iter_rows(), strict=True):
        faults += [(number, text) for text in _own_faults(video, start, end, durations, fps)]
    return faults + list(_overlaps(spans, numbers, unit))


def _own_faults(
    video: str, start: float, end: float, durations: Mapping[str, float] | None, fps: Fraction | None
) -> Iterator[str]:
    if start is None or end is None or not (abs(start) < MOST_SECONDS and abs(end) < MOST_SECONDS):
        yield f"start and end: {start} and {end} are not both times; allowed are seconds"
        return
    if start < 0:
        yield f"start: {start:g} is before the video begins; allowed is 0 or later"
    if end <= start:
        shown = f"{format_time(end, decimals=2)} is not after the start {format_time(start, decimals=2)}"
        yield f"end: {shown}; allowed is a later end"
    if not is_id(video):
        yield f"video: '{video}' can't be a video's id; allowed is a name without / and \\ that begins with no point"
    elif durations is not None and video not in durations:
        yield f"video: '{video}' is unknown; allowed is {quoted(durations)}"
    elif durations is not None and _lies_outside(start, end, durations[video]):
        length = format_time(durations[video], decimals=2)
        hint = "" if fps is None else f" (is {fps} frames a second right?)"
        yield f"end: {format_time(end, decimals=2)} lies outside the video; allowed is up to its length {length}{hint}"


def is_id(video: str) -> bool:
    """Whether a text can be a video's id, and so the name of its files: not empty or hidden, and no path."""
    return bool(video) and not video.startswith(".") and not any(sign in "/\\" or sign < " " for sign in video)


def _lies_outside(start: float, end: float, duration: float) -> bool:
    return start > duration - TIME_TOLERANCE or end - END_SLACK_SECONDS > duration


def _overlaps(spans: pl.DataFrame, numbers: Sequence[int], unit: str) -> Iterator[tuple[int, str]]:
    """A fault for each span that begins inside an earlier one of the same video and label."""
    latest: dict[tuple[str, str], tuple[float, float, int]] = {}
    table = spans.with_columns(pl.Series("number", numbers, dtype=pl.Int64)).filter(pl.col("start") < pl.col("end"))
    ordered = table.sort("start", "number").select(*SPAN_SCHEMA.names(), "number")
    for video, start, end, label, number in ordered.iter_rows():
        first, reach, other = latest.get((video, label), (-math.inf, -math.inf, 0))
        if (start, end) == (first, reach):
            yield number, f"start and end: {_stretch(start, end)} is what {unit} {other} says too; remove one of them"
        elif start < reach - TIME_TOLERANCE:
            shown = format_time(start, decimals=2)
            yield number, f"start: {shown} lies inside {unit} {other}; spans of one label must not overlap"
        if end > reach:
            latest[video, label] = (start, end, number)


def _stretch(start: float, end: float) -> str:
    return f"{format_time(start, decimals=2)} to {format_time(end, decimals=2)}"


def clip_ends(spans: pl.DataFrame, durations: Mapping[str, float]) -> pl.DataFrame:
    """Let no span end after its video. `durations` has the seconds of each."""
    known = {video: durations[video] for video in spans["video"].unique() if video in durations}
    length = pl.col("video").replace_strict(known, default=None, return_dtype=pl.Float64)
    return spans.with_columns(end=pl.min_horizontal("end", length))


def raise_faults(faults: Sequence[tuple[int, str]], source: object, unit: str) -> None:
    """Raise one error that lists the faults on one line, since a command shows its reason on one line."""
    texts = [f"{unit} {number}, {text}." for number, text in sorted(faults)]
    if len(texts) == 1:
        raise HlkitError(f"{source}, {texts[0]}")
    if texts:
        listed = " ".join(f"({place}) {text}" for place, text in enumerate(texts[:_FAULTS_SHOWN], start=1))
        more = len(texts) - _FAULTS_SHOWN
        raise HlkitError(f"{source} has {len(texts)} faults: {listed}" + (f" And {more} more." if more > 0 else ""))


def quoted(names: Iterable[str], *, keep_order: bool = False) -> str:
    """Names in quotes with commas between, sorted unless their order counts."""
    return ", ".join(f"'{name}'" for name in (names if keep_order else sorted(names))) or "none"
