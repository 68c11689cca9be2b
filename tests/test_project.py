import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.project import (
    HlkitError,
    Project,
    atomic_path,
    fingerprint,
    format_time,
    parse_time,
    plain_words,
    put_aside,
    safe_id,
    write_text,
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/00000.tar"), "The disk is full. Free some space and run"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "The disk is full."),
        (OSError(errno.EROFS, "Read-only file system", "/x/a"), "/x/a can't be used (Read-only file system). See who"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/a"), "/x/a can't be used (Permission denied)."),
        (HlkitError("The box is wrong.\nGive another."), "The box is wrong.\nGive another."),
    ],
)
def test_plain_words(error, says):
    assert plain_words(error).startswith(says)


@pytest.mark.parametrize("error", [ConnectionError("reset"), FileNotFoundError(2, "No such file", "a"), KeyError("a")])
def test_what_only_the_traceback_can_tell(error):
    assert plain_words(error) is None


def test_a_video_whose_link_leads_nowhere(tmp_path):
    project = Project(tmp_path)
    project.videos.mkdir()
    (project.videos / "a.mkv").symlink_to(tmp_path / "gone.mkv")
    with pytest.raises(
        HlkitError, match=r"a\.mkv leads to .*/gone\.mkv, which is gone\. Put it back, or delete a\.mkv"
    ):
        project.video("a")


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (0, 0, "0:00:00"),
        (59.6, 0, "0:01:00"),
        (3671.5, 1, "1:01:11.5"),
        (3599.9996, 3, "1:00:00.000"),
        (-83.5, 1, "-0:01:23.5"),
        (-0.2, 0, "0:00:00"),
        (86_400, 0, "24:00:00"),
    ],
)
def test_format_time_writes_hours_minutes_seconds(seconds, decimals, text):
    assert format_time(seconds, decimals=decimals) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("83.5", 83.5), (" 0:01:23.5 ", 83.5), ("10:00:00", 36_000.0), (".5", 0.5), ("-3", -3.0), (12, 12.0)],
)
def test_parse_time_reads_seconds_and_clock(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "1:23", "1:60:00", "1:00:75", "1,5", "nan", "inf", "1:2:3:4", "ten", "1e3"])
def test_parse_time_refuses_what_is_not_a_time(text):
    with pytest.raises(ValueError, match="is not a time: seconds"):
        parse_time(text)


def test_parse_time_says_what_a_two_part_time_may_mean():
    with pytest.raises(ValueError, match="write '0:12:34' if you mean minutes and seconds"):
        parse_time("12:34")


@given(st.integers(0, 10**9))
def test_time_survives_writing_and_reading(milliseconds):
    assert parse_time(format_time(milliseconds / 1000, decimals=3)) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.text())
def test_safe_id_is_a_file_name_that_stays_in_its_folder(text):
    name = safe_id(text)
    assert 1 <= len(name) <= 80
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert name[0] not in ".-_"
    assert safe_id(name) == name


def test_atomic_path_keeps_the_old_file_when_the_writer_fails(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("new, but not who")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    program = (
        "import os, pathlib, signal\nfrom hlkit.project import atomic_path\n"
        f"with atomic_path(pathlib.Path({str(target)!r})) as path:\n"
        "    path.write_text('new, but not who')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_fingerprint_sees_a_change_at_either_end_and_the_length(tmp_path):
    file = tmp_path / "video.mp4"
    body = bytes(3 << 20)
    prints = set()
    for content in (body, b"x" + body[1:], body[:-1] + b"x", body + b"\0"):
        file.write_bytes(content)
        prints.add(fingerprint(file))
    assert len(prints) == 4
    with pytest.raises(HlkitError, match="There is no file"):
        fingerprint(tmp_path / "nothing.mp4")


def test_a_stage_is_done_only_with_its_inputs_and_outputs(tmp_path):
    project = Project(tmp_path)
    output = tmp_path / "frames" / "a" / "index.parquet"
    write_text(output, "table")
    made_from = {"video": "abc", "fps": "3", "box": (0, 1)}
    assert not project.is_done("frames", "a", made_from)
    project.mark_done("frames", "a", made_from, [output])
    assert project.is_done("frames", "a", made_from)
    assert not project.is_done("frames", "b", made_from)
    assert not project.is_done("frames", "a", made_from | {"fps": "5"})
    output.write_text("tab")
    assert not project.is_done("frames", "a", made_from)
    output.unlink()
    assert not project.is_done("frames", "a", made_from)


def test_a_damaged_marker_is_not_believed(tmp_path):
    project = Project(tmp_path)
    assert project.made_from("frames", "a") == {}
    project.mark_done("frames", "a", {"fps": "3", "ends": (1.5, 2.000001)}, [])
    assert project.made_from("frames", "a") == {"fps": "3", "ends": [1.5, 2.000001]}
    marker = next((tmp_path / ".stages").iterdir())
    for damage in ("", "{", "[]", json.dumps({"made_from": {}})):
        marker.write_text(damage)
        assert not project.is_done("frames", "a", {})
        assert project.made_from("frames", "a") == {}
    marker.write_bytes(b"\xff\xfe\x80")
    assert not project.is_done("frames", "a", {})
    assert project.made_from("frames", "a") == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a, суббота.csv", "a, воскресенье.csv"),
        ("a b", "a_b"),
        ("v" * 90 + "1", "v" * 90 + "2"),
        ("caf\udce9", "caf\udcea"),
    ],
)
def test_two_names_have_two_markers(tmp_path, one, other):
    project = Project(tmp_path)
    project.mark_done("import", one, {"said": 1}, [])
    assert project.made_from("import", other) == {}
    assert not project.is_done("import", other, {"said": 1})
    project.mark_done("import", other, {"said": 2}, [])
    assert (project.made_from("import", one), project.made_from("import", other)) == ({"said": 1}, {"said": 2})


def test_settings_are_merged_and_read_back(tmp_path):
    project = Project(tmp_path)
    assert project.settings() == {}
    project.save_settings(run="first", videos=["a", "b"], window_seconds=5.5, note='say "hi"\\ \n\x7f', ok=True)
    project.save_settings(run="second")
    assert project.settings() == {
        "run": "second",
        "videos": ["a", "b"],
        "window_seconds": 5.5,
        "note": 'say "hi"\\ \n\x7f',
        "ok": True,
    }


@given(st.dictionaries(st.sampled_from("abc"), st.text() | st.integers(-(2**60), 2**60) | st.booleans()))
def test_any_setting_survives_toml(tmp_path_factory, settings):
    project = Project(tmp_path_factory.mktemp("project"))
    project.save_settings(**settings)
    assert project.settings() == settings


@pytest.mark.parametrize("run", ["a/b", "a b", "../a", ".a", "a-", "", "é", "a" * 81])
def test_a_run_whose_folder_could_be_another_runs_is_refused(tmp_path, run):
    project = Project(tmp_path)
    for place in (project.model, lambda name: project.scores(name, "video")):
        with pytest.raises(HlkitError, match=r"can't be a run's name\. Letters, digits"):
            place(run)
    assert project.model("a_b") == project.root / "models" / "a_b"
    assert project.scores("a.b-2", "v") == project.root / "scores" / "a.b-2" / "v.parquet"


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "project.toml").write_text("run = ")
    with pytest.raises(HlkitError, match=r"project\.toml is not valid TOML"):
        Project(tmp_path).settings()


def test_a_missing_video_is_answered_with_those_that_are_there(tmp_path):
    project = Project(tmp_path)
    with pytest.raises(HlkitError, match="It has: none; download one first"):
        project.video("x")
    for name in ("b.mp4", "a.mkv", ".part-c.mp4", "a.json"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"")
    assert project.video("a") == tmp_path.resolve() / "videos" / "a.mkv"
    with pytest.raises(HlkitError, match=r"no video 'x'\. It has: a, b"):
        project.video("x")


def test_a_recording_is_found_whatever_the_case_of_its_suffix(tmp_path):
    project = Project(tmp_path)
    project.videos.mkdir()
    (project.videos / "A.MP4").write_bytes(b"")
    assert project.video_ids() == ["A"]
    assert project.video("A").name == "A.MP4"
    (project.videos / "A.mkv").write_bytes(b"")
    assert project.video_ids() == ["A"]
    assert project.video("A").name == "A.MP4"


@pytest.mark.parametrize("video", ["../a", "../videos/in", "videos/../in", "", ".", "n" * 300, "in.mp4"])
def test_no_id_leads_out_of_the_folder(tmp_path, video):
    project = Project(tmp_path / "project")
    project.videos.mkdir(parents=True)
    for file in (project.root / "a.mp4", project.videos / "in.mp4", project.videos / ".mp4"):
        file.write_bytes(b"")
    with pytest.raises(HlkitError, match=r"The project has no video '.*'\. It has: in\."):
        project.video(video)


def test_what_is_put_aside_takes_the_place_of_nothing(tmp_path):
    file = tmp_path / "a.csv"
    for content in ("one", "two", "three"):
        file.write_text(content)
        assert put_aside(file).read_text() == content
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.csv": "three",
        "a.csv.old": "one",
        "a.csv.old2": "two",
        "a.csv.old3": "three",
    }


def test_a_project_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HlkitError, match="is a file; give a folder"):
        Project(tmp_path / "file")


def test_import_is_light_and_quick():
    program = (
        "import sys, time\nstart = time.perf_counter()\nimport hlkit\nprint(time.perf_counter() - start)\n"
        "heavy = ('torch', 'boto3', 'matplotlib', 'lightning', 'sklearn', 'av')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
        for _ in range(3)
    ]
    seconds, heavy = zip(*(run.stdout.splitlines() for run in runs), strict=True)
    assert set(heavy) == {"[]"}
    assert min(map(float, seconds)) < 0.3


def test_every_name_of_the_front_door_opens():
    import hlkit

    assert {name: getattr(hlkit, name).__module__ for name in hlkit.__all__} == {
        name: f"hlkit.{home}" for name, home in hlkit._HOMES.items()
    }
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hlkit.nothing  # noqa: B018
