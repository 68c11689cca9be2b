import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from recordings import make_numbered

from hlkit import download as module
from hlkit.download import (
    Rendition,
    Source,
    choose_rendition,
    default_id,
    download,
    parse_source,
    read_facts,
    read_renditions,
)
from hlkit.project import HlkitError
from hlkit.video import find_ffmpeg, probe

# As `twitch-dl info ID --json` (3.3) prints them, less what is not read.
VOD = {
    "id": "1234567",
    "title": 'Friday "ranked" ☕',
    "lengthSeconds": 2,
    "playlists": [
        {"name": "1080p60", "group_id": "chunked", "resolution": "1920x1080", "url": "u", "is_source": True},
        {"name": "720p60", "group_id": "720p60", "resolution": "1280x720", "url": "u", "is_source": False},
        {"name": "480p", "group_id": "480p30", "resolution": "852x480", "url": "u", "is_source": False},
        {"name": "360p", "group_id": "360p30", "resolution": "640x360", "url": "u", "is_source": False},
        {"name": "160p", "group_id": "160p30", "resolution": None, "url": "u", "is_source": False},
        {"name": "Audio Only", "group_id": "audio_only", "resolution": None, "url": "u", "is_source": False},
    ],
    "chapters": [
        {"description": "Apex", "positionMilliseconds": 0, "durationMilliseconds": 1500},
        {"description": "Chess", "positionMilliseconds": 1500, "durationMilliseconds": 500},
    ],
}
CLIP = {
    "slug": "NiceClip-x_1",
    "title": "Nice",
    "durationSeconds": 2,
    "videoQualities": [
        {"frameRate": 60, "quality": "1080", "sourceURL": "u"},
        {"frameRate": 30, "quality": "360", "sourceURL": "u"},
    ],
}

# Twitch lies outside this machine; everything between it and hlkit is a real program, run as the real one is.
STAND_IN = """
    #!{python}
    import json, os, shutil, subprocess, sys, time
    from pathlib import Path
    here = Path(__file__).parent
    plan = json.loads((here / "plan.json").read_text())
    with (here / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\\n")
    if sys.argv[1] == "info":
        print("Fetching video...", file=sys.stderr)
        if plan.get("unknown"):
            sys.exit("Error: Video 1234567 not found")
        print(json.dumps(plan["facts"]))
        sys.exit()
    options = dict(zip(sys.argv[3::1], sys.argv[4::1]))
    if "--quality" not in options or (Path(options["--output"]).exists() and "--overwrite" not in sys.argv):
        sys.exit("it would ask: " + repr(input("Choose quality [1]: ")))
    segments = Path(options["--cache-dir"])
    segments.mkdir(exist_ok=True)
    for done in range(0, 101, 20):
        sys.stdout.write("\\033[2K\\rDownloaded 3/5 VODs\\033[34m %d%%\\033[0m of ~1MB" % done)
        sys.stdout.flush()
    (segments / "00000.ts").write_bytes(b"first segment")
    if plan.get("hang"):
        Path(options["--output"]).write_bytes(b"half")
        pids = [os.getpid()]
        if plan["hang"] == "with a child":
            pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        (here / "hanging").write_text(" ".join(map(str, pids)))
        while True:
            print("\\rDownloaded 4/5 VODs 80%", end="", flush=True)
            time.sleep(0.02)
    if plan.get("status"):
        print("httpx.ConnectError: [Errno -2] Name or service not known", file=sys.stderr)
        sys.exit(plan["status"])
    if plan.get("no_file"):
        print("\\033[91mVideo '1234567' not found\\033[0m", file=sys.stderr)
        sys.exit()
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", plan["video"], "-c", "copy", options["--output"]], check=True)
    print("\\nDownloaded: " + options["--output"])
"""


@pytest.fixture
def twitch(tmp_path, monkeypatch):
    """A PATH with a stand-in for twitch-dl and no ffmpeg; call it with what it shall do."""
    folder = tmp_path / "twitch"
    folder.mkdir()
    program = folder / "twitch-dl"
    program.write_text(textwrap.dedent(STAND_IN).strip().format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    make_numbered(folder / "vod.mp4", seconds=2)

    def plan(**what):
        text = json.dumps({"facts": VOD, "video": str(folder / "vod.mp4")} | what)
        (folder / "plan.json").write_text(text)

    plan()
    plan.folder = folder
    return plan


def calls(twitch) -> list[list[str]]:
    return [json.loads(line) for line in (twitch.folder / "calls.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("1234567890", "vod", "1234567890"),
        ("https://www.twitch.tv/videos/1234567890", "vod", "1234567890"),
        ("twitch.tv/videos/1234567890?t=1h2m", "vod", "1234567890"),
        (" https://m.twitch.tv/someone/video/1234567890/ ", "vod", "1234567890"),
        ("https://www.twitch.tv/someone/v/1234567890", "vod", "1234567890"),
        ("https://clips.twitch.tv/NiceClip-x_1", "clip", "NiceClip-x_1"),
        ("https://www.twitch.tv/someone/clip/NiceClip-x_1?filter=a", "clip", "NiceClip-x_1"),
    ],
)
def test_sources(text, kind, name):
    assert parse_source(text) == Source(kind, name)
    assert default_id(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing.mp4",
        "https://example.org/a.mp4",
        "https://www.twitch.tv/someone",
        "-h",
        "--output=/etc/x",
        "x" * 5000,
        "https://clips.twitch.tv/a;rm",
        "https://evil.org/?https://www.twitch.tv/videos/1234567890",
        "12\0",
        ".",
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text, tmp_path):
    with pytest.raises(HlkitError, match=r"neither a file .* nor a Twitch link\. Give a video file"):
        download(text, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_goes_before_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1234567").touch()
    assert parse_source("1234567") == Source("file", "1234567")


@pytest.mark.parametrize(
    ("quality", "name"),
    [("analysis", "360p30"), ("source", "source"), ("720p60", "720p60"), ("480p", "480p30"), ("1080p60", "source")],
)
def test_qualities_of_a_vod(quality, name):
    assert choose_rendition(read_renditions(VOD), quality).names[0] == name


@pytest.mark.parametrize(
    ("quality", "name"), [("analysis", "360"), ("source", "1080"), ("1080p", "1080"), ("360", "360")]
)
def test_qualities_of_a_clip(quality, name):
    assert choose_rendition(read_renditions(CLIP), quality).names[0] == name


def test_of_two_equally_near_renditions_the_one_with_fewer_pictures_is_analysed():
    offered = [Rendition((name, name), height) for name, height in [("360p60", 360), ("360p30", 360), ("480p", 480)]]
    assert choose_rendition(offered, "analysis").names[0] == "360p30"


def test_a_quality_that_is_not_offered_lists_those_that_are():
    with pytest.raises(
        HlkitError, match=r"Quality '900p' is not offered\. This video has: 1080p60, 720p60, 480p, 360p, 160p"
    ):
        choose_rendition(read_renditions(VOD), "900p")
    with pytest.raises(HlkitError, match="This video has: nothing"):
        choose_rendition(read_renditions({"videoQualities": None}), "analysis")


def test_facts():
    chapters = [{"start": 0.0, "end": 1.5, "title": "Apex"}, {"start": 1.5, "end": 2.0, "title": "Chess"}]
    assert read_facts(VOD) == ({"title": 'Friday "ranked" ☕', "chapters": chapters}, 2.0)
    assert read_facts(CLIP) == ({"title": "Nice", "chapters": []}, 2.0)


def test_a_vod_comes_with_its_facts(twitch, tmp_path, capsys):
    folder = tmp_path / "videos"
    video = download("https://www.twitch.tv/videos/1234567", folder)
    assert video == folder / "1234567.mp4"
    assert probe(video).duration == pytest.approx(2.0, abs=0.01)
    about = json.loads((folder / "1234567.json").read_text(encoding="utf-8"))
    assert about.pop("length") == probe(video).duration
    assert about == {"source": "https://www.twitch.tv/videos/1234567", "quality": "360p", **read_facts(VOD)[0]}
    assert sorted(file.name for file in folder.iterdir()) == ["1234567.json", "1234567.mp4"]
    info, fetch = calls(twitch)
    assert info == ["info", "1234567", "--json"]
    assert fetch[:7] == ["download", "1234567", "--quality", "360p30", "--overwrite", "--format", "mp4"]
    assert fetch[7:] == ["--output", "video.mp4", "--cache-dir", "segments"]
    assert "1234567: 100%" in capsys.readouterr().err


def test_the_real_program_knows_every_option_that_is_given():
    program = Path(sys.executable).with_name("twitch-dl")
    if not program.exists():
        pytest.fail("twitch-dl is a requirement of hlkit and is not installed")
    shown = subprocess.run([program, "download", "--help"], capture_output=True, text=True, check=True).stdout
    for option in ("--quality", "--overwrite", "--format", "--output", "--cache-dir"):
        assert f"{option} " in shown
    assert "--json" in subprocess.run([program, "info", "--help"], capture_output=True, text=True, check=True).stdout


def test_a_clip_is_asked_for_by_its_link(twitch, tmp_path):
    twitch(facts=CLIP)
    assert (
        download("https://clips.twitch.tv/NiceClip-x_1", tmp_path, video_id="best", quality="source").name == "best.mp4"
    )
    assert calls(twitch)[1][:4] == ["download", "https://clips.twitch.tv/NiceClip-x_1", "--quality", "1080"]


def test_what_was_there_is_overwritten_by_a_whole_download_only(twitch, tmp_path):
    make_numbered(tmp_path / "1234567.mp4", seconds=1)
    before = (tmp_path / "1234567.mp4").read_bytes()
    for fault, says in [
        ({"unknown": True}, "Twitch gives nothing for 1234567. twitch-dl says: .*Video 1234567 not found"),
        ({"status": 1}, "twitch-dl failed with status 1: .*Name or service not known"),
        ({"no_file": True}, "twitch-dl ended without a video: .*Video '1234567' not found"),
        ({"facts": VOD | {"lengthSeconds": 3600}}, "Twitch states 3600 s for 1234567, but 2 s came"),
        ({"facts": []}, "Twitch gives nothing for 1234567"),
    ]:
        twitch(**fault)
        with pytest.raises(HlkitError, match=says) as caught:
            download("1234567", tmp_path, progress=False)
        assert "\x1b" not in str(caught.value)
        assert (tmp_path / "1234567.mp4").read_bytes() == before
        assert not (tmp_path / "1234567.json").exists()
    twitch()
    download("1234567", tmp_path, progress=False)
    assert probe(tmp_path / "1234567.mp4").duration == pytest.approx(2.0, abs=0.01)


def test_a_download_that_broke_off_goes_on_with_its_segments(twitch, tmp_path):
    twitch(status=1)
    with pytest.raises(HlkitError):
        download("1234567", tmp_path, progress=False)
    (hidden,) = tmp_path.glob(".download-*")
    assert (hidden / "segments" / "00000.ts").read_bytes() == b"first segment"
    twitch()
    download("1234567", tmp_path, progress=False)
    assert not hidden.exists()


def _wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} never came"
        os.sched_yield()
    return path.read_text()


@pytest.mark.parametrize(("how", "hang"), [(signal.SIGKILL, "alone"), (signal.SIGINT, "with a child")])
def test_killing_it_leaves_no_video_and_no_process(twitch, tmp_path, how, hang):
    twitch(hang=hang)
    script = (
        "import sys; from hlkit.download import download; download('1234567', __import__('pathlib').Path(sys.argv[1]))"
    )
    run = subprocess.Popen([sys.executable, "-c", script, tmp_path / "videos"], stderr=subprocess.PIPE)
    started = [psutil.Process(int(pid)) for pid in _wait_for(twitch.folder / "hanging").split()]
    run.send_signal(how)
    run.stderr.close()
    run.wait()
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert [file.name for file in (tmp_path / "videos").iterdir() if file.name[0] != "."] == []
    twitch()
    assert probe(download("1234567", tmp_path / "videos", progress=False)).duration == pytest.approx(2.0, abs=0.01)


def test_twitch_dl_beside_this_python_is_found_without_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "bin" / "twitch-dl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    assert module._twitch_dl() == str(program)
    program.unlink()
    with pytest.raises(HlkitError, match="pip install twitch-dl"):
        module._twitch_dl()


def test_twitch_dl_gets_the_ffmpeg_that_hlkit_uses(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    find_ffmpeg.cache_clear()
    path = module._environment(tmp_path)["PATH"]
    assert Path(shutil.which("ffmpeg", path=path)).samefile(find_ffmpeg())
    find_ffmpeg.cache_clear()


def test_a_file_is_linked_or_copied(tmp_path, monkeypatch):
    source = tmp_path / "My stream (1).MKV"
    make_numbered(tmp_path / "a.mkv", seconds=1)
    (tmp_path / "a.mkv").rename(source)
    linked = download(source, tmp_path / "videos")
    assert linked == tmp_path / "videos" / "My_stream_1.mkv"
    assert linked.samefile(source)
    monkeypatch.setattr(module.os, "link", _no_links)
    copied = download(str(source), tmp_path / "videos", video_id="copy", progress=False)
    assert not copied.samefile(source)
    assert copied.read_bytes() == source.read_bytes()
    about = json.loads((tmp_path / "videos" / "copy.json").read_text())
    assert about == {"source": str(source), "title": "My stream (1)", "chapters": [], "length": 1.0}


def _no_links(*_):
    raise OSError("no links on this disk")


def test_the_projects_own_file_stays_where_it_is(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    before = (tmp_path / "a.mp4").read_bytes()
    assert download(tmp_path / "a.mp4", tmp_path) == tmp_path / "a.mp4"
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_new_file_replaces_the_old_one_of_that_name(tmp_path):
    make_numbered(tmp_path / "new.mp4", seconds=2)
    (tmp_path / "videos").mkdir()
    make_numbered(tmp_path / "videos" / "a.mp4", seconds=1)
    download(tmp_path / "new.mp4", tmp_path / "videos", video_id="a")
    assert probe(tmp_path / "videos" / "a.mp4").duration == 2.0


@pytest.mark.parametrize(
    ("name", "video_id", "says"),
    [
        ("a.mp4", "../a", r"'\.\./a' can't be a video's id"),
        ("a.mp4", "", None),
        ("a.mpg", None, r"'\.mpg' is not the suffix of a video"),
        ("a.mp4", "taken", "already has a video 'taken'"),
        ("broken.mp4", None, "can't be read as a video"),
    ],
)
def test_a_file_that_can_not_be_taken(tmp_path, name, video_id, says):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "a.mpg")
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "taken.mkv").touch()
    if says is None:
        assert download(tmp_path / name, tmp_path / "videos", video_id=video_id).name == "a.mp4"
        return
    with pytest.raises(HlkitError, match=says):
        download(tmp_path / name, tmp_path / "videos", video_id=video_id)
    assert [file.name for file in (tmp_path / "videos").iterdir()] == ["taken.mkv"]
