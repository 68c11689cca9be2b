"""Bad input of frames and reels, as a user meets it: one clear sentence, and what was there stays as it was."""

import os
import re
import shutil
import subprocess
import sys
import warnings

import pytest
from recordings import make_numbered, read_number

from hlkit import stages
from hlkit.project import HlkitError, Project
from hlkit.video import open_container, probe, run_ffmpeg

QUIET = {"progress": False, "say": lambda line: None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_numbered(folder / "a.mp4", seconds=4, sound=True)
    return folder / "a.mp4"


@pytest.fixture
def project(made, tmp_path):
    project = Project(tmp_path / "project")
    project.videos.mkdir(parents=True)
    shutil.copy(made, project.videos / "a.mp4")
    project.reel("a").parent.mkdir()
    project.reel("a").write_bytes(b"earlier")
    return project


def pick(project, *rows):
    lines = "".join(f"a,{start},{end},highlight\n" for start, end in rows)
    project.reel("a", ".csv").write_text(f"video,start,end,label\n{lines}")


def numbers(video):
    with open_container(video) as (container, stream):
        return [read_number(frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "There is nothing to cut: no highlight was picked"),
        ([(1, 3), (2, 4)], r"a\.csv, row 3, start: 0:00:02\.00 lies inside row 2"),
        ([(3, 2)], r"a\.csv, row 2, end: .* is not after the start"),
        ([(-1, 2)], "row 2, start: -1 is before the video begins"),
        ([("x", 2)], "row 2, start: 'x' is not a time"),
        (
            [(30, 40)],
            r"No highlight of .*a\.csv shows a picture of a\.mp4, which is 0:00:04\.0 long\. Correct the times",
        ),
        ([(1.001, 1.002)], r"No highlight of .*a\.csv shows a picture of a\.mp4"),
    ],
)
def test_cut_lists_that_can_not_be_cut(project, rows, says):
    pick(project, *rows)
    before = sorted(project.root.rglob("*"))
    with pytest.raises(HlkitError, match=says) as caught:
        stages.reel(project, **QUIET)
    assert "\n" not in str(caught.value)
    assert project.reel("a").read_bytes() == b"earlier"
    assert sorted(project.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("rows", "told", "shown"),
    [
        ([(1, 2), (3, 40)], "1 of 2 highlights", [*range(30, 60), *range(90, 120)]),
        ([(1, 2), (30, 40)], "1 of 2 highlights", [*range(30, 60)]),
        ([(3.5, 4.4)], None, [*range(105, 120)]),
    ],
)
def test_what_lies_beyond_the_end_is_left_out_aloud(project, rows, told, shown):
    pick(project, *rows)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (reel,) = stages.reel(project, **QUIET)
    assert numbers(reel) == shown
    if told is None:
        assert caught == []
    else:
        says = f"{told} of {project.reel('a', '.csv')} reach beyond the end of a.mp4, 0:00:04.0; what lies beyond is"
        assert [str(each.message) for each in caught] == [f"{says} left out."]


def _vanish(recording):
    recording.unlink()


def _empty(recording):
    recording.write_bytes(b"")


def _lead_nowhere(recording):
    recording.unlink()
    recording.symlink_to("/nowhere/a.mp4")


def _be_no_video(recording):
    recording.write_bytes(b"<html>" * 1000)


def _lose_pictures(recording):
    sound = recording.with_name("sound.mp4")
    run_ffmpeg(["-i", recording, "-vn", "-c", "copy", sound], progress=False)
    sound.replace(recording)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_vanish, "The project has no video 'a'"),
        (_empty, r"a\.mp4 is empty. Copy or download it again"),
        (_lead_nowhere, r"a\.mp4 leads to /nowhere/a\.mp4, which is gone"),
        (_be_no_video, r"a\.mp4 can't be read as a video"),
        (_lose_pictures, r"a\.mp4 holds no pictures"),
    ],
)
@pytest.mark.parametrize("stage", [stages.frames, stages.reel])
def test_recordings_that_are_not_there_any_more(project, harm, says, stage):
    pick(project, (1, 2))
    harm(project.videos / "a.mp4")
    with pytest.raises(HlkitError, match=says):
        stage(project, videos=["a"], **QUIET)
    assert project.reel("a").read_bytes() == b"earlier"
    assert not project.frames.exists()
    assert sorted(path.name for path in project.reel("a").parent.iterdir()) == ["a.csv", "a.mp4"]


def test_a_reel_of_a_recording_without_sound_has_none(project):
    make_numbered(project.videos / "a.mp4", seconds=4)
    pick(project, (1, 2))
    (reel,) = stages.reel(project, **QUIET)
    assert not probe(reel).has_audio
    assert numbers(reel) == list(range(30, 60))


def test_of_several_tracks_the_first_picture_and_sound_are_taken(project, made):
    more = ["-f", "lavfi", "-i", "testsrc=d=4", "-f", "lavfi", "-i", "sine=d=4", "-map", "0", "-map", "1", "-map", "2"]
    several = project.videos / "a.mp4"
    run_ffmpeg(["-i", made, *more, "-c:v:0", "copy", "-c:v:1", "libx264", "-c:a", "aac", several], progress=False)
    pick(project, (1, 2))
    (reel,) = stages.reel(project, **QUIET)
    assert numbers(reel) == list(range(30, 60))
    with open_container(reel) as (container, _):
        assert [stream.type for stream in container.streams] == ["video", "audio"]


POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.mark.skipif(bool(POWERLESS) and shutil.which("setpriv") is None, reason="root may write everywhere")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("reel", r"hlkit: The reel .*a.mp4 can't be written: Permission denied. Choose another folder."),
        (
            "frames",
            r"hlkit: .*/frames can't be used \(Permission denied\)\. See who may write there, or take a project",
        ),
    ],
)
def test_a_folder_that_may_not_be_written(project, command, says):
    pick(project, (1, 2))
    before = sorted(project.root.rglob("*"))
    for folder in (project.root, project.reel("a").parent):
        folder.chmod(0o500)
    hlkit = [sys.executable, "-c", "from hlkit.cli import main; main()", command, "--project", project.root]
    done = subprocess.run([*POWERLESS, *hlkit], capture_output=True, text=True)
    for folder in (project.root, project.reel("a").parent):
        folder.chmod(0o700)
    assert done.returncode == 1
    assert re.match(says, done.stderr.splitlines()[-1])
    assert sorted(project.root.rglob("*")) == before
    assert project.reel("a").read_bytes() == b"earlier"


@pytest.mark.skipif(bool(POWERLESS) and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_known_before_the_work(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    target = closed / "new" / "a.csv"
    program = f"from pathlib import Path; from hlkit.project import check_place; check_place(Path({str(target)!r}))"
    done = subprocess.run([*POWERLESS, sys.executable, "-c", program], capture_output=True, text=True)
    closed.chmod(0o700)
    assert done.stderr.splitlines()[-1] == (
        f"hlkit.project.HlkitError: {target} can't be written: {closed} is closed to you. Give a place in another "
        "folder."
    )
