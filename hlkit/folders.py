"""Folders of plain JPEGs as frames tables: each file is a shard of one frame."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from hlkit.frames import FRAME_SCHEMA
from hlkit.project import HlkitError
from hlkit.video import frame_rate

JPEG_SUFFIXES = (".jpg", ".jpeg")


def frames_from_folder(folder: Path, *, fps: str | float | Fraction) -> pl.DataFrame:
    """The frames table of a plain folder of JPEGs from one video; `FrameReader(folder.parent)` reads them.

    When all names end in different numbers (`shot_00012.jpg`), frame 0 has the smallest and the others their distance
    from it, so that gaps stay gaps; else frames count up in the order of names. `time` is `frame / fps` seconds, so
    `fps` is how many numbers a second of video has. The folder's name stands in `video`.

    Raises:
        HlkitError: when there is no such folder or no JPEG in it.
    """
    folder = Path(folder).resolve()
    return _plain_frames(folder, [file for file in _jpeg_files(folder) if file.parent == folder], frame_rate(fps))


def frames_from_class_tree(folder: Path, *, fps: str | float | Fraction = 1) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The labelled frames table of a tree `folder/<class>/.../*.jpg`, and its classes; `FrameReader(folder)` reads it.

    Each class stands in `video` as if it were one recording, with numbers and times as in `frames_from_folder`. `label`
    (i8) is the place in the classes, which are in the order of names, except that `background` comes first.

    Raises:
        HlkitError: when there is no such folder, or no class in it has a JPEG.
    """
    folder = Path(folder).resolve()
    files = [file for file in _jpeg_files(folder) if file.parent != folder]
    if not files:
        raise HlkitError(f"{folder} has no JPEGs in sub-folders. Give a folder that holds one folder for each class.")
    names = {file.relative_to(folder).parts[0] for file in files}
    classes = tuple(sorted(names, key=lambda name: (name != "background", name)))
    tables = [
        _plain_frames(
            folder / name, [file for file in files if file.is_relative_to(folder / name)], frame_rate(fps)
        ).with_columns(pl.lit(label, pl.Int8).alias("label"))
        for label, name in enumerate(classes)
    ]
    return pl.concat(tables), classes


def _jpeg_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise HlkitError(f"There is no folder {folder}.")
    files = sorted(file for file in folder.rglob("[!.]*") if file.suffix.lower() in JPEG_SUFFIXES)
    if not files:
        raise HlkitError(f"{folder} holds no JPEGs ({', '.join(JPEG_SUFFIXES)}).")
    return files


def _plain_frames(folder: Path, files: list[Path], fps: Fraction) -> pl.DataFrame:
    numbers = [int(found[0]) for file in files if (found := re.findall(r"\d{1,15}$", file.stem))]
    frames = np.array(numbers) - min(numbers) if len(set(numbers)) == len(files) else np.arange(len(files))
    return pl.DataFrame(
        {
            "video": [folder.name] * len(files),
            "frame": frames,
            "time": frames * fps.denominator / fps.numerator,
            "shard": [file.relative_to(folder).as_posix() for file in files],
            "offset": [0] * len(files),
            "size": [file.stat().st_size for file in files],
        },
        schema=FRAME_SCHEMA,
    ).sort("frame")
