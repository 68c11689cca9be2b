"""Background dropped by blocks, decisions by blocks, the table of classes, and the recipe's job for a cluster."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import write_label_file
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from typer.main import get_command

from hlkit import cli, stages
from hlkit.class_metrics import ALL, pool_blocks
from hlkit.labels import read_labels, write_labels
from hlkit.project import HlkitError
from hlkit.split import CHUNK_SECONDS, drop_background, split_frames
from hlkit.stages import runs, tables

SLURM = Path(__file__).parent.parent / "notebooks" / "recipes" / "gaming_digest.slurm"


# --- dropping background ---


def frame_table(labels, *, video="a", part="train"):
    """A frame a second."""
    count = len(labels)
    return pl.DataFrame(
        {"video": [video] * count, "time": np.arange(count, dtype=float), "label": labels, "part": [part] * count}
    )


@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=80),
    st.lists(st.integers(0, 1), max_size=40),
    st.floats(0.1, 4),
    st.integers(1, 9),
    st.integers(0, 3),
)
def test_only_whole_blocks_of_background_go_and_no_more_than_needed(labels, held, ratio, seconds, seed):
    frames = pl.concat([frame_table(labels), frame_table(held, video="b", part="validation")]).with_row_index()
    found = drop_background(frames, ratio, block_seconds=seconds, seed=seed)
    assert found.drop("part").equals(frames.drop("part"))
    assert found.equals(drop_background(frames, ratio, block_seconds=seconds, seed=seed))
    assert found.filter(pl.col("video") == "b")["part"].to_list() == ["validation"] * len(held)
    ours = found.filter(pl.col("video") == "a").with_columns(block=(pl.col("time") // seconds))
    dropped = ours.filter(pl.col("part") == "dropped")
    assert set(dropped["label"]) <= {0}
    assert set(ours.filter(pl.col("part") == "train")["block"]).isdisjoint(dropped["block"])
    positive = (np.array(labels) > 0).sum()
    left = (ours["part"] == "train").sum() - positive
    spare = ours.filter((pl.col("label").max().over("block") == 0) & (pl.col("part") == "train"))
    assert left <= ratio * positive or spare.is_empty()
    if len(dropped):  # with the largest block that went, it would have been too much
        assert left + dropped.group_by("block").len()["len"].max() > ratio * positive


def test_seeds_drop_other_blocks_and_bad_ratios_are_refused():
    frames = frame_table([1] * 10 + [0] * 90)
    parts = [drop_background(frames, 1, seed=seed)["part"].to_list() for seed in (0, 1)]
    assert [part.count("dropped") for part in parts] == [80, 80]
    assert parts[0] != parts[1]
    for ratio in (0, -1, float("nan"), float("inf")):
        with pytest.raises(HlkitError, match=r"background_ratio=.* is not allowed"):
            drop_background(frames, ratio)


# --- blocks ---


def test_a_block_has_the_commonest_label_and_the_mean_of_its_scores():
    values = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0], [0.2, 0.8]])
    labels, means = pool_blocks([0, 1, 1, 0, 1, 0], values, [5, 5, 5, 9, 2, 2])
    assert labels.tolist() == [0, 1, 0]  # of two that are equally common the first
    np.testing.assert_allclose(means, [[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=40))
def test_blocks_of_one_frame_are_the_frames(pairs):
    labels = np.array([label for label, _ in pairs])
    values = np.random.default_rng(0).dirichlet([1, 1, 1], len(labels))
    order = np.random.default_rng(1).permutation(len(labels))
    again, means = pool_blocks(labels, values, order)
    assert again[order].tolist() == labels.tolist()
    np.testing.assert_array_equal(means[order], values)
    blocks = np.array([block for _, block in pairs])
    pooled, _ = pool_blocks(labels, values, blocks)
    for place, block in enumerate(np.unique(blocks)):
        assert pooled[place] == np.bincount(labels[blocks == block]).argmax()


# --- the table ---


@pytest.fixture(scope="module")
def judged(finished, tmp_path_factory):
    """A project with a run of a picture network that has scored what it learned from and another video."""
    project = stages_project(finished[0], tmp_path_factory.mktemp("judged"))
    options = {"backbone": "measures", "sequence": "none", "epochs": 3, "learning_rate": 0.05, "progress": False}
    stages.train(project, videos=["learn"], run="plain", background_ratio=0.5, **options, say=lambda line: None)
    stages.infer(project, videos=["learn", "judge"], run="plain", progress=False, say=lambda line: None)
    return project


def stages_project(project, folder):
    return type(project)(Path(shutil.copytree(project.root, folder / "project")))


def truth_and_scores(project, run, video, part):
    """The labels and decisions of the frames of one part, worked out plainly."""
    scores = pl.read_parquet(project.scores(run, video)).sort("time")
    spans = read_labels(project.labels(video), video=video)
    times, truth = scores["time"].to_numpy(), np.zeros(len(scores), dtype=int)
    for start, end in spans.select("start", "end").iter_rows():
        truth |= (times >= start - 1e-6) & (times < end - 1e-6)
    chosen = np.ones(len(scores), dtype=bool)
    if part != "test":
        split = pl.read_parquet(project.model(run) / "split.parquet").filter(pl.col("video") == video).sort("frame")
        chosen = np.isin(split["part"].to_numpy(), {"train": ["train", "dropped"]}.get(part, [part]))
    return truth[chosen], (scores["score"].to_numpy() > 0.5)[chosen], times[chosen]


def test_the_table_is_of_training_validation_and_test(judged, tmp_path):
    said = []
    table = stages.classes(judged, run="plain", target=tmp_path / "classes.csv", say=said.append)
    assert table["part"].unique(maintain_order=True).to_list() == ["train", "validation", "test"]
    for part, video in (("train", "learn"), ("validation", "learn"), ("test", "judge")):
        truth, decided, _ = truth_and_scores(judged, "plain", video, part)
        wanted = precision_recall_fscore_support(truth, decided, average="binary", zero_division=0)[:3]
        row = table.filter((pl.col("part") == part) & (pl.col("class") == "highlight")).row(0, named=True)
        assert (row["count"], row["base_rate"]) == (truth.sum(), pytest.approx(truth.mean()))
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx(wanted)
        assert any(line.startswith(f"{part}, frames: highlight") for line in said[0].splitlines())
    assert pl.read_csv(tmp_path / "classes.csv")["class"].to_list() == ["background", "highlight", ALL] * 3


def test_blocks_are_judged_as_wholes(judged):
    table = stages.classes(judged, run="plain", videos=["judge"], blocks=[0, 2, 7], say=lambda line: None)
    assert table["part"].unique().to_list() == ["test"]
    assert table["seconds"].unique(maintain_order=True).to_list() == [0, 2, 7]
    scores = pl.read_parquet(judged.scores("plain", "judge")).sort("time")["score"].to_numpy()
    truth, _, times = truth_and_scores(judged, "plain", "judge", "test")
    block = (times + 1e-6) // 2
    label = np.array([truth[block == each].mean() > 0.5 for each in np.unique(block)])
    said = np.array([scores[block == each].mean() > 0.5 for each in np.unique(block)])
    row = table.filter((pl.col("seconds") == 2) & (pl.col("class") == "highlight")).row(0, named=True)
    assert row["count"] == label.sum()
    assert row["precision"] == pytest.approx(label[said].mean())
    assert row["recall"] == pytest.approx(said[label].mean())
    for wrong in (-1, float("nan"), 1e-320):
        with pytest.raises(HlkitError, match="can't be"):
            stages.classes(judged, run="plain", blocks=[wrong])
    with pytest.raises(HlkitError, match=r"models is a folder\. Give the name of a file"):
        stages.classes(judged, run="plain", target=judged.root / "models", say=lambda line: None)


@pytest.mark.parametrize("seconds", [7, 45, 3600])
def test_no_block_is_cut_off_where_a_chunk_ends(judged, seconds):
    """A chunk of 30 s ends within blocks of 7 s and is shorter than one of 45 s."""
    table = stages.classes(judged, run="plain", videos=["judge"], blocks=[seconds], say=lambda line: None)
    _, _, times = truth_and_scores(judged, "plain", "judge", "test")
    blocks = len(np.unique((times + 1e-6) // seconds))
    assert table.filter(pl.col("class") == ALL)["count"].to_list() == [blocks]


def test_dropped_background_is_no_training_and_stands_in_the_card(judged):
    split = pl.read_parquet(judged.model("plain") / "split.parquet")
    labelled = tables.labelled_frames(judged, ["learn"])[0].join(split, on=["video", "frame"])
    count = {name: (labelled["part"] == name).sum() for name in ("train", "dropped")}
    assert count["dropped"] > 50
    whole = split_frames(labelled.drop("part"))
    assert labelled["part"].to_list() == drop_background(whole, 0.5)["part"].to_list()
    card = (judged.model("plain") / "card.md").read_text()
    assert re.search(rf"\| dropped \| {count['dropped']} \| 0 \|", card)
    assert "| positive_share | None |" in card


def test_what_cannot_be_judged_is_said(judged, finished, tmp_path):
    other = stages_project(judged, tmp_path)
    (other.model("plain") / "split.parquet").unlink()
    with pytest.raises(HlkitError, match=r"split\.parquet.*Train again"):
        stages.classes(other, run="plain")
    for file in (other.root / "labels").glob("*.csv"):
        file.unlink()
    with pytest.raises(HlkitError, match="No video that 'plain' has scored has labels"):
        stages.classes(other, run="plain")
    # A sequence model holds all of its chunks back in turn, and scored the other video only.
    table = stages.classes(finished[0], say=lambda line: None)
    assert table["part"].unique().to_list() == ["test"]


def test_what_nobody_can_judge_is_said(judged, tmp_path):
    other = stages_project(judged, tmp_path)
    split = other.model("plain") / "split.parquet"
    pl.read_parquet(split).with_columns(part=pl.lit("purged")).write_parquet(split)
    with pytest.raises(HlkitError, match="Nobody has looked at any of what 'plain' has scored of learn"):
        stages.classes(other, run="plain", videos=["learn"])


def test_the_models_own_rate_is_no_other_rate(judged):
    said = []
    stages.infer(judged, videos=["judge"], run="plain", fps=runs.run_settings(judged, "plain").fps, say=said.append)
    assert said == ["plain-judge: infer already done."]


def test_a_ratio_that_is_the_default_of_something_else_still_makes_another_run(judged, tmp_path):
    other = stages_project(judged, tmp_path)
    options = {"backbone": "measures", "sequence": "none", "epochs": 1, "progress": False, "say": lambda line: None}
    stages.train(other, videos=["learn"], run="plain", background_ratio=CHUNK_SECONDS, **options)
    assert other.made_from("train", "plain")["background_ratio"] == CHUNK_SECONDS


def test_a_wish_that_can_not_be_met_costs_no_run(judged, tmp_path):
    """`--redo` takes the place of a run when there is something to take it."""
    project = stages_project(judged, tmp_path)
    before = {file.name: file.read_bytes() for file in project.model("plain").iterdir() if file.is_file()}
    options = {"backbone": "measures", "sequence": "none", "progress": False, "redo": True, "say": lambda line: None}
    wrongs = [{"background_ratio": 0}, {"chunk_seconds": float("nan")}, {"classes": ["background", "nothing"]}]
    wrongs += [{"seed": -1}, {"learning_rate": 0.0}, {"weights": "nothing.pt"}, {"num_frames_per_clip": 100_000}]
    for wrong in wrongs:
        with pytest.raises(HlkitError):
            stages.train(project, videos=["learn"], run="plain", **options, **wrong)
    assert {file.name: file.read_bytes() for file in project.model("plain").iterdir() if file.is_file()} == before


# --- the job for a cluster ---


def commands(script):
    """The hlkit commands of a shell script, as words."""
    lines = re.sub(r"\\\n\s*", " ", script).splitlines()
    return [shlex.split(line) for line in lines if re.match(r"\s*hlkit ", line)]


def test_the_job_is_a_shell_script_of_commands_that_exist():
    script = SLURM.read_text()
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    found = commands(script)
    order = ["download", "download", "frames", "label", "train", "infer", "label", "classes", "timeline", "reel"]
    assert [words[1] for words in found] == order
    known = get_command(cli.app).commands
    for _, name, *words in found:
        # Numbers that the script takes from its environment stand for themselves here.
        filled = ["64" if word in ("$SIZE", "$EPOCHS") else word for word in words]
        known[name].make_context(name, filled)  # raises for an option or value that there is not
    asked = re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)
    assert {"nodes", "cpus-per-task", "gpus", "mem", "time", "output", "requeue"} <= set(asked)
    assert script.index("#SBATCH") < script.index("set -euo pipefail")


def test_the_job_says_what_it_needs():
    done = subprocess.run(["bash", str(SLURM)], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode != 0
    assert "TRAIN: a link or a file to learn from" in done.stderr


@pytest.mark.slow
def test_the_job_runs_from_recordings_to_a_reel_and_again(sources, tmp_path):
    shim = tmp_path / "bin" / "hlkit"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from hlkit.cli import main; main()" "$@"\n')
    shim.chmod(0o755)
    labels = {}
    for video in ("learn", "judge"):
        labels[video] = tmp_path / f"{video}.json"
        spans = read_labels(write_label_file(tmp_path / f"{video}.csv", video))
        write_labels(spans, labels[video], format="scalabel", fps=5)
    given = {"TRAIN": sources / "learn.mp4", "NEW": sources / "judge.mp4", "LABELS": labels["learn"]}
    given |= {"NEW_LABELS": labels["judge"], "PROJECT": tmp_path / "digest", "SIZE": 32, "EPOCHS": 2}
    environment = os.environ | {name: str(value) for name, value in given.items()}
    environment["PATH"] = f"{shim.parent}:{environment['PATH']}"
    first, again = (
        subprocess.run(["bash", str(SLURM)], capture_output=True, text=True, env=environment) for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "digest" / "reels" / "new.mp4").is_file()
    table = pl.read_csv(tmp_path / "digest" / "classes.csv")
    assert set(table["part"]) == {"train", "validation", "test"}
    assert again.returncode == 0, again.stderr
    assert "train already done" in again.stdout
