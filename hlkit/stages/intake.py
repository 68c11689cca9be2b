"""Stages that bring things in: recordings, the part of their picture that counts, and frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from tqdm.auto import tqdm

from hlkit.frames import extract_frames
from hlkit.project import HlkitError, HlkitWarning, Project, fingerprint, format_time
from hlkit.sampling import (
    WHOLE_PICTURE,
    Accelerator,
    Box,
    Decoding,
    PicturePart,
    check_box,
    check_pixels,
    choose_accelerator,
    read_box,
    with_whole,
)
from hlkit.sources import Wanted, check_ids, is_many, is_playlist, parse_source, read_many
from hlkit.spans import DEFAULT_CLASSES, SPAN_SCHEMA
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done, told_each
from hlkit.stages.labelling import take_labels
from hlkit.stages.views import keep_boxes, kept_box, own_box, shown_box
from hlkit.video import probe

# More labels than this would not fit into an error.
CLASSES_SAID = 20


def download(
    project: Project,
    sources: str | Path | Sequence[str | Path],
    *,
    video: str | None = None,
    quality: str = "analysis",
    limit: int = 1,
    classes: Sequence[str] | None = None,
    chat: bool = True,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[str]:
    """Bring recordings into the project and return their ids. One that fails does not keep the others away.

    Args:
        project: where they go (`videos/<id>.mp4`, `<id>.json` and, with its chat, `<id>.chat.parquet`).
        sources: one or several of: a file, a folder of videos, a list of links (.csv or .txt, see
            `hlkit.sources.read_many`), the link or number of a Twitch VOD, the link of a Twitch clip, of a channel, or
            of a video or playlist on another site. Where a list names stretches (Kinetics' CSV does), these alone are
            fetched; where it says what they show, that becomes their label (`labels/<id>.csv`).
        video: the id of a single recording; made from the source unless given.
        quality: `analysis` (the rendition nearest to 360p), `source` (the best), or a name that is offered.
        limit: of a channel or playlist, the newest so many.
        classes: of lists that say what their recordings show, those with one of these labels.
        chat: take the chat of Twitch VODs too; without it the download is finished all the same (HlkitWarning).
        redo: fetch again.
        progress: show a progress bar.
        say: takes the lines for the user; of more than 20 recordings only those that did not come have one.

    Raises:
        HlkitError: when one of them did not come; says which and why, after the others have been tried. Of lists of
            stretches, which name other people's videos and always lack some, only when none came; else what lacks is
            an HlkitWarning.
    """
    wanted = _expand([sources] if isinstance(sources, (str, Path)) else sources, limit)
    if classes is not None:
        wanted = _of_classes(wanted, classes)
    if video is not None:
        if len(wanted) != 1:
            raise HlkitError(
                f"The id '{video}' fits one recording, not {len(wanted)}. Leave it out, or use a list with ids."
            )
        wanted = [(each._replace(video=video), name) for each, name in wanted]
    came, failures, tell = [], [], told_each(len(wanted), say)
    for each, name in tqdm(wanted, desc="download", unit="video", disable=not progress or tell is say):
        try:
            video = _download_one(project, each, quality, chat, redo, progress and tell is say, tell)
            came.append((video, each.label, name))
        except HlkitError as error:
            failures.append(error)
            if len(wanted) > 1:
                say(f"{each.id if each.end else each.source}: {error}")
    _label(project, came, tell)
    if tell is not say:
        say(f"{len(came)} of {len(wanted)} recordings are here.")
    if failures and len(wanted) == 1:
        raise failures[0]
    if failures:
        reason = f"{len(failures)} of {len(wanted)} recordings did not come, the first because: {failures[0]}"
        if not came or not any(each.end for each, _ in wanted):
            raise HlkitError(reason)
        warnings.warn(reason, HlkitWarning, stacklevel=2)
    return [video for video, _, _ in came]


def _expand(sources: Sequence[str | Path], limit: int) -> list[tuple[Wanted, str]]:
    """Each recording that is asked for, and the name of the list that names it ("" for none)."""
    from hlkit.download import list_videos

    wanted: list[tuple[Wanted, str]] = []
    for source in map(str, sources):
        if is_many(source):
            wanted += [(each, Path(source).name) for each in read_many(source)]
        elif is_playlist(source):
            wanted += [(Wanted(link), "") for link in list_videos(source, limit=limit)["link"]]
        else:
            wanted.append((Wanted(source), ""))
    check_ids([each for each, _ in wanted])
    return wanted


def _of_classes(wanted: Sequence[tuple[Wanted, str]], classes: Sequence[str]) -> list[tuple[Wanted, str]]:
    known = sorted({each.label for each, _ in wanted if each.label})
    if unknown := sorted(set(classes) - set(known)):
        listed = ", ".join(known[:CLASSES_SAID]) + (" ..." if len(known) > CLASSES_SAID else "") or "none"
        raise HlkitError(f"Nothing in the lists is labelled {', '.join(unknown)}. Their labels are: {listed}.")
    return [(each, name) for each, name in wanted if each.label in classes]


def _label(project: Project, came: Sequence[tuple[str, str | None, str]], say: Say) -> None:
    """Label recordings (id, label, name of the list), from end to end, with what their list says they show."""
    for name in dict.fromkeys(name for _, label, name in came if label):
        # A spreadsheet writes Background with a capital; see `hlkit.entries.Findings.add`.
        labels = [(video, label) for video, label, of in came if label and of == name]
        labels = [(video, label.lower() if label.lower() in DEFAULT_CLASSES else label) for video, label in labels]
        rows = [(video, 0.0, tables.length(project, video), label) for video, label in labels]
        spans = pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")
        take_labels(project, spans, videos=spans["video"].to_list(), name=name, say=say)


def _download_one(
    project: Project, wanted: Wanted, quality: str, chat: bool, redo: bool, progress: bool, say: Say
) -> str:
    from hlkit.download import download as fetch
    from hlkit.remote import download_stretch

    source, video = wanted.source, wanted.id
    made_from = {"source": source, "quality": quality}
    stretch = {} if wanted.end is None else {"start": wanted.start or 0.0, "end": wanted.end}
    if not already_done(project, "download", video, made_from | stretch, redo, say):
        options: dict[str, Any] = {"video_id": video, "quality": quality, "progress": progress}
        take = download_stretch if stretch else fetch
        target = take(source, project.videos, **stretch, **options)
        project.mark_done("download", video, made_from | stretch, [target, target.with_suffix(".json")])
        say(f"{video}: downloaded, {target.stat().st_size / 1e6:,.1f} MB.")
    if chat and not stretch and parse_source(source).kind == "vod":
        _download_chat(project, source, video, redo, progress, say)
    return video


def _download_chat(project: Project, source: str, video: str, redo: bool, progress: bool, say: Say) -> None:
    from hlkit.chat import fetch_chat

    made_from, target = {"source": source}, project.chat(video)
    if already_done(project, "chat", video, made_from, redo, say):
        return
    try:
        table = fetch_chat(parse_source(source), target, progress=progress)
    except HlkitError as error:
        warnings.warn(f"{video}: its chat did not come, the video did. {error}", HlkitWarning, stacklevel=4)
        return
    project.mark_done("chat", video, made_from, [target])
    say(f"{video}: chat of {len(table):,} messages by {table['author'].drop_nulls().n_unique():,} people.")


def channel(name: str, *, limit: int = 10, say: Say = print) -> pl.DataFrame:
    """The newest videos of a Twitch channel (its name or link), or of another channel or playlist (link), as a table.

    Returns:
        The columns of `hlkit.download.list_videos`.
    """
    from hlkit.download import list_videos

    table = list_videos(name, limit=limit)
    for row in table.iter_rows(named=True):
        length = "" if row["length"] is None else format_time(row["length"])
        title = "".join(letter for letter in row["title"] if letter.isprintable())  # others wrote it
        say(f"{row['link']}  {length:>8}  {row['published'][:10]:10}  {title}")
    if table.is_empty():
        say(f"{name} has no videos.")
    return table


def frames(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    fps: str = "3",
    size: int = 128,
    start: float | None = None,
    end: float | None = None,
    box: Box | None = None,
    whole_too: bool = False,
    accelerator: Accelerator = "auto",
    decoding: Decoding = "fast",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> list[str]:
    """Store `fps` pictures a second of `size` x `size` pixels for each video. Returns their ids.

    Args:
        project: must hold the recordings.
        videos: all of them unless named.
        fps: an exact number or fraction.
        size: in pixels.
        start, end: of the stretch to store, in seconds; the whole recording unless given.
        box: the part of the picture to store, `x0, y0, x1, y1` from 0 to 1, such as a face cam; it is kept for these
            videos as `box` does. Unless given, the part that is kept, or the whole picture.
        whole_too: store the whole picture with each video's box, one above the other in one square picture.
        accelerator: decode on the `cpu`, on the GPU (`cuda`), or `auto`matically on the faster of the two.
        decoding: `fast` saves the CPU a quarter of its work; `exact` keeps edges smooth (see `hlkit.sampling`).
        redo: store again.
        progress: show a progress bar.
        say: takes the lines for the user.
    """
    chosen = tables.chosen_videos(project, videos)
    if box is not None:
        for video in chosen:  # or what can't be stored would stay kept
            check_pixels(check_box(box), probe(project.video(video)))
        keep_boxes(project, box, videos=videos, say=say)
    parts = {video: _stored_part(kept_box(project, video), video, whole_too) for video in chosen}
    tell, stored = told_each(len(chosen), say), 0
    for video in tqdm(chosen, desc="frames", unit="video", disable=not progress or tell is say):
        source, part = project.video(video), parts[video]
        made_from = {"video": fingerprint(source), "fps": str(fps), "size": size}
        chosen_part = {"start": start, "end": end, "box": part and list(part), "decoding": decoding}
        # What is left at its default does not make frames of an earlier version count as others.
        made_from |= {name: value for name, value in chosen_part.items() if value not in (None, "fast")}
        if already_done(project, "frames", video, made_from, redo, tell):
            continue
        folder = project.frames / video
        kind = choose_accelerator(source, accelerator, fps=fps, size=size, say=tell)
        index = extract_frames(
            source,
            folder,
            video_id=video,
            fps=fps,
            size=size,
            start=start or 0.0,
            end=end,
            box=part,
            accelerator=kind,
            decoding=decoding,
            redo=redo,
            progress=progress and tell is say,
        )
        project.mark_done("frames", video, made_from, [project.index(video), *sorted(folder.glob("*.tar"))])
        inside = "" if part is None else f", box {shown_box(part)}"
        tell(f"{video}: {len(index):,} frames of {size} px, {fps} a second{inside}.")
        stored += 1
    if tell is not say:
        already = f" ({len(chosen) - stored} already done)" if stored < len(chosen) else ""
        say(f"{len(chosen)} videos: frames of {size} px, {fps} a second{already}.")
    return chosen


def _stored_part(kept: Box | None, video: str, whole_too: bool) -> PicturePart | None:
    if not whole_too:
        return None if kept == WHOLE_PICTURE else kept
    if kept is None:
        raise HlkitError(
            f"'{video}' has no box to go with its whole picture. Say it: `hlkit box X0,Y0,X1,Y1 --video {video}`."
        )
    return with_whole(kept)


def box(
    project: Project, part: Box | str | None = None, *, videos: Sequence[str] | None = None, say: Say = print
) -> dict[str, Box | None]:
    """Say which part of the picture counts, such as a face cam: of some videos, or of all that have none of their own.

    It is what `frames` stores and what a model that learned from parts is shown. What is stored already stays until
    `frames` is run again. Drawn with the mouse: `box_picker`; from a file of boxed lines: `label`.

    Args:
        project: where it is kept (`labels/<id>.box.json`, or `project.toml` for all).
        part: `x0, y0, x1, y1` from 0 to 1, also as a text; `(0, 0, 1, 1)` or "whole" is the whole picture. Without it,
            nothing changes.
        videos: whose part it is; that of all videos without one of their own, unless named.
        say: takes the lines for the user.

    Returns:
        The part of each video of the project, None where nobody said any.

    Raises:
        HlkitError: when a video is not there, or the box is none.
    """
    chosen = tables.chosen_videos(project, videos)
    if part is not None:
        keep_boxes(project, read_box(part) if isinstance(part, str) else part, videos=videos, say=say)
    boxes = {video: kept_box(project, video) for video in chosen}
    for video, kept in boxes.items():
        whose = "its own" if own_box(project, video) else "that of all"
        say(f"{video}: " + ("no box, so the whole picture." if kept is None else f"{shown_box(kept)}, {whose}."))
    return boxes
