"""Stages that bring sorted pictures in: somebody's own as frames with labels, or made ones with known defects."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from hlkit.changes import clip_pictures, plan_changes, write_changes
from hlkit.defects import plan_defects, write_defects
from hlkit.labels import write_labels
from hlkit.picture_folders import read_picture_folder, read_picture_list
from hlkit.picture_store import store_pictures
from hlkit.project import Project, fingerprint, safe_id, write_text
from hlkit.stages.common import Say, already_done
from hlkit.video import probe


def pictures(
    project: Project,
    source: Path | str,
    *,
    video: str | None = None,
    size: int = 128,
    fps: str = "1",
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> str:
    """Take sorted pictures into the project, as frames and labels that `train` learns from. Returns their id.

    Args:
        project: gets `frames/<id>/` and `labels/<id>.csv`.
        source: a folder with a folder of pictures for each class, or a CSV with the columns `path,label`.
        video: the id they get; made from the source's name unless given.
        size: pictures are squashed to this many pixels, width and height.
        fps: pictures a second at which a model that learns from them will look at videos.
        redo: take them again.
        progress: show a progress bar.
        say: takes the lines for the user.

    Raises:
        HlkitError: for an empty folder, a faulty list, or a picture that can't be read.
    """
    source = Path(source)
    table = read_picture_folder(source) if source.is_dir() else read_picture_list(source)
    video = video or safe_id(source.stem)
    made_from = {"pictures": _content(table), "size": size, "fps": str(fps)}
    if not already_done(project, "pictures", video, made_from, redo, say):
        folder = project.frames / video
        shutil.rmtree(folder, ignore_errors=True)
        index, spans = store_pictures(table, folder, video_id=video, size=size, fps=str(fps), progress=progress)
        write_labels(spans.with_columns(origin=pl.lit(f"import:{source.name}")), project.labels(video))
        outputs = [project.index(video), project.labels(video), *sorted(folder.glob("*.tar"))]
        project.mark_done("pictures", video, made_from, outputs)
        counts = ", ".join(f"{label} {count:,}" for label, count in table["label"].value_counts().sort("label").rows())
        say(f"{video}: {len(index):,} pictures of {size} px ({counts}).")
    return video


def defects(
    project: Project,
    video: Path | str,
    *,
    what: Literal["pictures", "clips"] = "pictures",
    fps: str = "3",
    stretch_seconds: float = 5.0,
    seed: int = 0,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> Path:
    """Make pictures or clips with known defects of a recording, see `hlkit.defects`. Returns their folder.

    Args:
        project: gets `defects/<id>-<what>`, with `exposure.csv` and `focus.csv` (`path,label`) beside the files, and
            `defects.csv` with the amounts.
        video: the recording, of the project or elsewhere.
        what: pictures to learn from, or clips to test on.
        fps: pictures a second.
        stretch_seconds: of the recording, for each clip or run of pictures.
        seed: of the amounts.
        redo: make them again.
        progress: show a progress bar.
        say: takes the lines for the user.
    """
    video = Path(video)
    name = f"{safe_id(video.stem)}-{what}"
    folder = project.root / "defects" / name
    made_from = {"video": fingerprint(video), "fps": fps, "stretch": stretch_seconds, "seed": seed}
    if not already_done(project, "defects", name, made_from, redo, say):
        plan = plan_defects(probe(video).duration, stretch_seconds=stretch_seconds, seed=seed)
        shutil.rmtree(folder, ignore_errors=True)
        made = write_defects(video, folder, plan, what=what, fps=fps, progress=progress)
        made = made.with_columns(pl.col("path").map_elements(lambda path: Path(path).name, return_dtype=pl.String))
        lists = {task: made.select("path", label=task) for task in ("exposure", "focus")} | {"defects": made}
        for each, table in lists.items():
            write_text(folder / f"{each}.csv", table.write_csv(float_precision=5))
        project.mark_done("defects", name, made_from, [folder / f"{each}.csv" for each in lists])
        say(f"{name}: {len(made):,} {what} from {len(plan)} stretches in {folder}.")
    return folder


def changes(
    project: Project,
    video: Path | str,
    *,
    kinds: Sequence[str],
    count: int = 120,
    seconds: float = 2.5,
    seed: int = 0,
    redo: bool = False,
    progress: bool = True,
    say: Say = print,
) -> Path:
    """Make clips with known changes over time out of a recording's pictures, see `hlkit.changes`. Returns their folder.

    Args:
        project: gets `changes/<id>`, with `clips.csv` (`path,label`) beside the clips.
        video: the recording, of the project or elsewhere.
        kinds: which changes, out of `hlkit.changes.CHANGES`.
        count: how many clips.
        seconds: length of a clip.
        seed: of which still gets which change, and of what stands still.
        redo: make them again.
        progress: show a progress bar.
        say: takes the lines for the user.
    """
    video = Path(video)
    name = safe_id(video.stem)
    folder = project.root / "changes" / name
    made_from = {"video": fingerprint(video), "kinds": list(kinds), "count": count, "seconds": seconds, "seed": seed}
    if not already_done(project, "changes", name, made_from, redo, say):
        clip_pictures(seconds)
        plan = plan_changes(probe(video).duration, changes=kinds, count=count, seed=seed)
        # Not before it is known that others can be made.
        shutil.rmtree(folder, ignore_errors=True)
        made = write_changes(video, folder, plan, seconds=seconds, name=name, progress=progress)
        made = made.with_columns(pl.col("path").map_elements(lambda path: Path(path).name, return_dtype=pl.String))
        write_text(folder / "clips.csv", made.write_csv())
        project.mark_done("changes", name, made_from, [folder / "clips.csv"])
        say(f"{name}: {len(made):,} clips of {', '.join(kinds)} in {folder}.")
    return folder


def _content(table: pl.DataFrame) -> str:
    """16 hex digits for the list and the files it names."""
    digest = hashlib.sha256()
    for path, label in table.iter_rows():
        state = Path(path).stat()
        digest.update(f"{path}\t{label}\t{state.st_size}\t{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
