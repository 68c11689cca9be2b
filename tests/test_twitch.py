"""The real twitch-dl against a stand-in for Twitch, through everything that is known to go wrong."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import ffmpeg
import psutil
import pytest
from recordings import make_numbered
from twitch_site import SPECIAL, TwitchSite, segment, twitch_site

from hlkit import project, tries, twitchdl
from hlkit.channel import clips_period, read_clips
from hlkit.download import download, list_videos
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sources import Source
from hlkit.twitch import expected_bytes, read_facts, read_renditions
from hlkit.twitchdl import TwitchDlError
from hlkit.video import find_ffmpeg, probe, run_ffmpeg

VOD = Source("vod", "1234567")
SECONDS = 12
LOW = f"/{SPECIAL}/360p30"


@pytest.fixture(scope="session")
def renditions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("renditions")
    make_numbered(folder / "vod.mp4", seconds=SECONDS, fps=10, gop=20, sound=True)
    make_numbered(folder / "clip.mp4", seconds=2)
    for group in ("chunked", "720p60", "360p30"):
        segment(folder / "vod.mp4", folder / group)
    return folder


@pytest.fixture
def site(renditions, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(renditions, tmp_path / "site"))
    with twitch_site(folder) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setattr(twitchdl, "WAITS", (0.0,))
        yield running


@pytest.fixture
def videos(tmp_path):
    return tmp_path / "videos"


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def is_whole(video):
    return probe(video).duration == pytest.approx(SECONDS, abs=0.1)


def test_a_vod_comes_whole_with_what_is_known_of_it(site, videos, capfd):
    site.videos["1234567"]["title"] = title = f"$(touch {videos.parent}/ran); `touch {videos.parent}/ran` --output=x ☕"
    video = download("https://www.twitch.tv/videos/1234567?t=3s", videos)
    assert video == videos / "1234567.mp4"
    assert is_whole(video)
    about = json.loads((videos / "1234567.json").read_text(encoding="utf-8"))
    assert about.pop("length") == probe(video).duration
    assert about == {
        "source": "https://www.twitch.tv/videos/1234567?t=3s",
        "title": title,
        "channel": "streamer",
        "published": "2026-01-02T12:00:00Z",
        "chapters": [{"start": 0.0, "end": 7.5, "title": "Apex"}, {"start": 7.5, "end": 12.0, "title": "Chess"}],
        "quality": "360p",
        "clips": [
            {"link": "https://clips.twitch.tv/NiceClip-x_1", "title": "Nice", "views": 5, "length": 2.0, "made": 13.0}
        ],
    }
    assert left(videos) == ["1234567.json", "1234567.mp4"]
    assert len(site.paths(rf"{LOW}/\d\.ts")) == 6
    assert site.paths(f"/{SPECIAL}/(chunked|720p60)/.*") == []
    out, err = capfd.readouterr()
    assert out == ""
    assert "1234567:" in err
    assert not (videos.parent / "ran").exists()
    assert not (videos.parent / "home").exists(), "twitch-dl's cache belongs into the project"


@pytest.mark.parametrize(
    ("quality", "group", "name"),
    [("source", "chunked", "1080p60"), pytest.param("720p60", "720p60", "720p60", marks=pytest.mark.slow)],
)
def test_the_wanted_quality_is_fetched(site, videos, quality, group, name):
    download("1234567", videos, quality=quality, progress=False)
    assert len(site.paths(rf"/{SPECIAL}/{group}/\d\.ts")) == 6
    assert json.loads((videos / "1234567.json").read_text())["quality"] == name


def test_a_clip(site, videos):
    video = download("https://clips.twitch.tv/NiceClip-x_1", videos, video_id="best", quality="source", progress=False)
    assert video == videos / "best.mp4"
    assert probe(video).duration == 2.0
    assert site.paths("/clips/.*") == ["/clips/NiceClip-x_1-1080.mp4"]
    about = json.loads((videos / "best.json").read_text())
    assert (about["title"], about["quality"], about["channel"]) == ("Nice", "1080p", "streamer")


def test_what_would_make_it_ask_does_not(site, videos, monkeypatch):
    """A target that exists, options in the user's environment, and a terminal that could answer."""
    videos.mkdir()
    (videos / "1234567.mp4").write_bytes(b"old")
    monkeypatch.setenv("TWITCH_DL_DOWNLOAD_QUALITY", "")
    monkeypatch.setenv("TWITCH_DL_DOWNLOAD_CHAPTER", "0")
    monkeypatch.setenv("TWITCH_DL_DOWNLOAD_DRY_RUN", "1")
    assert is_whole(download("1234567", videos, progress=False))


@pytest.mark.parametrize("link", ["7654321", "https://clips.twitch.tv/Nothing"])
def test_a_missing_video_is_an_error_at_once(site, videos, link):
    with pytest.raises(HlkitError, match=r"Twitch has nothing there: .* not found") as caught:
        download(link, videos, progress=False)
    assert not isinstance(caught.value, TwitchDlError)
    assert len(site.requests) == 1
    assert left(videos) == []


def test_a_refused_segment_is_asked_for_again_after_growing_waits(site, videos, monkeypatch):
    waits = []
    monkeypatch.setattr(twitchdl, "WAITS", (2.0, 10.0, 30.0))
    monkeypatch.setattr(tries.time, "sleep", waits.append)
    site.faults = {f"{LOW}/3.ts": [503, 403, 500]}
    assert is_whole(download("1234567", videos, progress=False))
    assert waits == [2.0, 10.0, 30.0]


@pytest.mark.slow
def test_a_cut_off_segment_is_fetched_whole(site, videos):
    site.faults = {f"{LOW}/2.ts": ["short"]}
    assert is_whole(download("1234567", videos, progress=False))


def test_a_segment_that_is_no_video_does_not_stay(site, videos):
    """An error page with status 200: ffmpeg joins the rest without complaint, and twitch-dl would keep the page."""
    wrong = site.folder / "360p30" / "3.ts"
    right = wrong.read_bytes()
    wrong.write_bytes(b"<html>busy</html>")
    site.on_requests[f"{LOW}/3.ts"] = lambda: wrong.write_bytes(right)
    assert is_whole(download("1234567", videos, progress=False))
    assert site.paths(f"{LOW}/3.ts") == [f"{LOW}/3.ts"] * 2


def test_what_fails_all_the_time_is_left_to_yt_dlp_by_name(site, videos):
    site.faults = {f"{LOW}/3.ts": [503] * 2}
    with pytest.warns(HlkitWarning, match=r"failed with status 1: .*503 Service Unavailable.* Taking yt-dlp instead\."):
        video = download("1234567", videos, progress=False)
    assert is_whole(video)
    about = json.loads((videos / "1234567.json").read_text(encoding="utf-8"))
    assert [chapter["title"] for chapter in about["chapters"]] == ["Apex", "Chess"]
    assert (about["quality"], about["published"], len(about["clips"])) == ("360p", "2026-01-02T12:00:00Z", 1)
    assert left(videos) == ["1234567.json", "1234567.mp4"]


def test_a_stream_that_still_runs_is_not_taken(site, videos):
    site.videos["1234567"]["status"] = "RECORDING"
    with pytest.raises(HlkitError, match=r"still running, so its video would come cut off\. Run this again when"):
        download("1234567", videos, progress=False)
    assert site.paths(rf"{LOW}/.*") == []


def test_a_vod_shorter_than_stated_is_not_taken_for_whole(site, videos):
    playlist = site.folder / "360p30" / "index-dvr.m3u8"
    lines = playlist.read_text().split("#EXTINF")
    playlist.write_text("#EXTINF".join(lines[:3]) + "#EXT-X-ENDLIST\n")
    shutil.copy(playlist, site.folder / "720p60" / "index-dvr.m3u8")
    with (
        pytest.warns(HlkitWarning, match="Twitch states 12 s for .*1234567, but 4 s came"),
        pytest.raises(HlkitError, match=r"4 s came\. Run this again"),
    ):
        download("1234567", videos, progress=False)
    assert [name for name in left(videos) if name.endswith(("1234567.mp4", ".json"))] == []


def test_a_listed_rendition_that_is_not_there_gives_way_to_the_next(site, videos):
    shutil.rmtree(site.folder / "360p30")
    with pytest.warns(HlkitWarning, match=r"lists 360p for .*, but does not have it\. Taking 720p60 instead"):
        assert is_whole(download("1234567", videos, progress=False))
    assert json.loads((videos / "1234567.json").read_text())["quality"] == "720p60"


def test_a_named_rendition_that_is_not_offered(site, videos):
    with pytest.raises(HlkitError, match=r"Quality '900p' is not offered\. This video has: 1080p60, 720p60, 360p;"):
        download("1234567", videos, quality="900p", progress=False)


@pytest.mark.parametrize(
    ("codec", "name"), [("libx265", "hevc"), pytest.param("libsvtav1", "av1", marks=pytest.mark.slow)]
)
def test_a_source_in_a_newer_codec(site, videos, codec, name):
    recording = site.folder / "newer.mp4"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"preset": 12}
    shutil.rmtree(site.folder / "chunked")
    node = ffmpeg.input(str(site.folder / "vod.mp4")).output(
        str(recording), vcodec=codec, acodec="copy", g=20, **options
    )
    run_ffmpeg(node, progress=False)
    segment(recording, site.folder / "chunked", fmp4=True)
    video = download("1234567", videos, quality="source", progress=False)
    assert is_whole(video)
    assert probe(video).codec == name


def wait_until(holds, process):
    """Wait for what another process does."""
    while not holds():
        with pytest.raises(subprocess.TimeoutExpired):  # it must not end before
            process.wait(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_killed_download_leaves_no_process_and_goes_on(site, videos, how):
    release = threading.Event()
    site.faults = {f"{LOW}/3.ts": [release]}
    script = "import sys; from hlkit.cli import main; sys.argv = ['hlkit', *sys.argv[1:]]; main()"
    words = ["download", "1234567", "--no-chat", "--project", str(videos.parent)]
    run = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    segments = videos / ".fetching" / "1234567" / "1234567-360p30" / "segments"
    wait_until(lambda: site.busy.is_set() and len(list(segments.glob("*.ts"))) == 5, run)
    children = psutil.Process(run.pid).children(recursive=True)
    assert any("twitch-dl" in " ".join(child.cmdline()) for child in children)
    run.send_signal(how)
    run.communicate()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert not (videos / "1234567.mp4").exists()
    release.set()
    assert is_whole(download("1234567", videos, progress=False))
    fetched = site.paths(rf"{LOW}/\d\.ts")
    assert sorted(set(fetched)) == [f"{LOW}/{number}.ts" for number in range(6)]
    assert len(fetched) <= 7, "only the segment that was under way may come twice"


def test_a_video_for_subscribers_needs_the_token(site, videos):
    site.subscribers_only = True
    with pytest.raises(HlkitError, match=r"for subscribers only: .*TWITCH_AUTH_TOKEN"):
        download("1234567", videos, progress=False)


def test_a_wrong_token_is_said(site, videos, monkeypatch):
    monkeypatch.setenv("TWITCH_AUTH_TOKEN", "wrong")
    with pytest.raises(HlkitError, match="The provided auth token is not valid"):
        download("1234567", videos, progress=False)


@pytest.mark.parametrize("fault", [pytest.param(None, marks=pytest.mark.slow), 503])
def test_the_token_is_on_no_command_line_and_in_no_file_or_line(site, videos, fault, monkeypatch, caplog, capfd):
    secret = "s3cr3t-t0ken-of-a-subscriber"
    site.subscribers_only, site.token = True, secret
    monkeypatch.setenv("TWITCH_AUTH_TOKEN", secret)
    caplog.set_level("DEBUG")
    started = []
    real = subprocess.Popen

    class Watched(real):
        def __init__(self, command, *args, **options):
            started.append(list(map(str, command)))
            super().__init__(command, *args, **options)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    site.faults = {f"{LOW}/3.ts": [fault] * 2} if fault else {}
    expected = pytest.warns(HlkitWarning) if fault else monkeypatch.context()
    with expected as warned:
        assert is_whole(download("1234567", videos, progress=False))
    assert any("download" in command for command in started)
    shown = [" ".join(command) for command in started] + [caplog.text, *capfd.readouterr()]
    shown += [str(each.message) for each in warned] if fault else []
    files = [path.read_bytes() for path in videos.rglob("*") if path.is_file()]
    assert [text for text in shown if secret in text] == []
    assert [content for content in files if secret.encode() in content] == []


def test_a_token_in_an_error_is_blotted_out(monkeypatch):
    monkeypatch.setenv("TWITCH_AUTH_TOKEN", "s3cr3t")
    said = twitchdl._reason("Traceback x httpx.HTTPError: '404' for url 'https://a.org/b?sig=1&token=2' OAuth s3cr3t")
    assert said == "httpx.HTTPError: '404' for url 'https://a.org/b' OAuth ***"


def test_a_full_disk_is_noticed_before_the_download(site, videos, monkeypatch):
    monkeypatch.setattr(project, "free_disk", lambda path: 10_000_000)
    site.videos["1234567"]["lengthSeconds"] = 6 * 3600
    with pytest.raises(HlkitError, match=r"in 1080p60 needs about 38\.\d GB, and .* GB are missing .* lower quality"):
        download("1234567", videos, quality="source", progress=False)
    assert site.paths(f"/{SPECIAL}/.*") == []


def test_expected_sizes_are_those_of_a_long_stream():
    assert expected_bytes(360, 6 * 3600) == pytest.approx(1.7e9, rel=0.05)
    assert expected_bytes(1080, 6 * 3600) == pytest.approx(18.6e9, rel=0.05)


def test_the_newest_videos_of_a_channel(site):
    site.videos["7654321"] = TwitchSite.video("7654321", title="Saturday", lengthSeconds=7200)
    site.videos["7777777"] = TwitchSite.video("7777777", status="RECORDING")
    for source in ("streamer", "https://www.twitch.tv/streamer/videos"):
        table = list_videos(source, limit=5)
        assert table.columns == ["id", "title", "length", "published", "link"]
        assert table["id"].to_list() == ["1234567", "7654321"]
        link = "https://www.twitch.tv/videos/7654321"
        assert table.row(1) == ("7654321", "Saturday", 7200.0, "2026-01-02T12:00:00Z", link)
    assert list_videos("streamer", limit=1)["id"].to_list() == ["1234567"]
    with pytest.raises(HlkitError, match="Channel nobody not found"):
        list_videos("nobody", limit=5)
    with pytest.raises(HlkitError, match="Give 1 or more"):
        list_videos("streamer", limit=0)


def test_clips_made_during_the_stream():
    times = ["2026-01-02T11:59:59Z", "2026-01-02T12:20:00Z", "2026-01-02T12:00:00.5Z", "2026-01-02T12:20:01Z"]
    clips = [TwitchSite.clip(f"Clip{place}", time) for place, time in enumerate(times)]
    found = read_clips(clips, "2026-01-02T12:00:00Z", 600.0)
    assert [(clip["link"][-5:], clip["made"]) for clip in found] == [("Clip2", 0.5), ("Clip1", 1200.0)]


@pytest.mark.parametrize(
    ("days", "period"), [(0, "last_day"), (1, "last_week"), (6.9, "last_week"), (29, "last_month"), (30, "all_time")]
)
def test_the_period_reaches_back_to_the_stream(days, period):
    assert clips_period(timedelta(days=days)) == period


@pytest.mark.slow
def test_clips_that_do_not_come_are_a_warning(site, videos, monkeypatch):
    monkeypatch.setattr("hlkit.download.fetch_clips", lambda *_: twitchdl.run_twitch_dl(["clips"], cwd=videos))
    with pytest.warns(HlkitWarning, match="clips of .*1234567 are left out: twitch-dl failed with status 2"):
        download("1234567", videos, progress=False)
    assert "clips" not in json.loads((videos / "1234567.json").read_text())


def test_odd_facts():
    assert read_renditions({"videoQualities": None, "playlists": None}) == []
    sound = {"name": "Audio Only", "group_id": "audio_only", "resolution": None, "url": "u", "is_source": False}
    low = {"name": "160p", "group_id": "160p30", "resolution": None, "url": "u", "is_source": False}
    assert [each.names for each in read_renditions({"playlists": [sound, low]})] == [("160p30", "160p30", "160p")]
    about, length = read_facts({"owner": None, "chapters": None})
    assert about == {"title": "", "channel": None, "published": None, "chapters": []}
    assert length == 0.0


def test_twitch_dl_beside_this_python_is_found_without_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "bin" / "twitch-dl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    assert twitchdl._twitch_dl() == str(program)
    program.unlink()
    with pytest.raises(HlkitError, match="pip install twitch-dl"):
        twitchdl._twitch_dl()


def test_twitch_dl_gets_the_ffmpeg_that_hlkit_uses(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    find_ffmpeg.cache_clear()
    path = twitchdl._environment(tmp_path)["PATH"]
    assert Path(shutil.which("ffmpeg", path=path)).samefile(find_ffmpeg())
    find_ffmpeg.cache_clear()
