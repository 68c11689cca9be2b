"""The stage that writes the highlights for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hlkit.cutlist import make_cut_list
from hlkit.editors import LeftOutError
from hlkit.exports import EXPORT_KINDS, ExportKind, export_suffixes, write_exports
from hlkit.labels import read_labels
from hlkit.project import HlkitError, Project, fingerprint, write_text
from hlkit.sources import Source, parse_source
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done, current_run
from hlkit.video import probe


def export(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    to: Sequence[str] | None = None,
    redo: bool = False,
    say: Say = print,
) -> list[Path]:
    """Write the highlights of `reels/<id>.csv` for other programs, beside it. Returns the files.

    Files that are for the reel have its name: `reels/<id>.srt`; those for the whole recording say so:
    `reels/<id>.stream.srt`. The first keep to the fades of a reel that has been cut. What does not apply to a recording
    is left out, and the reason is said.

    Args:
        project: must have the recordings and their highlights. Names of highlights are their labels; scores, where the
            project's last run has scored the recording, the mean over the highlight.
        videos: those that have highlights, unless named.
        to: which kinds (see `hlkit.editors` and `hlkit.exports` for each); all, unless named.
        redo: write again.
        say: takes the lines for the user.

    Raises:
        HlkitError: when highlights or the recording are missing, a kind is unknown, or none of the named kinds applies.
    """
    if unknown := sorted(set(to or ()) - set(EXPORT_KINDS)):
        raise HlkitError(f"There is no export to {', '.join(unknown)}. There is: {', '.join(EXPORT_KINDS)}.")
    wanted: frozenset[str] = frozenset(to or EXPORT_KINDS)
    kinds: list[ExportKind] = [kind for kind in EXPORT_KINDS if kind in wanted]
    files = []
    for video in tables.highlight_videos(project, videos):
        files += _export_one(project, video, kinds, bool(to), redo, say)
    return files


def _export_one(
    project: Project, video: str, kinds: Sequence[ExportKind], asked: bool, redo: bool, say: Say
) -> list[Path]:
    table, recording = project.reel(video, ".csv"), project.video(video)
    title, source = _title(project, video), _source(project, video)
    run = current_run(project, None)
    scores = project.scores(run, video)
    made_from = {"highlights": fingerprint(table), "video": fingerprint(recording), "kinds": kinds, "title": title}
    made_from |= {"source": source and source.link, "scores": fingerprint(scores) if scores.is_file() else None}
    made_from["fade"] = fade = _fade(project, video, made_from["highlights"])
    if already_done(project, "export", video, made_from, redo, say):
        files = [project.reel(video, suffix) for kind in kinds for suffix in export_suffixes(kind)]
        return [file for file in files if file.is_file()]
    cuts = make_cut_list(
        read_labels(table, video=video),
        probe(recording),
        title=title,
        source=source,
        scores=tables.read_scores(project, video, run=run) if scores.is_file() else None,
        fade_seconds=fade,
    )
    written, reasons = [], []
    for kind in kinds:
        for suffix, text in write_exports(cuts, kind).items():
            path = project.reel(video, suffix)
            if isinstance(text, LeftOutError):
                path.unlink(missing_ok=True)  # one of an earlier choice would be out of date
                reasons.append(f"{path.name} left out: {text}.")
            else:
                write_text(path, text)
                written.append(path)
    if asked and not written:
        raise HlkitError(f"{video}: nothing to write. {' '.join(reasons)}")
    project.mark_done("export", video, made_from, written)
    names = ", ".join(path.name for path in written)
    say(f"{video}: {len(cuts.excerpts)} highlights for other programs, in {project.reel(video).parent}: {names}.")
    for reason in reasons:
        say(f"{video}: {reason}")
    return written


def _fade(project: Project, video: str, highlights: object) -> float:
    """By how many seconds cuts overlap in the reel; 0 when there is none of these highlights yet."""
    reel = project.made_from("reel", video)
    return float(reel.get("fade_seconds", 0.0)) if reel.get("highlights") == highlights else 0.0


def _title(project: Project, video: str) -> str:
    """The title that the recording had where it came from, or its id."""
    file = project.videos / f"{video}.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8")).get("title") or video)
    except (FileNotFoundError, ValueError, AttributeError):
        return video


def _source(project: Project, video: str) -> Source | None:
    """Where the recording came from, if that is known and still means something."""
    try:
        return parse_source(tables.source_of(project, video))
    except HlkitError:
        return None
