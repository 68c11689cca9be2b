from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hlkit.folders import frames_from_class_tree, frames_from_folder
from hlkit.frames import FrameReader
from hlkit.project import HlkitError

PLACE = ("video", "shard", "offset", "size")


def _jpeg(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(path)


def _shades(root: Path, table: pl.DataFrame) -> list[int]:
    reader = FrameReader(root)
    return [np.asarray(Image.open(BytesIO(reader.read(*row))))[0, 0] for row in table.select(PLACE).rows()]


def test_a_plain_folder_keeps_the_gaps_of_its_numbers(tmp_path):
    for number in (9, 10, 13):
        _jpeg(tmp_path / "vod" / f"shot_{number}.jpg", number)
    (tmp_path / "vod" / "notes.txt").touch()
    table = frames_from_folder(tmp_path / "vod", fps=2)
    assert table["frame"].to_list() == [0, 1, 4]
    assert table["time"].to_list() == [0.0, 0.5, 2.0]
    assert table["video"].to_list() == ["vod"] * 3
    assert _shades(tmp_path, table) == [9, 10, 13]


def test_a_plain_folder_without_numbers_counts_by_name(tmp_path):
    for shade, name in enumerate(["b2.JPG", "a.jpeg", "c.jpg"]):
        _jpeg(tmp_path / "vod" / name, shade)
    table = frames_from_folder(tmp_path / "vod", fps="1/2")
    assert table["time"].to_list() == [0.0, 2.0, 4.0]
    assert _shades(tmp_path, table) == [1, 0, 2]


def test_a_class_tree_gives_labels(tmp_path):
    for shade, name in enumerate(["highlight/2.jpg", "highlight/1.jpg", "background/deep/7.jpg", "ace/1.jpg"]):
        _jpeg(tmp_path / "tree" / name, shade)
    table, classes = frames_from_class_tree(tmp_path / "tree")
    assert classes == ("background", "ace", "highlight")
    assert table["label"].to_list() == [0, 1, 2, 2]
    assert table["label"].dtype == pl.Int8
    assert _shades(tmp_path / "tree", table) == [2, 3, 1, 0]


@pytest.mark.parametrize("read", [frames_from_class_tree, lambda folder: frames_from_folder(folder, fps=3)])
def test_a_folder_without_pictures_is_refused(tmp_path, read):
    with pytest.raises(HlkitError, match="no folder"):
        read(tmp_path / "nothing")
    with pytest.raises(HlkitError, match="no JPEGs"):
        read(tmp_path)
