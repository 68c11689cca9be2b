from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hlkit.project import HlkitError
from hlkit.records import first_faulty_row, read_record, read_table

REMEDY = "Make it again."


def test_a_table_with_the_columns_comes_back_whole(tmp_path):
    table = pl.DataFrame({"video": ["a"], "score": pl.Series([1], dtype=pl.Int8), "other": [None]})
    table.write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", texts=["video"], numbers=["score"], remedy=REMEDY).equals(table)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "There is no"),
        (b"PAR1", "is damaged"),
        (b"no table at all", "is damaged"),
        ({"video": ["a"]}, r"lacks the column score \(numbers\); it has video \(text\)"),
        ({"video": ["a"], "score": ["x"]}, r"lacks the column score \(numbers\)"),
        ({"video": [1], "score": [1.0]}, r"lacks the column video \(text\)"),
        ({"video": pl.Series([], dtype=pl.String), "score": pl.Series([], dtype=pl.Float32)}, "has no rows"),
    ],
)
def test_another_table_is_refused_with_its_name_and_the_remedy(tmp_path, table, words):
    path = tmp_path / "t.parquet"
    if isinstance(table, bytes):
        path.write_bytes(table)
    elif table is not None:
        pl.DataFrame(table).write_parquet(path)
    with pytest.raises(HlkitError, match=rf"t\.parquet.*{REMEDY}") as refused:
        read_table(path, texts=["video"], numbers=["score"], remedy=REMEDY)
    assert refused.match(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "There is no"),
        ("{", "is damaged"),
        ("[]", r"lacks 'fps' \(a text\), 'size' \(a whole number\)"),
        ('{"fps": "3"}', r"lacks 'size' \(a whole number\)\."),
        ('{"fps": "3", "size": true}', "lacks 'size'"),
    ],
)
def test_another_record_is_refused_with_its_name_and_the_remedy(tmp_path, text, words):
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(HlkitError, match=rf"r\.json.*{REMEDY}") as refused:
        read_record(path, {"fps": str, "size": int}, remedy=REMEDY)
    assert refused.match(words)


def test_a_record_with_the_keys_comes_back_whole(tmp_path):
    (tmp_path / "r.json").write_text('{"fps": "3", "more": null}')
    assert read_record(tmp_path / "r.json", {"fps": str}, remedy=REMEDY) == {"fps": "3", "more": None}


@pytest.mark.parametrize("row", [0, 4095, 4096, 9999])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_the_first_row_without_a_number_is_found(row, value):
    table = np.zeros((10_000, 2, 3), dtype=np.float16)
    assert first_faulty_row(table) is None
    table[row:, 1, 2] = value
    assert first_faulty_row(table) == row
    assert first_faulty_row(table[:0]) is None
