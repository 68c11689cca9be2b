"""Stages on files that are no part of a project: score any video with a model, say what each is, sort them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError, HlkitWarning, check_place, safe_id, write_text
from hlkit.sampling import Box
from hlkit.shares import check_thresholds, class_shares, decide_classes, shares_text
from hlkit.sorting import RECORD, move_files, plan_moves, undo_moves
from hlkit.sources import read_many
from hlkit.stages.common import Say
from hlkit.stages.sequences import SEQUENCE_NAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More than these would not be read.
MOVES_SAID = 10


@dataclass(frozen=True, eq=False)
class FileScores:
    """What a model thinks of some files.

    Attributes:
        scores: a score table; `video` is the id that a file got from its name.
        classes: of the model, the ordinary one first.
        files: the file of each id.
    """

    scores: pl.DataFrame
    classes: tuple[str, ...]
    files: Mapping[str, Path]

    def __repr__(self) -> str:
        return f"FileScores({len(self.files)} files, {len(self.scores):,} frames, {', '.join(self.classes)})"


def infer_files(
    sources: str | Path | Sequence[str | Path],
    *,
    model: Path | str,
    start: float | None = None,
    end: float | None = None,
    duration: float | None = None,
    fps: str | None = None,
    box: Box | None = None,
    keep_cut: bool = False,
    target: Path | str | None = None,
    progress: bool = True,
    say: Say = print,
) -> FileScores:
    """Score video files with a model, wherever they lie; nothing is stored beside them unless asked for.

    One of several files that can't be read is left out, with an HlkitWarning.

    Args:
        sources: files (`.mp4`, `.avi` and all else that ffmpeg reads) or folders of videos, which are searched.
        model: a `model.ckpt` that hlkit trained; its picture network scores.
        start, end, duration: this stretch of each file only, in seconds; with a start one of the others is needed.
        fps: score so many frames a second; the model's own rate unless given (models of single pictures only).
        box: the part of the picture that counts in these files, `x0, y0, x1, y1` from 0 to 1; the one that the model
            learned from, unless given.
        keep_cut: keep the stretch as `<name>_cut.mp4` beside the file. Such cuts of an earlier run that are among the
            files are not scored but made anew.
        target: a CSV that gets the scores.
        progress: show a progress bar, of several files in files.
        say: takes a line for each file: the share of each class.

    Raises:
        HlkitError: for a start without an end, an end and a duration, two files of one name, a cut that would replace
            one of the files and was not made by an earlier run, a target that can't be written, no file, or none that
            could be read.
    """
    from hlkit.predict import at_rate, predict
    from hlkit.training import load_model

    if start is not None and end is None and duration is None:
        raise HlkitError(f"start={start:g} is given, but neither an end nor a duration. Give one of them.")
    if end is not None and duration is not None:
        raise HlkitError(f"end={end:g} and duration={duration:g} are both given; give one of them.")
    if keep_cut and end is None and duration is None:
        raise HlkitError("There is no stretch to keep a cut of. Give an end or a duration.")
    if target is not None:
        check_place(Path(target))
    files = _files([sources] if isinstance(sources, (str, Path)) else sources)
    if keep_cut:
        files = _without_cuts(files, say)
    network, config = load_model(Path(model))
    if Path(model).with_name(SEQUENCE_NAME).is_file():
        warnings.warn(
            f"{model} sees pictures alone. Its run's own scores, of sound and motion too, are made in a project: "
            "`hlkit download FILE`, `hlkit frames`, `hlkit infer`. For files, train with `--sequence none`.",
            HlkitWarning,
            stacklevel=2,
        )
    if isinstance(config.box, str) and box is None:
        raise HlkitError(
            "The model learned from a part of the picture that each recording has elsewhere. Say where it is in these "
            "files: a box (--box X0,Y0,X1,Y1)."
        )
    config = config if fps is None else at_rate(config, fps)
    tables, lines, is_one = [], [], len(files) == 1
    hidden = is_one or not progress
    for video, file in tqdm(files.items(), desc="scoring", unit="file", mininterval=0.5, disable=hidden):
        try:
            scores = predict(
                network,
                config,
                file,
                video_id=video,
                start=start or 0.0,
                end=end,
                duration=duration,
                box=box,
                progress=progress and is_one,
            )
        except HlkitError as error:
            if is_one:
                raise
            warnings.warn(f"{file} is left out. {error}", HlkitWarning, stacklevel=2)
            continue
        tables.append(scores)
        row = class_shares(scores, config.classes).row(0, named=True)
        lines.append(f"{file.name}: {shares_text(row, config.classes)}")
        if keep_cut:
            try:
                cut = _keep_cut(file, start or 0.0, end if end is not None else (start or 0.0) + (duration or 0.0))
            except HlkitError as error:
                if len(files) == 1:
                    raise
                warnings.warn(f"{file}: its cut is not kept. {error}", HlkitWarning, stacklevel=2)
                continue
            lines.append(f"{file.name}: the cut is {cut}.")
    for line in lines:
        say(line)
    if not tables:
        raise HlkitError("None of the files could be scored. Copy or download them again.")
    table = pl.concat(tables)
    if target is not None:
        write_text(Path(target), table.write_csv(float_precision=6))
    return FileScores(table, config.classes, {video: files[video] for video in table["video"].unique()})


def decide_files(
    found: FileScores, *, thresholds: Mapping[str, float] | None = None, target: Path | str | None = None
) -> pl.DataFrame:
    """What each file is as a whole.

    Args:
        found: from `infer_files`.
        thresholds: the share of a file above which a class counts, see `hlkit.shares.decide_classes`.
        target: a CSV that gets the table.

    Returns:
        A row a file: `video`, `path`, `frames`, `share_<class>` for each, `class`.
    """
    shares = decide_classes(class_shares(found.scores, found.classes), found.classes, thresholds=thresholds)
    paths = pl.Series("path", [str(found.files[video]) for video in shares["video"]], dtype=pl.String)
    table = shares.insert_column(1, paths)
    if target is not None:
        write_text(Path(target), table.write_csv(float_precision=4))
    return table


def join_decisions(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One class for each file out of several tables of `decide_files` on the same files: `good sharp`.

    Returns:
        `path` and `class`, in the order of the first table; a file that one of them lacks is left out.
    """
    joined = tables[0].select("path", "class")
    for table in tables[1:]:
        joined = joined.join(table.select("path", other="class"), on="path", how="inner", maintain_order="left")
        joined = joined.select("path", pl.concat_str("class", "other", separator=" "))
    return joined


def file_sheet(table: pl.DataFrame, *, title: str = "", pictures: int = 36) -> Figure:
    """A contact sheet: the picture in the middle of each file, with its name and class; the first `pictures` of them.

    `table` has the columns `path` and `class`.
    """
    from hlkit.frames import stream_pictures
    from hlkit.gallery import picture_gallery
    from hlkit.video import probe

    shown, captions = [], []
    for path, name in table.select("path", "class").head(pictures).iter_rows():
        middle = probe(Path(path)).duration / 2
        with closing(stream_pictures(Path(path), fps=1, size=128, start=middle, batch_size=1)) as batches:
            shown.append(next(batches)[0])
        captions.append(f"{Path(path).stem[:18]}\n{name}")
    return picture_gallery(shown, captions, title=title)


def sort_files(table: pl.DataFrame, folder: Path | str, *, yes: bool = False, say: Say = print) -> pl.DataFrame:
    """Move files into a folder for each class. Unless `yes`, only say what would be moved.

    Args:
        table: `path` and `class`, as from `decide_files`.
        folder: gets a folder a class, and `moved.csv`, from which `unsort` takes all of it back.
        yes: do it.
        say: takes the lines for the user.

    Returns:
        `source` and `target` of each move.

    Raises:
        HlkitError: when files are missing or places are taken; nothing is moved then.
    """
    moves = plan_moves([Path(path) for path in table["path"]], table["class"].to_list(), Path(folder))
    for source, target in list(moves.iter_rows())[:MOVES_SAID]:
        say(f"{source} -> {target}")
    if len(moves) > MOVES_SAID:
        say(f"... and {len(moves) - MOVES_SAID} more.")
    if yes:
        move_files(moves, Path(folder))
        say(f"{len(moves)} files moved; {Path(folder) / 'moved.csv'} says from where.")
    else:
        say(f"{len(moves)} files would be moved; nothing was.")
    return moves


def sort(
    files: Sequence[Path],
    *,
    model: Path,
    into: Path,
    thresholds: Mapping[str, float] | None = None,
    target: Path | None = None,
    yes: bool = False,
    progress: bool = True,
    say: Say = print,
) -> pl.DataFrame:
    """Score files, decide what each is, and sort them: `infer_files`, `decide_files` and `sort_files` in one.

    Raises:
        HlkitError: as these do; for thresholds and places before anything is scored.
    """
    from hlkit.training import load_model

    check_thresholds(thresholds, load_model(Path(model))[1].classes)
    for place in (Path(into) / RECORD, *([] if target is None else [Path(target)])):
        check_place(place)
    found = infer_files(files, model=model, progress=progress, say=say)
    return sort_files(decide_files(found, thresholds=thresholds, target=target), into, yes=yes, say=say)


def unsort(folder: Path | str, *, say: Say = print) -> int:
    """Move back what `sort_files` moved into a folder, and return how many files that were.

    Raises:
        HlkitError: when nothing was sorted into it, or an old place is taken.
    """
    count = undo_moves(Path(folder))
    say(f"{count} files moved back.")
    return count


def _files(sources: Sequence[str | Path]) -> dict[str, Path]:
    """The files by their ids, in order."""
    paths = []
    for source in map(Path, sources):
        paths += [Path(each.source) for each in read_many(source)] if source.is_dir() else [source]
    files: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise HlkitError(f"There is no file {path}. Check its path.")
        other = files.setdefault(safe_id(path.stem), path)
        if other != path:
            raise HlkitError(f"{other} and {path} have one name. Rename one of them, or score them by themselves.")
    if not files:
        raise HlkitError("No file is named. Name videos, or folders of videos.")
    return files


def _without_cuts(files: dict[str, Path], say: Say) -> dict[str, Path]:
    """The files without the cuts that an earlier run kept of others among them.

    Raises:
        HlkitError: when the cut of a file would take the place of another that no earlier run made.
    """
    from hlkit.mp4 import is_cut

    cuts = {_cut_of(file).resolve(): file for file in files.values()}
    kept = {video: file for video, file in files.items() if file.resolve() not in cuts}
    for video in files.keys() - kept.keys():
        cut, file = files[video], cuts[files[video].resolve()]
        if not is_cut(cut):
            raise HlkitError(f"The cut of {file} would replace {cut}, which is to be scored too. Move that elsewhere.")
    if left_out := [file.name for video, file in files.items() if video not in kept]:
        say(f"{', '.join(left_out)}: kept by an earlier run, made anew and not scored.")
    return kept


def _cut_of(file: Path) -> Path:
    return file.with_name(f"{file.stem}_cut.mp4")


def _keep_cut(file: Path, start: float, end: float) -> Path:
    from hlkit.reel import Cut, write_reel
    from hlkit.video import probe

    target = _cut_of(file)
    end = min(end, probe(file).duration)
    with warnings.catch_warnings():
        # That a cut of an AVI is encoded and not copied is no news for who asked for an MP4.
        warnings.simplefilter("ignore", HlkitWarning)
        write_reel(file, [Cut(start, end)], target, progress=False)
    return target
