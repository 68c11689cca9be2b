"""Clips with classes: made ones of which no picture tells the class, models side by side, a stretch of any file."""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_numbered, read_number
from tiny_frames import make_frames, with_parts
from typer.testing import CliRunner

from hlkit import cli, stages
from hlkit.changes import CHANGES, COURSES, LIGHTS, WIDTHS, plan_changes, write_changes
from hlkit.class_metrics import ALL, accuracy_interval, class_card, side_by_side
from hlkit.models import ModelConfig
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.stages.files import FileScores
from hlkit.training import fit
from hlkit.video import find_ffmpeg, open_container, probe

FOUR = ("closer", "away", "brighter", "darker")


# --- made clips ---


@given(st.integers(2, 8), st.integers(8, 60), st.integers(0, 99))
def test_changes_are_dealt_out_evenly_and_only_one_part_moves(kinds, count, seed):
    names = CHANGES[:kinds]
    plan = plan_changes(100, changes=names, count=count, seed=seed)
    times = plan["time"].to_numpy()
    assert (np.diff(times) > 0).all()
    assert 0 < times[0] <= times[-1] < 100
    counts = plan["label"].value_counts()["count"].to_numpy()
    assert np.ptp(counts) <= 1
    for row in plan.rows(named=True):
        moving, direction = COURSES[row["label"]]
        for part in ("x", "y", "width", "light"):
            begin, end = row[f"{part}_from"], row[f"{part}_to"]
            assert (begin, end) == ((0, 1)[::direction] if part == moving else (begin, begin))
            assert 0 <= begin <= 1


def test_no_picture_by_itself_tells_the_change():
    """At any moment of a clip, what is seen is spread in the same way whatever the class."""
    plan = plan_changes(100, changes=CHANGES, count=8000)
    rng = np.random.default_rng(0)
    share = rng.random(len(plan))
    for part in ("x", "y", "width", "light"):
        at = plan[f"{part}_from"] + share * (plan[f"{part}_to"] - plan[f"{part}_from"])
        quarters = (
            plan.with_columns(at=at)
            .group_by("label")
            .agg(pl.col("at").quantile(q).alias(str(q)) for q in (0.25, 0.5, 0.75))
        )
        for quantile in (0.25, 0.5, 0.75):
            assert quarters[str(quantile)].to_list() == pytest.approx([quantile] * 8, abs=0.06)


def test_changes_that_there_are_not():
    with pytest.raises(HlkitError, match=r"no change sideways\. There are left, right,"):
        plan_changes(10, changes=["sideways", "left"], count=4)
    for wrong in (
        {"changes": ["left"], "count": 4},
        {"changes": ["left", "left"], "count": 4},
        {"changes": FOUR, "count": 3},
    ):
        with pytest.raises(HlkitError, match="can't be"):
            plan_changes(10, **wrong)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A recording of a ramp of light from left to right and, more weakly, from top to bottom."""
    path = tmp_path_factory.mktemp("still") / "still.mp4"
    picture = "color=black:s=320x180:r=5:d=3,geq=lum='40+100*X/W+40*Y/H':cb=128:cr=128,format=yuv420p"
    command = [find_ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", picture, "-crf", "10", str(path)]
    subprocess.run(command, check=True)
    return path


def greys(path):
    with open_container(path) as (container, stream):
        return np.stack([frame.to_ndarray(format="gray").astype(float) for frame in container.decode(stream)])


def test_what_moves_moves_as_its_name_says(tmp_path, still):
    plan = plan_changes(3, changes=CHANGES, count=8)
    made = write_changes(still, tmp_path, plan, seconds=1, fps=8, progress=False)
    assert made["label"].to_list() == plan["label"].to_list()
    pictures = {label: greys(path) for path, label in made.rows()}
    assert {clip.shape for clip in pictures.values()} == {(8, 128, 228)}
    light = {label: clip.mean(axis=(1, 2)) for label, clip in pictures.items()}
    # The ramp rises to the right and downwards, so its mean says where the window is; its spread how wide that is.
    for down, up in (("left", "right"), ("up", "down"), ("darker", "brighter")):
        assert (np.diff(light[up]) > 0).all()
        assert (np.diff(light[down]) < 0).all()
    assert light["brighter"][-1] / light["brighter"][0] == pytest.approx(LIGHTS[1] / LIGHTS[0], rel=0.15)
    spread = {label: np.ptp(clip.mean(axis=1), axis=1) for label, clip in pictures.items()}
    for ratio in (spread["away"][-1] / spread["away"][0], spread["closer"][0] / spread["closer"][-1]):
        assert ratio == pytest.approx(WIDTHS[1] / WIDTHS[0], rel=0.05)


def test_clips_are_made_once_and_come_into_a_project_with_their_labels(tmp_path, still):
    project, folder, said = Project(tmp_path / "project"), Path(), []
    for _ in range(2):
        folder = stages.changes(project, still, kinds=FOUR, count=8, seconds=1, progress=False, say=said.append)
    assert said[0].startswith("still: 8 clips of closer, away, brighter, darker")
    assert said[1] == "still: changes already done."
    videos = stages.download(project, folder / "clips.csv", progress=False, say=said.append)
    assert videos == [f"still-{number:04d}" for number in range(8)]
    labels = [line.split(",")[3] for line in (project.labels(video).read_text().splitlines()[1] for video in videos)]
    assert labels == pl.read_csv(folder / "clips.csv")["label"].to_list()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kinds": ("closer", "sideways")}, "no change sideways"),
        ({"count": 3}, "3 clips of 4 changes can't be"),
        ({"seconds": float("nan")}, "A clip of nan s can't be"),
        ({"seconds": 0.1}, "nothing changes in less than two"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_changes_that_can_not_be_made_cost_none_that_were(tmp_path, still, wrong, says):
    project = Project(tmp_path)
    (project.root / "changes" / "still").mkdir(parents=True)
    (project.root / "changes" / "still" / "clips.csv").write_text("path,label\n")
    with pytest.raises(HlkitError, match=says):
        stages.changes(project, still, **{"kinds": FOUR, "count": 8, "seconds": 1.0, "progress": False} | wrong)
    assert (project.root / "changes" / "still" / "clips.csv").is_file()


# --- side by side ---


def test_the_interval_of_an_accuracy_and_of_a_difference():
    labels = np.zeros(400, int)
    right = np.zeros((400, 2))
    right[:300, 0] = right[300:, 1] = 1
    low, high = accuracy_interval(labels, right)
    # Of a share of 0.75 in 400 the binomial's 95 % are +-0.042.
    assert (low, high) == (pytest.approx(0.708, abs=0.006), pytest.approx(0.792, abs=0.006))
    assert accuracy_interval(labels, right, base=right) == (0, 0)
    worse = right[:, ::-1]
    low, high = accuracy_interval(labels, right, base=worse)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.01)


def test_cards_side_by_side_by_hand():
    labels = [0, 0, 1, 1]
    one = class_card(labels, [[1, 0], [0, 1], [0, 1], [0, 1]], ("a", "b"))
    other = class_card(labels, [[1, 0], [1, 0], [0, 1], [0, 1]], ("a", "b"))
    table = side_by_side({"one": one, "other": other})
    assert table["class"].to_list() == ["a", "b", ALL]
    assert table["base_rate"].to_list() == [0.5, 0.5, 0.5]
    assert table["one: right"].to_list() == [0.5, 1.0, 0.75]
    assert table["other: right"].to_list() == [1.0, 1.0, 1.0]
    assert table["other: ap"].to_list() == [1.0, 1.0, 1.0]
    with pytest.raises(HlkitError, match="different classes or rows"):
        side_by_side({"one": one, "other": class_card([0, 1], [[1, 0], [0, 1]], ("a", "b"))})


def found_of(tmp_path, values):
    """What a model gave four files of two frames each, as the probability of `b`."""
    rows = [(f"f{number}", float(time), value) for number, value in enumerate(values) for time in range(2)]
    table = pl.DataFrame(rows, schema=["video", "time", "score"], orient="row")
    return FileScores(table, ("a", "b"), {f"f{number}": tmp_path / f"f{number}.mp4" for number in range(4)})


def test_models_are_compared_on_files_by_any_list_with_labels(tmp_path):
    for number in range(4):
        (tmp_path / f"f{number}.mp4").touch()
    (tmp_path / "clips.csv").write_text("link,label\nf0.mp4,a\nf1.mp4,a\nf2.mp4,b\nf3.mp4,b\n")
    found = {"frames": found_of(tmp_path, [0.1, 0.9, 0.9, 0.1]), "clips": found_of(tmp_path, [0.1, 0.2, 0.9, 0.1])}
    said = []
    table = stages.compare_files(found, tmp_path / "clips.csv", say=said.append)
    assert table["frames: right"].to_list() == [0.5, 0.5, 0.5]
    assert table["clips: right"].to_list() == [1.0, 0.5, 0.75]
    assert said[0] == "clips: 4 files; the commonest class alone is right in 50.0%."
    assert said[1].startswith("frames: 50.0% right (")
    assert "clips: 75.0% right (" in said[2]
    assert "+25.0% beside frames (+0.0% to +75.0%)" in said[2]
    # A list may name more, and other classes, than what was scored.
    with (tmp_path / "clips.csv").open("a") as file:
        file.write("https://a.org/other.mp4,c\n")
    assert stages.compare_files(found, tmp_path / "clips.csv", say=said.append).equals(table)
    with pytest.raises(HlkitError, match="two models or more"):
        stages.compare_files({"frames": found["frames"]}, tmp_path / "clips.csv")
    with pytest.raises(HlkitError, match="There is no file"):
        stages.judge_files(found["frames"], tmp_path / "nothing.csv")


# --- a stretch of any file ---


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A recurrent network over four frames, as training leaves it, that was taught nothing."""
    root = tmp_path_factory.mktemp("model")
    frames = with_parts(make_frames(root, "a", [frame // 2 % 3 for frame in range(24)], fps=2, size=16))
    config = ModelConfig(
        kind="clip",
        rnn="lstm",
        num_frames_per_clip=4,
        backbone="measures",
        classes=("jump", "run", "walk"),
        size=16,
        fps="2",
    )
    return fit(frames, root, root / "run", config=config, epochs=1, batch_size=8, progress=False)


def numbers(path):
    with open_container(path) as (container, stream):
        return [(frame.time, read_number(frame.to_ndarray(format="gray"))) for frame in container.decode(stream)]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_stretch_of_a_file_is_scored_and_kept(tmp_path, model, suffix):
    make_numbered(tmp_path / "made.mp4", seconds=12, fps=10, gop=20, sound=True)
    file = tmp_path / f"holiday{suffix}"
    # As cameras write AVI: MPEG-4 Part 2 and MP3.
    codecs = ["-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame"] if suffix == ".avi" else ["-c", "copy"]
    subprocess.run(
        [find_ffmpeg(), "-loglevel", "error", "-i", str(tmp_path / "made.mp4"), *codecs, str(file)], check=True
    )
    said = []
    found = stages.infer_files(file, model=model, start=4.5, duration=3, keep_cut=True, progress=False, say=said.append)
    assert found.scores["time"].to_list() == [4.5, 5.0, 5.5, 6.0, 6.5, 7.0]
    assert found.scores.columns == ["video", "time", "score_run", "score_walk"]
    cut = tmp_path / "holiday_cut.mp4"
    # ffmpeg's AVI shows its first picture twice, so what is expected is what the file itself shows.
    shown = [number for time, number in numbers(file) if 4.45 < time < 7.45]
    assert len(shown) == 30
    assert [number for _, number in numbers(cut)] == shown
    assert probe(cut).has_audio
    assert said[1] == f"holiday{suffix}: the cut is {cut}."


def test_several_files_are_counted_while_they_are_scored(tmp_path, model, capsys):
    for name in ("a", "b"):
        make_numbered(tmp_path / f"{name}.mp4", seconds=2)
    stages.infer_files(tmp_path, model=model)
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["a.mp4", "b.mp4"]
    assert re.search(r"scoring: 100%.* 2/2 ", printed.err)


def test_the_command_for_a_stretch(tmp_path, model):
    file = tmp_path / "a.avi"
    make_numbered(file, seconds=4)
    words = ["infer", str(file), "--model", str(model), "--start", "0:00:01.5"]
    refused = CliRunner().invoke(cli.app, words)
    assert "neither an end nor a duration" in str(refused.exception)
    done = CliRunner().invoke(cli.app, [*words, "--end", "3", "--keep-cut", "--csv", str(tmp_path / "scores.csv")])
    assert done.exit_code == 0
    assert pl.read_csv(tmp_path / "scores.csv")["time"].to_list() == [1.5, 2.0, 2.5]
    assert probe(tmp_path / "a_cut.mp4").duration == pytest.approx(1.5, abs=0.01)


def test_what_a_stretch_of_a_file_must_say(tmp_path, model):
    make_numbered(tmp_path / "a.mp4", seconds=3)
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"start": 1}, "start=1 is given, but neither an end nor a duration"),
        ({"end": 2, "duration": 1}, "end=2 and duration=1 are both given"),
        ({"start": 8, "end": 9}, "No frame lies from 0:00:08.0 to 0:00:09.0 in a recording of 0:00:03.0"),
        ({"start": 2, "end": 1}, "No frame lies from"),
    ]
    for wrong, says in wrongs:
        with pytest.raises(HlkitError, match=says):
            stages.infer_files(tmp_path / "a.mp4", model=model, progress=False, say=print, **wrong)


def test_a_table_s_place_is_looked_at_before_anything_is_scored(tmp_path, model, capsys):
    make_numbered(tmp_path / "a.mp4", seconds=2)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    wrongs = [
        (tmp_path, "is a folder. Give the name of a file."),
        (tmp_path / "file" / "new" / "a.csv", "can't be written: .*file is a file. Give a place in a folder."),
    ]
    for target, says in wrongs:
        with pytest.raises(HlkitError, match=says):
            stages.infer_files(tmp_path / "a.mp4", model=model, target=target)
        with pytest.raises(HlkitError, match=says):
            stages.sort([tmp_path / "a.mp4"], model=model, into=tmp_path / "sorted", target=target, yes=True)
    with pytest.raises(HlkitError, match="file is a file"):
        stages.sort([tmp_path / "a.mp4"], model=model, into=tmp_path / "file", yes=True)
    for wrong, says in (({"fly": 0.5}, "fly=0.5"), ({"walk": 5}, "walk=5"), ({"walk": float("nan")}, "walk=nan")):
        says = f"The threshold {says} is not allowed; give shares from 0 to 1 for jump, run, walk."
        with pytest.raises(HlkitError, match=says):
            stages.sort([tmp_path / "a.mp4"], model=model, into=tmp_path / "sorted", thresholds=wrong, yes=True)
    assert capsys.readouterr() == ("", "")  # no progress bar began
    assert sorted(tmp_path.rglob("*")) == before
    stages.infer_files(tmp_path / "a.mp4", model=model, target=tmp_path / "new" / "er" / "a.csv", progress=False)
    assert (tmp_path / "new" / "er" / "a.csv").is_file()


def test_a_cut_takes_no_other_files_place(tmp_path, model):
    for name in ("a.mp4", "a_cut.mp4"):
        make_numbered(tmp_path / name, seconds=2)
    before = (tmp_path / "a_cut.mp4").read_bytes()
    with pytest.raises(HlkitError, match=r"The cut of .*a\.mp4 would replace .*a_cut\.mp4, which is to be scored too"):
        stages.infer_files(tmp_path, model=model, end=1, keep_cut=True, progress=False)
    assert (tmp_path / "a_cut.mp4").read_bytes() == before


def test_a_folder_is_scored_again_and_its_cuts_are_made_anew(tmp_path, model):
    for name in ("a", "b"):
        make_numbered(tmp_path / f"{name}.mp4", seconds=3)
    stages.infer_files(tmp_path, model=model, end=1, keep_cut=True, progress=False, say=lambda line: None)
    said = []
    found = stages.infer_files(tmp_path, model=model, end=2, keep_cut=True, progress=False, say=said.append)
    assert set(found.files) == {"a", "b"}
    assert said[0] == "a_cut.mp4, b_cut.mp4: kept by an earlier run, made anew and not scored."
    assert probe(tmp_path / "a_cut.mp4").duration == pytest.approx(2, abs=0.01)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "a_cut.mp4", "b.mp4", "b_cut.mp4"]
    every = stages.infer_files(tmp_path, model=model, end=1, progress=False, say=lambda line: None)
    assert set(every.files) == {"a", "a_cut", "b", "b_cut"}  # without cuts to keep they are files like others


def test_a_cut_that_can_not_be_kept_costs_the_other_files_nothing(tmp_path, model):
    for name in ("a", "b"):
        make_numbered(tmp_path / f"{name}.mp4", seconds=2)
    (tmp_path / "a_cut.mp4").mkdir()
    said = []
    with pytest.warns(HlkitWarning, match=r"a\.mp4: its cut is not kept\. .* a folder has that name"):
        found = stages.infer_files(
            [tmp_path / "a.mp4", tmp_path / "b.mp4"], model=model, end=1, keep_cut=True, progress=False, say=said.append
        )
    assert set(found.files) == {"a", "b"}
    assert said[-1] == f"b.mp4: the cut is {tmp_path / 'b_cut.mp4'}."


def test_what_is_for_files_is_not_passed_over_without_them(tmp_path, model):
    for wrong in ({"keep_cut": True}, {"target": tmp_path / "a.csv"}):
        with pytest.raises(HlkitError, match=r"are made of files \(with --model\)"):
            stages.infer(Project(tmp_path), **wrong)
    for wrong in ({"videos": ["a"]}, {"run": "first"}):
        with pytest.raises(HlkitError, match="Leave out the videos and the run"):
            stages.infer(Project(tmp_path), files=[tmp_path / "a.mp4"], model=model, **wrong)
