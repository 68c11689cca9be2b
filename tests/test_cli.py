"""The `hlkit` command: its exit status, its one line of reason, and that each command is the stage of its name."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hlkit import cli, stages
from hlkit.cli.common import in_options

HLKIT = [sys.executable, "-c", "from hlkit.cli import main; main()"]
STAGES = (
    "download channel frames box label agree export-labels push pull status verify delete link train review relearn "
    "infer timeline reel export score classes compare explain pictures sort unsort"
).split()


def run(*words):
    return subprocess.run([*HLKIT, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def call(*words):
    """The same in this process, which has imported everything; `main` itself is not run."""
    return CliRunner().invoke(cli.app, [str(word) for word in words], prog_name="hlkit")


def test_help_lists_every_stage():
    done = run("--help")
    assert done.returncode == 0
    for name in [*STAGES, "demo"]:
        assert f" {name} " in done.stdout


def test_help_waits_for_nothing_heavy():
    program = (
        "import sys; from hlkit.cli import app; sys.argv[1:] = ['train', '--help']; app(standalone_mode=False)\n"
        "heavy = ('torch', 'torchvision', 'lightning', 'matplotlib', 'boto3', 'sklearn', 'scipy', 'av', 'yt_dlp')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--backbone" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", [*STAGES, "demo"])
def test_each_command_has_help_with_an_example_and_a_project(name):
    done = call(name, "--help")
    assert done.exit_code == 0
    assert f"Usage: hlkit {name} " in done.stdout
    assert f"Example: hlkit {name}" in done.stdout
    assert "--project" in done.stdout or name in ("channel", "sort", "unsort")
    assert "--verbose" in done.stdout


@pytest.mark.parametrize("name", STAGES)
def test_each_option_is_an_argument_of_the_stage_with_the_same_default(name):
    offered = inspect.signature(get_command(cli.app).commands[name].callback).parameters
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


def test_a_name_that_the_terminal_has_no_signs_for_is_printed_all_the_same(tmp_path):
    (tmp_path / "суббота.csv").write_text("video,start,end\n")
    words = ["label", tmp_path / "суббота.csv", "--project", tmp_path / "nothing"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*HLKIT, *map(str, words)], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\\u0431\\u043e\\u0442\\u0430.csv holds no labels.\n")


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
def test_wrong_usage_is_status_2(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*words).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_ends_the_process_with_2_too():
    assert run("frames", "--size", "5").returncode == 2


def main_says(monkeypatch, capsys, *words):
    """What `hlkit WORDS`, which fails, prints as its reason."""
    monkeypatch.setattr(sys, "argv", ["hlkit", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return str(end.value.code).removeprefix("hlkit: "), capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("timeline --shortest -1", "--shortest -1.0 is not allowed; give 0 or more seconds."),
        ("timeline --merge-gap nan", "--merge-gap nan is not allowed; give 0 or more seconds."),
        ("timeline --pad inf", "--pad inf is not allowed; give 0 or more seconds."),
        ("timeline --minutes 0", "--minutes 0 is not allowed; give a number above 0, such as 10."),
        (
            "timeline --minutes 3 --precision 0.8",
            "--minutes 3 and --precision 0.8 can't be told together; give one of them.",
        ),
        ("train --seed -1", "--seed -1 is not allowed; give a whole number from 0 to 4294967295."),
        ("train --learning-rate 0", "--learning-rate 0 is not allowed; give a number above 0, such as 0.001."),
        (
            "infer x.mp4 --model m.ckpt --start 3",
            "--start 3 is given, but neither an end nor a duration. Give one of them.",
        ),
        (
            "infer x.mp4 --model m.ckpt --end 0:00:03 --duration 2",
            "--end 3 and --duration 2 are both given; give one of them.",
        ),
    ],
)
def test_a_failure_names_the_options_that_were_typed(words, said, tmp_path, monkeypatch, capsys):
    assert main_says(monkeypatch, capsys, *words.split(), "--project", tmp_path)[0] == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sort a.mp4 --model m --into d --above x", ["'--above'", "'x' is no share of a class. Give CLASS=SHARE"]),
        ("sort a.mp4 --model m --into d --above x=y", ["'--above'", "'x=y' is no share of a class. Give CLASS=SHARE"]),
        ("label a.csv --class x", ["'--class'", "'x' is no pair of classes. Give OLD=NEW"]),
    ],
)
def test_a_pair_that_is_none_names_its_option(words, said):
    done = call(*words.split())
    assert done.exit_code == 2
    shown = " ".join(done.stderr.replace("│", "").split())
    assert all(part in shown for part in said), shown


def test_a_warning_names_options_too(finished, tmp_path, monkeypatch, capsys):
    project = Path(shutil.copytree(finished[0].root, tmp_path / "project"))
    words = ["timeline", "--minutes", "0.1", "--shortest", "10000", "--project", project]
    monkeypatch.setattr(sys, "argv", ["hlkit", *map(str, words)])
    with pytest.raises(SystemExit) as end, warnings.catch_warnings():
        cli.main()
    assert end.value.code == 0
    assert capsys.readouterr().err == (
        "hlkit: No highlight fits into 6 s: nothing lasts --shortest 10000. Set a smaller one.\n"
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Set a smaller min_seconds.", "Set a smaller --shortest."),
        ("Set smaller min_seconds and pad_seconds (min_seconds).", "Set smaller --shortest and --pad (--shortest)."),
        ("end=3 comes before start=5.", "--end 3 comes before --start 5."),
        ("The end is near the start.", "The end is near the start."),
        ("The setting 'min_seconds' is odd.", "The setting 'min_seconds' is odd."),
        ("a/min_seconds.csv, my_min_seconds", "a/min_seconds.csv, my_min_seconds"),
        ("There is no file min_seconds.csv.", "There is no file min_seconds.csv."),
        ("https://example.org/?v=1&start=5 is gone.", "https://example.org/?v=1&start=5 is gone."),
    ],
)
def test_only_arguments_become_options(message, said):
    options = {"min_seconds": "--shortest", "pad_seconds": "--pad", "start": "--start", "end": "--end"}
    assert in_options(message, options) == said


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


def heeds_ctrl_c():
    """Undo what those who run tests in the background have switched off for all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_stops_with_one_line_and_a_rerun_finishes(tmp_path, sources):
    project = tmp_path / "project"
    assert run("download", sources / "learn.mp4", "--project", project).returncode == 0
    words = [*HLKIT, "frames", "--size", "512", "--fps", "30", "--project", str(project)]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c
    )
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


def test_ctrl_c_before_the_command_has_begun(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stopped)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err.startswith("\nhlkit: stopped.")


def test_a_command_is_the_stage(finished, tmp_path):
    project = Path(shutil.copytree(finished[0].root, tmp_path / "project"))
    done = run("timeline", "--minutes", "0.15", "--window-seconds", "2", "--project", project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("judge: ")
    assert done.stdout.endswith("of 0:01:30.\n")
    again = run("timeline", "--minutes", "0.15", "--window-seconds", "2", "--project", project)
    assert again.stdout == "judge: timeline already done.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("infer --video nope", "The project has no video 'nope'. It has: judge, learn."),
        ("explain --video nope", "The project has no video 'nope'. It has: judge, learn."),
        ("explain --video learn", "'learn' has no scores by 'first'. Score it first (notebook 06, or `hlkit infer`)."),
        (
            "frames --start 1000",
            "PROJECT/videos/judge.mp4 has no pictures from 1000 s to 90 s. It is 0:01:30 long (90.0 s). Give a stretch "
            "inside it.",
        ),
    ],
)
def test_what_is_not_there_is_named_as_it_was_typed(words, said, finished, tmp_path, monkeypatch, capsys):
    project = Path(shutil.copytree(finished[0].root, tmp_path / "project"))
    told = main_says(monkeypatch, capsys, *words.split(), "--project", project)[0]
    assert told == said.replace("PROJECT", str(project))


def test_a_box_without_pixels_is_refused_before_it_is_kept(finished, tmp_path, monkeypatch, capsys):
    project = Path(shutil.copytree(finished[0].root, tmp_path / "project"))
    settings, box = (project / "project.toml").read_text(), "0,0,0.001,0.001"
    for words in (["frames", "--box", box], ["reel", "--shape", "9:16", "--face", box]):
        told, shown = main_says(monkeypatch, capsys, *words, "--project", project)
        assert told.startswith("The box 0,0,0.001,0.001 is 0.")
        assert told.endswith("Give one that is 3 pixels or more on each side.")
        assert shown == ""
    assert (project / "project.toml").read_text() == settings


def test_a_channel_without_a_name_is_refused_at_once(monkeypatch, capsys):
    assert main_says(monkeypatch, capsys, "channel", " ")[0].startswith("No channel is named. Give a Twitch channel")
