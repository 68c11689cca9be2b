"""The `hlkit` command: its exit status, its one line of reason, and that each command is the stage of its name."""

import errno
import inspect
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hlkit import cli, stages

HLKIT = [sys.executable, "-c", "from hlkit.cli import main; main()"]
STAGES = (
    "download channel frames label agree export-labels push pull status verify delete link train review relearn infer "
    "timeline reel export score compare explain pictures sort unsort"
).split()


def run(*words, cwd=None):
    return subprocess.run([*HLKIT, *map(str, words)], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)


def test_help_lists_every_stage():
    done = run("--help")
    assert done.returncode == 0
    for name in [*STAGES, "demo"]:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", [*STAGES, "demo"])
def test_each_command_has_help_with_an_example_and_a_project(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"Example: hlkit {name}" in done.stdout
    assert "--project" in done.stdout or name in ("channel", "sort", "unsort")
    assert "--verbose" in done.stdout


@pytest.mark.parametrize("name", STAGES)
def test_each_option_is_an_argument_of_the_stage_with_the_same_default(name):
    offered = inspect.signature(getattr(cli, name.replace("-", "_"))).parameters
    accepted = inspect.signature(getattr(stages, name.replace("-", "_"))).parameters
    for option in set(offered) - {"project", "verbose"}:
        assert offered[option].default == accepted[option].default, option


def test_a_failure_is_one_line_and_status_1(tmp_path):
    done = run("frames", "--project", tmp_path / "nothing")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("hlkit: ")
    assert "has no videos. Download one first" in done.stderr


def test_verbose_adds_the_traceback(tmp_path):
    done = run("frames", "--project", tmp_path / "nothing", "--verbose")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["frames", "--size", "5"],
        ["frames", "--nothing"],
        ["nothing"],
        ["infer", "--start", "1:23"],
        ["train", "--logger", "x"],
        ["reel", "--overlay", "x"],
        ["label"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(words, tmp_path):
    assert run(*words, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_plain_words():
    error = OSError(errno.ENOSPC, "No space left on device", "/somewhere/00000.tar")
    assert cli._one_line(error).startswith("The disk is full. Free some space and run the same command again")


def test_a_disk_that_is_really_full_leaves_nothing_half_written(tmp_path, sources):
    """The size limit of a process stands in for a full disk: the write fails in the same place."""
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "from hlkit.cli import main; sys.argv[0] = 'hlkit'; main()"
    )
    project = tmp_path / "project"
    assert run("download", sources / "learn.mp4", "--project", project).returncode == 0
    words = ["frames", "--size", "128", "--project", str(project)]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("hlkit: ")
    assert not list((project / "frames" / "learn").glob("*.tar"))
    assert not (project / "frames" / "learn" / "index.parquet").exists()
    assert run(*words).returncode == 0


def test_ctrl_c_stops_with_one_line_and_a_rerun_finishes(tmp_path, sources):
    project = tmp_path / "project"
    assert run("download", sources / "learn.mp4", "--project", project).returncode == 0
    words = [*HLKIT, "frames", "--size", "512", "--fps", "30", "--project", str(project)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    shown = ""
    while "frame" not in shown:  # the progress line: it is at work now
        shown += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate()
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("hlkit: stopped. Run the same command again")
    assert "Traceback" not in shown + rest
    assert not (project / "frames" / "learn" / "index.parquet").exists()
    assert run("frames", "--size", "16", "--project", project).returncode == 0


def test_a_command_is_the_stage(finished, tmp_path):
    project = Path(shutil.copytree(finished[0].root, tmp_path / "project"))
    done = run("timeline", "--minutes", "0.15", "--window-seconds", "2", "--project", project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("judge: ")
    assert done.stdout.endswith("of 0:01:30.\n")
    again = run("timeline", "--minutes", "0.15", "--window-seconds", "2", "--project", project)
    assert again.stdout == "judge: timeline already done.\n"
