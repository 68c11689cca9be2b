"""Picture folders: pictures that are sorted into one folder a class, as for training an image classifier.

Convention (torchvision's `ImageFolder`): `root/<class>/.../<picture>`; the class is the name of the first folder below
the root. There is no time in it, so this is no span table.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from hlkit.project import HlkitError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")

PICTURE_SCHEMA = pl.Schema({"path": pl.String, "label": pl.String})


def read_picture_folder(root: Path) -> pl.DataFrame:
    """The pictures below a folder with the class of each.

    Args:
        root: a folder that holds one folder a class. Hidden files and folders and files of other kinds are passed over;
            links to folders are not followed.

    Returns:
        `path` (str, the picture's file) and `label` (str, its class), sorted by class and path.

    Raises:
        HlkitError: for no folder, one without folders of pictures, a class without a picture, or pictures that lie
            beside the folders, all at once.
    """
    root = Path(root)
    if not root.is_dir():
        raise HlkitError(f"There is no folder {root}. Give one that holds a folder of pictures for each class.")
    classes = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    rows = [(str(path), name) for name in classes for path in _pictures(root / name)]
    faults = [f"'{each.name}' lies in no folder" for each in sorted(root.iterdir()) if _is_picture(each)]
    faults += [f"the folder '{name}' has no picture" for name in classes if name not in {label for _, label in rows}]
    if not classes:
        faults.append("there is no folder in it")
    if faults:
        more = f" And {len(faults) - 20} more." if len(faults) > 20 else ""
        raise HlkitError(
            f"{root}: {'; '.join(faults[:20])}.{more} Allowed are folders of pictures, named for their class."
        )
    return pl.DataFrame(rows, schema=PICTURE_SCHEMA, orient="row")


def _pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [each for name in files if _is_picture(each := Path(path, name))]
    return sorted(found)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_picture_list(path: Path) -> pl.DataFrame:
    """The pictures that a CSV names: columns `path` and `label`; others are passed over.

    Args:
        path: the CSV. Paths in it that are not absolute count from its folder.

    Returns:
        As `read_picture_folder`, sorted by class and path.

    Raises:
        HlkitError: when it is missing, lacks a column, or names files that are not there, all at once.
    """
    path = Path(path)
    if not path.is_file():
        raise HlkitError(f"There is no file {path}. Give a CSV with the columns path,label, or a folder of folders.")
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HlkitError(f"{path} can't be read as a CSV ({error}). Save it as 'CSV UTF-8'.") from error
    if missing := [name for name in PICTURE_SCHEMA.names() if name not in table.columns]:
        raise HlkitError(f"{path} lacks {' and '.join(missing)}; allowed are the columns path,label.")
    rows = [(str(path.parent / name), label) for name, label in table.select("path", "label").iter_rows() if name]
    faults = [f"row {place}, label: '' is no class" for place, (_, label) in enumerate(rows, start=2) if not label]
    missing = [(place, name) for place, (name, _) in enumerate(rows, start=2) if not Path(name).is_file()]
    faults += [f"row {place}, path: there is no file {name}" for place, name in missing]
    if faults:
        more = f" And {len(faults) - 20} more." if len(faults) > 20 else ""
        raise HlkitError(f"{path}: {'; '.join(faults[:20])}.{more} Correct these rows.")
    return pl.DataFrame(rows, schema=PICTURE_SCHEMA, orient="row").sort("label", "path")
