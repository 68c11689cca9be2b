"""Stages that label a video by what was published of it: a highlight video, or the clips that viewers made."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from hlkit.entries import plain_name
from hlkit.frames import read_index
from hlkit.glimpses import LEAST_RATE
from hlkit.imports import MATCHES
from hlkit.labels import BACKGROUND, DEFAULT_LABEL, MARK_SCHEMA, ORIGIN
from hlkit.matching import MATCH_SCHEMA, match_reels
from hlkit.project import HlkitError, HlkitWarning, Project, atomic_path, fingerprint, format_time, safe_id
from hlkit.records import read_record, read_table
from hlkit.stages import tables, views
from hlkit.stages.common import Say, already_done
from hlkit.stages.labelling import alone, label_spans
from hlkit.video import frame_rate

Unshown = Literal["background", "near"]
"""What becomes background of the time that no reel shows: all of it, or what is near to what they show."""

# Who cut a clip has seen what is so near to it, and left it out.
NEAR_SECONDS = 30.0
# A rest shorter than this is where two clips meet.
SHORTEST_REST_SECONDS = 1.0
MAX_CLIPS = 20


def match(
    project: Project,
    reels: str | Path | Sequence[str | Path],
    *,
    video: str,
    rest: Unshown = "background",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """Label a video by highlight videos that were cut from it: what they show are highlights.

    Labels from elsewhere stay as they are and come first where both cover the same time; an earlier match of a reel of
    the same name is replaced.

    Args:
        project: must hold the video; its frames, where it has some of the whole picture, save decoding it.
        reels: files; each is held against the video by itself.
        video: the id of the stream's recording.
        rest: what the reels don't show. Who published a reel saw all of the stream and chose, so it is `background`:
            looked at and rejected. With `near` only the half minute before and after each highlight is.
        redo: look again.
        progress: show progress bars.
        say: takes the lines for the user.

    Returns:
        The columns of `hlkit.matching.match_reel`, of all reels.

    Raises:
        HlkitError: when a file can't be read, two have one name, or `rest` is another word.
    """
    files = [Path(reel) for reel in ([reels] if isinstance(reels, (str, Path)) else reels)]
    origins = [f"reel:{plain_name(file.stem)}" for file in files]
    for place, origin in enumerate(origins):
        if origin in origins[:place]:
            raise HlkitError(
                f"{files[origins.index(origin)]} and {files[place]} have one name, by which labels are told apart. "
                "Give one of them another name."
            )
    return _match(project, files, origins, video, rest, redo, progress, say)


def match_clips(
    project: Project,
    *,
    video: str,
    limit: int = MAX_CLIPS,
    rest: Unshown = "near",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """Label a Twitch VOD by the clips that viewers made of it, the most seen first.

    Twitch tells when somebody made a clip, not where in the stream it lies; so the clips are downloaded for a moment
    and looked for in the video.

    Args:
        project: must hold the video, downloaded from Twitch, which brings the list of its clips.
        video: its id.
        limit: so many clips at most.
        rest: as in `match`; viewers made clips of what they saw, which says little about the rest.
        redo: look again.
        progress: show progress bars.
        say: takes the lines for the user.

    Returns:
        The columns of `hlkit.matching.match_reel`, of all clips.

    Raises:
        HlkitError: when the video has no list of clips, or none can be downloaded. One that is gone is left out
            (HlkitWarning).
    """
    clips = clips_of(project, video)[:limit]
    if not clips:
        say(f"{video}: no clips were made of it.")
        return pl.DataFrame(schema=MATCH_SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        files = _fetch_clips(clips, Path(folder), progress)
        if not files:
            raise HlkitError(f"None of the {len(clips)} clips of '{video}' can be had from Twitch any more.")
        origins = [f"clip:{file.stem}" for file in files]
        return _match(project, files, origins, video, rest, redo, progress, say)


def _fetch_clips(clips: Sequence[Mapping[str, Any]], folder: Path, progress: bool) -> list[Path]:
    """The clips that can be had, each as a file of its name; one that is gone is told (HlkitWarning)."""
    from hlkit.download import download

    files = []
    for clip in clips:
        name = safe_id(clip["link"].rstrip("/").rsplit("/", 1)[-1])
        try:
            files.append(download(clip["link"], folder, video_id=name, progress=progress))
        except HlkitError as error:
            warnings.warn(f"The clip {clip['link']} is left out: {error}", HlkitWarning, stacklevel=3)
    return files


def clips_of(project: Project, video: str) -> list[dict[str, Any]]:
    """The clips that viewers made of a VOD, as `hlkit.channel.read_clips` gives them, the most seen first.

    Raises:
        HlkitError: when the project does not know of any, since the video was not downloaded from Twitch.
    """
    project.video(video)
    file = project.videos / f"{video}.json"
    remedy = f"The clips of '{video}' come along when it is downloaded from Twitch: `hlkit download LINK --redo`."
    clips = read_record(file, {"source": str}, remedy=remedy).get("clips")
    if not isinstance(clips, list) or not all(
        isinstance(clip, dict) and {"link", "views"} <= set(clip) for clip in clips
    ):
        raise HlkitError(f"{file} has no list of clips. {remedy}")
    return sorted(clips, key=lambda clip: -clip["views"])


def _match(
    project: Project,
    files: Sequence[Path],
    origins: Sequence[str],
    video: str,
    rest: Unshown,
    redo: bool,
    progress: bool,
    say: Say,
) -> pl.DataFrame:
    if rest not in get_args(Unshown):
        raise HlkitError(f"The rest is '{rest}'; background and near are allowed.")
    stream = project.video(video)
    made_from = {"video": fingerprint(stream), "reels": [fingerprint(file) for file in files], "rest": rest}
    kept = project.root / ".stages" / f"match-{video}.parquet"
    # Labels may be edited afterwards, which is no reason to look again; but a file that is gone holds none.
    if project.labels(video).is_file() and already_done(project, "match", video, made_from, redo, say):
        remedy = "Look again: `hlkit match --redo`."
        return read_table(kept, texts=["video"], numbers=["start"], remedy=remedy, may_be_empty=True)
    frames = stored_frames_of(project, video)
    found = match_reels(stream, files, video=video, frames=frames, root=project.frames, progress=progress)
    for file, table in zip(files, found, strict=True):
        seconds = format_time(float((table["end"] - table["start"]).sum()))
        shown = f"{table.height} stretches of it, {seconds}" if table.height else "nothing of it"
        say(f"{video}: {file.name} shows {shown}.")
    matches, length = pl.concat(found), tables.length(project, video)
    with alone(project, video):
        labels = before = _all_labels(project, video)
        for file, origin, table in zip(files, origins, found, strict=True):
            if earlier := labels.filter(pl.col(ORIGIN) == origin, pl.col("label") == DEFAULT_LABEL).height:
                say(f"{video}: that replaces {earlier} highlights which an earlier {file.name} gave.")
            labels = with_match(labels, table, origin=origin)
        if not matches.is_empty():
            origin = origins[0] if len(origins) == 1 else f"{origins[0].partition(':')[0]}s"
            labels = with_rest(labels, video=video, length=length, rest=rest, origin=origin)
        if not matches.is_empty() or labels.height < before.height:
            # What this wrote says so itself; a label that does not say where it is from must never pass for a match's.
            label_spans(project, labels, video=video, origin="hand", say=say)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(kept) as temporary:
        matches.write_parquet(temporary)
    project.mark_done("match", video, made_from, [kept])
    return matches


def stored_frames_of(project: Project, video: str) -> pl.DataFrame | None:
    """The video's frames table where its frames show the whole picture and recording; None otherwise."""
    made = views.frame_settings(project, video)
    if made is None or made.box is not None or frame_rate(made.fps) < LEAST_RATE:
        return None
    index = read_index(project.frames / video)
    whole = index["time"][0] == 0 and index["time"][-1] > tables.length(project, video) - 2
    return index if whole else None


def _all_labels(project: Project, video: str) -> pl.DataFrame:
    """All label spans of a video, those of background too: columns of `MARK_SCHEMA`."""
    marks = tables.marks_of(project, video)
    if marks is None:
        return pl.DataFrame(schema=MARK_SCHEMA)
    return marks if ORIGIN in marks.columns else marks.with_columns(pl.lit(None, dtype=pl.String).alias(ORIGIN))


def with_match(labels: pl.DataFrame, matches: pl.DataFrame, *, origin: str) -> pl.DataFrame:
    """The labels of one video and what a reel shows of it, by start.

    Labels of other origins stay and come first; background that an earlier match wrote gives way to what is shown.

    Args:
        labels: columns of `SPAN_SCHEMA` and `origin`.
        matches: the columns of `hlkit.matching.match_reel`.
        origin: of the matches; what `labels` has of that origin goes.
    """
    kind = pl.col(ORIGIN).fill_null("").str.split(":").list.first()
    rest = pl.col("label").eq(BACKGROUND) & kind.is_in(MATCHES)
    labels = labels.filter(pl.col(ORIGIN).ne_missing(origin))
    marked, auto = labels.filter(~rest), labels.filter(rest)
    shown = subtract(_ranges(matches), _ranges(marked))
    rows = [(matches["video"][0], start, end, DEFAULT_LABEL, origin) for start, end in shown]
    for video, start, end, label, source in auto.iter_rows():
        rows += [(video, *piece, label, source) for piece in subtract([(start, end)], shown)]
    return pl.concat([marked, pl.DataFrame(rows, schema=labels.schema, orient="row")]).sort("start", "end")


def with_rest(labels: pl.DataFrame, *, video: str, length: float, rest: Unshown, origin: str) -> pl.DataFrame:
    """The labels and, as background, what no label covers: all of it, or what is near to a highlight.

    Args:
        labels: columns of `SPAN_SCHEMA` and `origin`, of one video.
        video: its id.
        length: of the video, s.
        rest: `background` for all, `near` for `NEAR_SECONDS` on both sides of each label of this origin.
        origin: of the background.
    """
    free = [(0.0, length)]
    if rest == "near":
        kind = origin.rstrip("s").partition(":")[0]
        mine = labels.filter(pl.col(ORIGIN).fill_null("").str.starts_with(kind), pl.col("label") == DEFAULT_LABEL)
        free = [(max(0.0, start - NEAR_SECONDS), min(length, end + NEAR_SECONDS)) for start, end in _ranges(mine)]
    gaps = [gap for gap in subtract(free, _ranges(labels)) if gap[1] - gap[0] >= SHORTEST_REST_SECONDS]
    rows = [(video, start, end, BACKGROUND, origin) for start, end in gaps]
    return pl.concat([labels, pl.DataFrame(rows, schema=labels.schema, orient="row")]).sort("start", "end")


def _ranges(spans: pl.DataFrame) -> list[tuple[float, float]]:
    return list(spans.select("start", "end").iter_rows())


def subtract(pieces: Sequence[tuple[float, float]], covers: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is in some of `pieces` and in none of `covers`, as disjoint `[start, end)` in order.

    Example: `[(0, 10), (8, 12)]` less `[(3, 4)]` is `[(0, 3), (4, 12)]`.
    """
    edges = sorted({edge for part in (*pieces, *covers) for edge in part})
    result: list[tuple[float, float]] = []
    for start, end in pairwise(edges):
        inside = any(first <= start and end <= stop for first, stop in pieces)
        if not inside or any(first <= start and end <= stop for first, stop in covers):
            continue
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
