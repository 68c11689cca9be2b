"""Files that hlkit wrote and reads again: tables (Parquet) and records (JSON), checked before anything rests on them.

A file that was cut off, edited or written by something else is told by its name, with what makes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hlkit.project import HlkitError

# What each kind of value in a record is called in words.
_KINDS: Mapping[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "a group of settings"}
# Rows that are looked at at once: what lies on disk need not fit into memory.
_BLOCK_ROWS = 4096


def read_table(
    path: Path, *, texts: Collection[str], numbers: Collection[str], remedy: str, may_be_empty: bool = False
) -> pl.DataFrame:
    """A Parquet table with the columns named, of text and of numbers; it may have others.

    Args:
        path: the file.
        texts: columns that hold text.
        numbers: columns that hold numbers of any kind.
        remedy: what the user can do, as a sentence, such as "Train again: `hlkit train --redo`."
        may_be_empty: a table without rows is one too.

    Raises:
        HlkitError: when it is missing, damaged, empty (unless it may be), or lacks a column.
    """
    if not path.is_file():
        raise HlkitError(f"There is no {path}. {remedy}")
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise HlkitError(f"{path} is damaged ({reason}). {remedy}") from error
    check_columns(table, path, texts=texts, numbers=numbers, remedy=remedy)
    if table.is_empty() and not may_be_empty:
        raise HlkitError(f"{path} has no rows. {remedy}")
    return table


def check_columns(
    table: pl.DataFrame, path: Path, *, texts: Collection[str] = (), numbers: Collection[str] = (), remedy: str
) -> None:
    """An `HlkitError` when the table of a file lacks a column; arguments as for `read_table`."""
    kinds = {name: _column_kind(kind) for name, kind in table.schema.items()}
    wanted = dict.fromkeys(texts, "text") | dict.fromkeys(numbers, "numbers")
    if wrong := [f"{name} ({kind})" for name, kind in wanted.items() if kinds.get(name) != kind]:
        held = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
        raise HlkitError(f"{path} is damaged: it lacks the column {', '.join(wrong)}; it has {held}. {remedy}")


def _column_kind(kind: pl.DataType) -> str:
    return "text" if kind == pl.String else "numbers" if kind.is_numeric() else str(kind)


def read_record(path: Path, keys: Mapping[str, type], *, remedy: str) -> dict[str, Any]:
    """A JSON object with the keys named, each with its kind of value; it may have others.

    Args:
        path: the file.
        keys: names, and `str`, `int`, `list` or `dict`.
        remedy: what the user can do, as a sentence.

    Raises:
        HlkitError: when it is missing, damaged, or lacks a key.
    """
    if not path.is_file():
        raise HlkitError(f"There is no {path}. {remedy}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise HlkitError(f"{path} is damaged ({error}). {remedy}") from error
    held = record if isinstance(record, dict) else {}
    if wrong := [f"'{key}' ({_KINDS[kind]})" for key, kind in keys.items() if type(held.get(key)) is not kind]:
        raise HlkitError(f"{path} is damaged: it lacks {', '.join(wrong)}. {remedy}")
    return held


def first_faulty_row(table: np.ndarray) -> int | None:
    """The first row of a float table (rows, ...) that holds NaN or infinity; None where all is numbers."""
    for start in range(0, len(table), _BLOCK_ROWS):
        good = np.isfinite(table[start : start + _BLOCK_ROWS]).reshape(len(table[start : start + _BLOCK_ROWS]), -1)
        if not good.all():
            return start + int(good.all(axis=1).argmin())
    return None
