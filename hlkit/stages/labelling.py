"""Stages that take labels in: from files, from what was typed or marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from hlkit.entries import is_plain, one_line
from hlkit.imports import Record, import_origin, join_import
from hlkit.labels import (
    BACKGROUND,
    MARK_SCHEMA,
    ORIGIN,
    SPAN_SCHEMA,
    Fps,
    LabelFormat,
    check_spans,
    label_format,
    map_labels,
    merge_spans,
    parse_spans,
    read_boxes,
    read_labels,
    write_labels,
)
from hlkit.project import HlkitError, Project, format_time, put_aside
from hlkit.sampling import WHOLE_PICTURE, Box
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done
from hlkit.stages.views import BY_HAND, keep_box, own_box, shown_box

# More names than this would not fit into a line.
LABELS_SAID = 8


def label(
    project: Project,
    source: Path | str,
    *,
    video: str | None = None,
    fps: Fps | None = None,
    format: LabelFormat | None = None,
    classes: Mapping[str, str] | None = None,
    replace: bool = False,
    redo: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Take the label spans of a file into the project: `labels/<id>.csv` for each video that it names.

    A file replaces what the same file (by its name) gave before, and no other labels: what was marked, changed or taken
    away by hand since then stays so. Where it contradicts what is marked, that stays, and it is told (the rules stand
    in `hlkit.imports`). An unchanged file changes nothing. Boxes of boxed lines become the videos' boxes (see
    `hlkit.stages.box`) unless others were given by hand; lines of whole pictures alone say nothing of boxes.

    Args:
        project: must already have the videos, so that the spans can be checked against their lengths.
        source: a file of any format that `hlkit.labels.read_labels` reads, such as a CSV with the columns
            `video,start,end,label`.
        video: the video that all spans belong to; a CSV then needs no such column.
        fps: frames a second, where the file counts frames and does not say (Scalabel, Label Studio, EDL).
        format: which it is, where what it holds would be taken for another.
        classes: other labels for those of the file, such as `{"Boss fight": "highlight", "*": ""}`; see
            `hlkit.labels.map_labels`.
        replace: all labels of these videos, those by hand too, by those of the file; the old ones are kept once more in
            `labels/<id>.csv.old` (`.old2` and so on where that is taken).
        redo: take an unchanged file again; what was taken away of it by hand comes back, marks by hand stay.
        say: takes the lines for the user.

    Returns:
        What the file says: columns of `SPAN_SCHEMA` and `origin`, "import:" and the file's name unless it has its own.

    Raises:
        HlkitError: lists every fault of the file at once; no label changes then.
    """
    source = Path(source)
    spans = imported(project, source, video, fps, format, classes)
    boxes = _boxes(source, video, format)
    named = spans["video"].unique(maintain_order=True).to_list() or ([video] if video else [])
    if spans.is_empty():
        say(f"{source} holds no labels.")
    take_labels(project, spans, videos=named, name=source.name, replace=replace, redo=redo, say=say)
    for name, part in boxes.items():
        _take_box(project, name, part, source.name, replace, say)
    for other in tables.labelled_videos(project) if video is None else ():
        before = _record(project.made_from("import", f"{other}, {source.name}"))
        if other not in named and before is not None and before.gave:
            say(f"{other}: {source.name} does not name it; what a file of this name gave it before stays.")
    names = sorted(set(spans["label"]))
    if len(names) > 1:
        more = f" and {len(names) - LABELS_SAID} more" if len(names) > LABELS_SAID else ""
        say(f"The classes are {', '.join(names[:LABELS_SAID])}{more}. Others can be given for them (--class OLD=NEW).")
    return spans


def take_labels(
    project: Project,
    spans: pl.DataFrame,
    *,
    videos: Sequence[str],
    name: str,
    replace: bool = False,
    redo: bool = False,
    say: Say = print,
) -> None:
    """Let the spans of a file that was read join the labels of these videos, by the rules of `label`.

    Args:
        project: must have the videos.
        spans: columns of `SPAN_SCHEMA` and perhaps `origin`, checked.
        videos: their ids.
        name: of the file, without folders.
        replace, redo, say: as for `label`.
    """
    spans = _with_origin(spans, import_origin(name))
    for video in videos:
        mine = spans.filter(pl.col("video") == video)
        made_from = {"file": name, "spans": mine.write_csv(), "replaces": replace}
        # With marks beside the file's, replacing them is not done.
        is_there = project.labels(video).is_file() and not (replace and _has_more(project, video, mine))
        if is_there and already_done(project, "label", f"{video}, {name}", made_from, redo, say):
            continue
        with alone(project, video):
            _take(project, mine, video, name, replace, redo, say)
        project.mark_done("label", f"{video}, {name}", made_from, [])


def label_text(project: Project, text: str, *, video: str, say: Say = print) -> pl.DataFrame:
    """Add typed highlights to a video's labels, such as `0:01:10-0:01:25, 0:07:00-0:07:31.5`.

    Args:
        project: must have the video or its frames, so that the times can be checked against its length.
        text: see `hlkit.labels.parse_spans`.
        video: its id.
        say: takes the lines for the user.

    Returns:
        All that is marked in the video now: columns of `SPAN_SCHEMA` and `origin`.

    Raises:
        HlkitError: for a stretch that can't be read or lies outside the video; no label changes then.
    """
    spans = parse_spans(text, video=video).with_columns(pl.lit("hand").alias(ORIGIN))
    length = tables.length(project, video)
    spans = check_spans(spans, {video: length}, source="The typed times")
    with alone(project, video):
        known = tables.marks_of(project, video)
        merged = merge_spans(spans if known is None else pl.concat([known, spans], how="diagonal"))
        if not already_done(project, "label", video, {"spans": merged.write_csv()}, False, say):
            _write_marks(project, merged, video, length, say)
    return merged


def label_spans(project: Project, spans: pl.DataFrame, *, video: str, origin: str, say: Say = print) -> pl.DataFrame:
    """Replace the labels of one video: the one door for what a person marks, in one step and only after a check.

    Args:
        project: must have the video or its frames, so that the spans can be checked against its length.
        spans: columns of `SPAN_SCHEMA`, of this video alone; spans of one label must not overlap (`merge_spans`). With
            none, nothing is marked any more. `background` stands for time that was looked at and rejected.
        video: its id.
        origin: who or what said so, such as `hand` or `review`; for the spans whose own `origin` is missing.
        say: takes the lines for the user.

    Returns:
        What `labels/<id>.csv` now holds: columns of `SPAN_SCHEMA` and `origin`.

    Raises:
        HlkitError: lists every fault at once, spans of another video among them, or names a class or an origin that a
            label file can't hold; no label changes then.
    """
    length = tables.length(project, video)
    spans = check_spans(_with_origin(spans, origin), {video: length})
    _write_marks(project, spans, video, length, say)
    return spans


def imported(
    project: Project,
    source: Path,
    video: str | None,
    fps: Fps | None,
    format: LabelFormat | None,
    classes: Mapping[str, str] | None,
) -> pl.DataFrame:
    """The spans of a file, checked, with their origin."""
    if video is not None:
        tables.length(project, video)  # says what is missing before the file is blamed
    format = format or label_format(source)
    spans = read_labels(source, video=video, durations=tables.Lengths(project), fps=fps, format=format)
    spans = _with_origin(spans, import_origin(source.name))
    return map_labels(spans, classes) if classes else spans


def _with_origin(spans: pl.DataFrame, origin: str) -> pl.DataFrame:
    return spans.with_columns(_origin_of(spans).fill_null(origin))


def _origin_of(spans: pl.DataFrame) -> pl.Expr:
    return pl.col(ORIGIN) if ORIGIN in spans.columns else pl.lit(None, dtype=pl.String).alias(ORIGIN)


def _take(project: Project, spans: pl.DataFrame, video: str, name: str, replace: bool, redo: bool, say: Say) -> None:
    """Let the spans of a file join the labels of one video, or replace them."""
    if replace:  # whatever is there, even what can't be read any more
        _keep_old(project, video, say)
    known = None if replace else tables.marks_of(project, video)
    labels = (
        pl.DataFrame(schema=MARK_SCHEMA)
        if known is None
        else known.select(pl.col(SPAN_SCHEMA.names()), _origin_of(known))
    )
    file = f"{video}, {name}"
    before = None if redo or known is None else _record(project.made_from("import", file))
    joined = join_import(labels, spans, name=name, before=before)
    length = tables.length(project, video)
    _write_marks(project, check_spans(joined.labels, {video: length}), video, length, say)
    for line in joined.told(name):
        say(f"{video}: {line}")
    project.mark_done("import", file, {"file": name, **joined.record._asdict()}, [])


def _boxes(source: Path, video: str | None, format: LabelFormat | None) -> dict[str, Box]:
    """The box of each video that a file of boxed lines names; none of other files."""
    if (format or label_format(source)) != "boxed":
        return {}
    boxes = read_boxes(source)
    if set(boxes.values()) == {WHOLE_PICTURE}:  # as lines are written where no box is known
        return {}
    return dict.fromkeys([video], *boxes.values()) if video and len(boxes) == 1 else boxes


def _take_box(project: Project, video: str, box: Box, name: str, replace: bool, say: Say) -> None:
    own = own_box(project, video)
    if own is not None and own.origin == BY_HAND and own.box != box and not replace:
        say(f"{video}: its box {shown_box(own.box)} was given by hand and stays; {name} has {shown_box(box)}.")
    elif own is None or own.box != box:
        keep_box(project, video, box, origin=import_origin(name))
        say(f"{video}: its box is {shown_box(box)}, from {name}.")


def _has_more(project: Project, video: str, spans: pl.DataFrame) -> bool:
    """Whether a video's labels are others than those of a file, or can't be read."""
    try:
        marks = tables.marks_of(project, video)
    except HlkitError:
        return True
    there, here = (
        sorted(table.select(pl.col("start", "end").round(6), "label").rows())
        for table in (spans, spans.clear() if marks is None else marks)
    )
    return here != there


def _record(kept: Mapping[str, Any]) -> Record | None:
    try:
        said, gave = (
            [(start, end, label, origin) for start, end, label, origin in kept[part]] for part in Record._fields
        )
    except (KeyError, TypeError, ValueError):
        return None
    return Record(said, gave)


@contextmanager
def alone(project: Project, video: str) -> Iterator[None]:
    """Nobody else labels the video while the block runs, so what is read in it is what is written over."""
    from hlkit.widgets.journal import locked

    with locked(project.labels(video).with_suffix(".jsonl")):
        yield


def _keep_old(project: Project, video: str, say: Say) -> None:
    file = project.labels(video)
    if file.is_file():
        say(f"{video}: its labels of before are in {put_aside(file)}.")


def check_names(names: Iterable[str], *, what: str) -> None:
    """An `HlkitError` for a name of a class or an origin that a label file would not give back as it is."""
    for name in names:
        if not name or name != one_line(name) or not is_plain(name):
            raise HlkitError(
                f"The {what} {name!r} can't stand in a label file. Give a name on one line, with single spaces and "
                "without control signs."
            )


def _write_marks(project: Project, spans: pl.DataFrame, video: str, length: float, say: Say) -> None:
    check_names(spans["label"].unique(), what="class")
    check_names(spans[ORIGIN].drop_nulls().unique(), what="origin")
    write_labels(spans, project.labels(video))
    project.mark_done("label", video, {"spans": spans.write_csv()}, [project.labels(video)])
    rejected = spans["label"] == BACKGROUND
    seconds = spans["end"] - spans["start"]
    aside = f", {format_time(float(seconds.filter(rejected).sum()))} looked at and rejected" if rejected.any() else ""
    marked = float(seconds.filter(~rejected).sum())
    say(f"{video}: {len(spans)} spans, {format_time(marked)} of {format_time(length)}{aside}.")
