"""Files of a project that were damaged: every stage that reads one says which it is and what to do."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from hlkit import stages
from hlkit.project import HlkitError, HlkitWarning


def quiet(line: str) -> None:
    pass


def infer(project):
    stages.infer(project, redo=True, progress=False, say=quiet)


def explain(project):
    stages.explain(project, redo=True, say=quiet)


def score(project):
    stages.score(project, redo=True, say=quiet)


def timeline(project):
    stages.timeline(project, redo=True, say=quiet)


def compare(project):
    shutil.copytree(project.scores("first", "judge").parent, project.scores("other", "judge").parent)
    stages.compare(project, runs=["first", "other"], say=quiet)


READERS = (explain, score, timeline, compare)


@pytest.mark.parametrize("stage", READERS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop("score"), r"lacks the column score"),
        (lambda table: table.drop("time"), r"lacks the column time"),
        (lambda table: table.clear(), "has no rows"),
        (lambda table: table.with_columns(score=pl.lit(float("nan"))), "has no score that is a number"),
    ],
)
def test_a_damaged_score_table(copied, stage, change, words):
    file = copied.scores("first", "judge")
    change(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(HlkitError, match=rf"{file}.*{words}.*hlkit infer --redo"):
        stage(copied)


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_some_missing_scores_are_told_and_are_no_peak(copied, missing):
    file = copied.scores("first", "judge")
    scores = pl.read_parquet(file)
    first = pl.int_range(pl.len()) < 3
    scores.with_columns(score=pl.when(first).then(pl.lit(missing, dtype=pl.Float32)).otherwise("score")).write_parquet(
        file
    )
    with pytest.warns(HlkitWarning, match="'judge' has no score by 'first' in 3 of 270 frames"):
        timeline(copied)
    said = []
    with pytest.warns(HlkitWarning, match="no score by 'first' in 3 of 270"):
        stages.score(copied, redo=True, say=said.append)
    assert "hlkit                (none)   it lacks a value in some frames" in said[0]
    with pytest.warns(HlkitWarning, match="no score by 'first' in 3 of 270"):
        assert stages.explaining._best_time(copied, "judge", "first") == scores.sort("score")["time"][-1]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_damaged_held_out_scores(copied, content):
    file = copied.model("first") / "held_out.parquet"
    file.write_bytes(content or file.read_bytes()[:1000])
    with pytest.raises(HlkitError, match=r"held_out\.parquet is damaged .* its precision is not known"):
        stages.timeline(copied, precision=0.5, say=quiet)


def _words_gone(content):
    content["recipe"]["codebook"].pop("words")


def _wrong_widths(content):
    content["sequence"]["config"]["widths"] = {"sound": (512,)}


@pytest.mark.parametrize("change", [_words_gone, _wrong_widths])
def test_a_damaged_sequence_model(copied, change):
    file = copied.model("first") / "sequence.ckpt"
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    with pytest.raises(HlkitError, match="hlkit train --redo"):
        infer(copied)


@pytest.mark.parametrize("kind", ["motion", "sound"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.reshape(-1), "allowed are floats of"),
        (lambda table: table[1:], "and 270 rows"),
        (lambda table: table.astype(np.int16), "holds int16"),
        (
            lambda table: np.where(np.arange(table.size).reshape(table.shape) == table[0].size, np.nan, table),
            "row 1 has",
        ),
    ],
)
def test_damaged_signals_name_the_file_to_delete_and_that_mends_it(copied, kind, change, words):
    (file,) = copied.signals("judge").glob(f"{kind}-*.npy")
    np.save(file, change(np.load(file)))
    with pytest.raises(HlkitError, match=rf"{file} is damaged .*{words}.* Delete it"):
        infer(copied)
    file.unlink()
    infer(copied)


@pytest.mark.parametrize("text", ["{}", "[]"])
def test_a_damaged_record_of_frames(copied, text):
    (copied.frames / "judge" / "extraction.json").write_text(text)
    with pytest.raises(HlkitError, match=r"extraction\.json is damaged: it lacks 'frames'"):
        infer(copied)


@pytest.mark.parametrize("text", ["[]", "{}", '{"model": []}', "{"])
def test_a_damaged_record_of_a_run(copied, text):
    (copied.model("first") / "config.json").write_text(text)
    with pytest.raises(HlkitError, match=r"config\.json is missing or damaged"):
        infer(copied)


@pytest.mark.parametrize(
    ("line", "stage", "words"),
    [
        ('window_seconds = "x"', timeline, "'window_seconds' is 'x'. Give seconds above 0"),
        ("window_seconds = 0", timeline, "'window_seconds' is 0. Give seconds above 0"),
        ("window_seconds = true", timeline, "'window_seconds' is True"),
        ("train_videos = 3", score, "'train_videos' is 3. Give a list of video ids"),
        ("train_videos = [3]", infer, r"'train_videos' is \[3\]"),
        ("run = 3", infer, "'run' is 3. Give a name"),
    ],
)
def test_settings_of_another_kind(copied, line, stage, words):
    file = copied.root / "project.toml"
    file.write_text(line + "\n")
    with pytest.raises(HlkitError, match=rf"{words}.* in {file}, or delete the line"):
        stage(copied)


@pytest.mark.parametrize(
    "stage",
    [
        lambda project: stages.train(project, run="a/b", progress=False, say=quiet),
        lambda project: stages.infer(project, run="a/b", progress=False, say=quiet),
        lambda project: stages.timeline(project, run="a/b", say=quiet),
        lambda project: stages.compare(project, runs=["first", "a/b"], say=quiet),
    ],
)
def test_a_run_that_would_share_anothers_folder_is_refused_and_nothing_is_written(copied, stage):
    before = sorted(copied.root.rglob("*"))
    with pytest.raises(HlkitError, match="'a/b' can't be a run's name"):
        stage(copied)
    assert sorted(copied.root.rglob("*")) == before


def test_labels_without_a_highlight_give_no_length_and_it_is_said(copied):
    copied.labels("learn").write_text("video,start,end,label\n")
    before = copied.reel("judge", ".csv").read_bytes()
    with pytest.raises(
        HlkitError, match=r"learn: no highlights are marked.* Mark some .*or give minutes or a threshold"
    ):
        timeline(copied)
    assert copied.reel("judge", ".csv").read_bytes() == before


def test_a_model_whose_answers_are_no_numbers_writes_no_scores(copied):
    file = copied.model("first") / "sequence.ckpt"
    content = torch.load(file, weights_only=True)
    content["sequence"]["state_dict"]["members.0.classifier.bias"][:] = torch.nan
    torch.save(content, file)
    before = copied.scores("first", "judge").read_bytes()
    with pytest.raises(HlkitError, match=r"no number for the frame at 0:00:00\.0.*hlkit train --redo"):
        infer(copied)
    assert copied.scores("first", "judge").read_bytes() == before
