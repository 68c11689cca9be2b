"""Sorting files into folders by class: planned first, so that it can be looked at, and written down, so that it can be
taken back.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hlkit.project import HlkitError, safe_id, write_text

MOVES_SCHEMA = pl.Schema({"source": pl.String, "target": pl.String})
RECORD = "moved.csv"


def plan_moves(files: Sequence[Path], classes: Sequence[str], folder: Path) -> pl.DataFrame:
    """Where each file would go: `folder/<class>/<name>`. Nothing is moved.

    Args:
        files: what to sort.
        classes: the class of each, in the same order.
        folder: gets a folder a class.

    Returns:
        `source` and `target` (str, absolute), a row for each file that is not there already.

    Raises:
        HlkitError: when a file is missing, or two would get the same place, or one is there that must not be replaced;
            all at once.
    """
    if len(files) != len(classes):
        raise HlkitError(f"There are {len(files)} files and {len(classes)} classes; give one for each.")
    folder = Path(folder).resolve()
    pairs = [
        (Path(file).resolve(), folder / safe_id(name) / Path(file).name)
        for file, name in zip(files, classes, strict=True)
    ]
    pairs = [(source, target) for source, target in pairs if source != target]
    targets = [target for _, target in pairs]
    sources = {source for source, _ in pairs}
    faults = [f"there is no file {source}" for source, _ in pairs if not source.is_file()]
    faults += [f"{target} is there already" for target in targets if target.exists() and target not in sources]
    faults += [
        f"two files would become {target}" for target in sorted({each for each in targets if targets.count(each) > 1})
    ]
    if faults:
        more = f" And {len(faults) - 10} more." if len(faults) > 10 else ""
        raise HlkitError(f"Nothing is moved: {'; '.join(faults[:10])}.{more} Rename them, or choose another folder.")
    return pl.DataFrame([(str(source), str(target)) for source, target in pairs], schema=MOVES_SCHEMA, orient="row")


def move_files(moves: pl.DataFrame, folder: Path) -> None:
    """Move files as planned, and write what was moved to `folder/moved.csv`, from which `undo_moves` takes it back.

    Args:
        moves: as `plan_moves` gives them.
        folder: as for `plan_moves`.

    Raises:
        HlkitError: when a file can't be moved; those before it have been, and stand in the record.
    """
    record = Path(folder) / RECORD
    before = _read_record(record) if record.is_file() else pl.DataFrame(schema=MOVES_SCHEMA)
    if moves.is_empty():
        return
    # Before the first move: a run that is killed can be taken back too.
    write_text(record, pl.concat([before, moves.select(MOVES_SCHEMA.names())]).write_csv())
    for source, target in moves.select(MOVES_SCHEMA.names()).iter_rows():
        _move(Path(source), Path(target))


def undo_moves(folder: Path) -> int:
    """Move everything in `folder/moved.csv` back to where it came from, and return how many files were.

    What has been moved on or back by hand since is left alone.

    Raises:
        HlkitError: when there is no record, or a file's old place is taken.
    """
    record = Path(folder) / RECORD
    if not record.is_file():
        raise HlkitError(f"There is no {record}: nothing was sorted into {folder}, or it was taken back.")
    moves = [(Path(source), Path(target)) for source, target in _read_record(record).iter_rows()]
    back = [(source, target) for source, target in reversed(moves) if target.is_file()]
    if taken := [str(source) for source, _ in back if source.exists()]:
        raise HlkitError(f"Nothing is moved back: {', '.join(taken[:5])} is there again. Rename it first.")
    for source, target in back:
        _move(target, source)
    record.unlink()
    return len(back)


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    except OSError as error:
        raise HlkitError(f"{source} can't be moved to {target} ({error.strerror or error}).") from error


def _read_record(record: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(record, schema=MOVES_SCHEMA)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HlkitError(f"{record} is damaged ({error}). Delete it if you need no undoing.") from error
    return table
