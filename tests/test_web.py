"""yt-dlp against a web site on loopback: files, playlists of segments, feeds, faults and kills."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from recordings import make_numbered
from twitch_site import segment
from web_site import web_site

from hlkit import project, tries, web
from hlkit.download import download, list_videos
from hlkit.project import HlkitError
from hlkit.video import probe
from hlkit.web import pick_formats, read_formats, read_web_facts

SECONDS = 12
SIZES = {"low": (64, 48, "640x360"), "middle": (96, 72, "1280x720"), "high": (128, 96, "1920x1080")}


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    lines = ["#EXTM3U"]
    for place, (name, (width, height, stated)) in enumerate(SIZES.items()):
        make_numbered(folder / f"{name}.mp4", seconds=SECONDS, fps=10, gop=20, width=width, height=height, sound=True)
        segment(folder / f"{name}.mp4", folder / name)
        codecs = f'BANDWIDTH={1000 << place},RESOLUTION={stated},CODECS="avc1.64001e,mp4a.40.2",FRAME-RATE=30'
        lines += [f"#EXT-X-STREAM-INF:{codecs}", f"{name}/index-dvr.m3u8"]
    (folder / "all.m3u8").write_text("\n".join(lines) + "\n")
    (folder / "page.html").write_text(
        "<html><title>Saturday $(touch /tmp/x) --exec</title><video src='low.mp4'></video></html>"
    )
    return folder


@pytest.fixture
def site(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "WAITS", (0.0,) * 4)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with web_site(Path(shutil.copytree(pages, tmp_path / "site"))) as running:
        yield running


@pytest.fixture
def videos(tmp_path):
    return tmp_path / "videos"


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_on_the_web(site, videos, capfd):
    video = download(f"{site.url}/low.mp4", videos, video_id="a")
    assert video == videos / "a.mp4"
    assert video.read_bytes() == (site.folder / "low.mp4").read_bytes()
    about = json.loads((videos / "a.json").read_text())
    assert about["source"] == f"{site.url}/low.mp4"
    assert (about["title"], about["length"], about["chapters"]) == ("low", probe(video).duration, [])
    assert left(videos) == ["a.json", "a.mp4"]
    out, err = capfd.readouterr()
    assert out == ""
    assert "a: 100%" in err
    assert "B/s" in err


def test_the_video_of_a_page_and_its_title(site, videos):
    video = download(f"{site.url}/page.html", videos, progress=False)
    assert video.read_bytes() == (site.folder / "low.mp4").read_bytes()
    assert json.loads(video.with_suffix(".json").read_text())["title"].startswith("Saturday $(touch /tmp/x) --exec")
    assert video.stem.startswith("page-")


@pytest.mark.parametrize(("quality", "name"), [("analysis", "low"), ("source", "high"), ("720p", "middle")])
def test_the_wanted_quality_of_a_playlist(site, videos, quality, name):
    video = download(f"{site.url}/all.m3u8", videos, video_id="a", quality=quality, progress=False)
    info = probe(video)
    assert (info.width, info.height) == SIZES[name][:2]
    assert info.duration == pytest.approx(SECONDS, abs=0.1)
    assert json.loads((videos / "a.json").read_text())["quality"] == f"{SIZES[name][2].split('x')[1]}p"
    assert not [path for other in set(SIZES) - {name} for path in site.sent if path.startswith(f"/{other}/0")]


def test_a_quality_that_is_not_offered(site, videos):
    with pytest.raises(HlkitError, match=r"Quality '480p' is not offered\. This video has: .*360p"):
        download(f"{site.url}/all.m3u8", videos, quality="480p", progress=False)


def test_pictures_that_nothing_here_decodes_do_not_stay(site, videos):
    content = (site.folder / "low.mp4").read_bytes()
    (site.folder / "odd.mp4").write_bytes(content.replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    with pytest.raises(HlkitError, match=r"can't be decoded"):
        download(f"{site.url}/odd.mp4", videos, progress=False)
    assert left(videos) == []


@pytest.mark.parametrize("fault", [503, "short"])
def test_a_file_that_breaks_off_goes_on(site, videos, fault):
    site.faults = {"/low.mp4": [fault, fault]}
    video = download(f"{site.url}/low.mp4", videos, progress=False)
    assert video.read_bytes() == (site.folder / "low.mp4").read_bytes()


def test_a_missing_segment_is_an_error_and_a_second_run_goes_on(site, videos):
    site.faults = {"/low/3.ts": [503] * 50}
    with pytest.raises(HlkitError, match=r"all\.m3u8 can't be downloaded\. yt-dlp says: .*503"):
        download(f"{site.url}/all.m3u8", videos, video_id="a", progress=False)
    assert not (videos / "a.mp4").exists()
    site.faults = {}
    assert probe(download(f"{site.url}/all.m3u8", videos, video_id="a", progress=False)).duration > SECONDS - 0.1
    assert [path for path, _ in site.asked].count("/low/1.ts") == 1


def test_a_killed_download_goes_on_where_it_stopped(site, videos):
    release = threading.Event()
    site.faults = {"/low/4.ts": [release]}
    script = (
        "import sys; from pathlib import Path; from hlkit.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), video_id='a')"
    )
    words = [sys.executable, "-c", script, f"{site.url}/all.m3u8", str(videos)]
    run = subprocess.Popen(words, stderr=subprocess.PIPE)
    assert site.busy.wait(20), run.stderr.read()
    children = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert not (videos / "a.mp4").exists()
    release.set()
    assert probe(download(f"{site.url}/all.m3u8", videos, video_id="a", progress=False)).duration > SECONDS - 0.1
    fetched = [path for path, _ in site.asked if path.startswith("/low/") and path.endswith(".ts")]
    assert sorted(set(fetched)) == [f"/low/{number}.ts" for number in range(6)]
    assert len(fetched) <= 8, "the segment under way and the one before may come twice"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing.mp4", r"can't be downloaded\. yt-dlp says: .*404"),
        ("plain.html", r"can't be downloaded\. yt-dlp says: .*Unsupported URL"),
    ],
)
def test_what_is_no_video(site, videos, path, says):
    (site.folder / "plain.html").write_text("<html><title>x</title>nothing</html>")
    with pytest.raises(HlkitError, match=says) as caught:
        download(f"{site.url}/{path}?signature=s3cr3t", videos, video_id="a", progress=False)
    assert "report this issue" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value).split("yt-dlp says")[1]
    assert left(videos) == []


def test_a_page_that_yt_dlp_misreads_is_one_sentence(monkeypatch):
    """Its readers of pages raise whatever a missing part leads to, for a removed video as for a new design."""
    monkeypatch.setattr(web, "WAITS", (0.0,))
    with pytest.raises(
        HlkitError, match=r"a\.org/v can't be downloaded\. yt-dlp says: IndexError: list index"
    ) as caught:
        web._failing_plainly(lambda: [][0], "https://a.org/v")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_no_network_is_said_in_plain_words(videos, monkeypatch):
    monkeypatch.setattr(web, "WAITS", (0.0,))
    with pytest.raises(HlkitError, match=r"Is this computer connected to the internet\?$"):
        download("http://127.0.0.1:1/a.mp4", videos, progress=False)


def test_a_refused_connection_is_tried_again_aloud_and_not_for_long(videos, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(tries.time, "sleep", waits.append)
    with pytest.raises(HlkitError, match="Connection refused"):
        download("http://127.0.0.1:1/a.mp4", videos, progress=False)
    assert waits == [2.0, 5.0]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split("connected to the internet? ")[1] for line in told] == [
        "Trying again in 2 s (try 2 of 3).",
        "Trying again in 5 s (try 3 of 3).",
    ]
    assert all(line.startswith("http://127.0.0.1:1/a.mp4 can't be downloaded. yt-dlp says: ") for line in told)


def test_what_yt_dlp_tries_again_by_itself_is_told_too(site, videos, monkeypatch, caplog):
    monkeypatch.setattr(web, "WAITS", (0.0, 0.001, 0.002))
    site.faults = {"/low/3.ts": [503, 503]}
    download(f"{site.url}/all.m3u8", videos, video_id="a", progress=False)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "HTTP Error 503: Service Unavailable. Trying again in 0 s (try 2 of 4).",
        "HTTP Error 503: Service Unavailable. Trying again in 0.001 s (try 3 of 4).",
    ]


def test_the_users_own_settings_of_yt_dlp_are_not_read(site, videos, tmp_path, monkeypatch):
    """Its command would read them from here, write the title into the name, and run a program."""
    settings = tmp_path / "home" / ".config" / "yt-dlp"
    settings.mkdir(parents=True)
    (settings / "config").write_text(f"--exec 'touch {tmp_path}/ran'\n--write-info-json\n-o %(title)s.mp4\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings.parent))
    download(f"{site.url}/low.mp4", videos, video_id="a", progress=False)
    assert left(videos) == ["a.json", "a.mp4"]
    assert not (tmp_path / "ran").exists()
    assert left(tmp_path / "home") == [".config/yt-dlp/config"]


def feed(url, *names):
    items = "".join(f"<item><title>{name} ☕</title><link>{url}/{name}.mp4</link></item>" for name in names)
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>All</title>{items}</channel></rss>'


def test_a_feed_is_listed(site):
    (site.folder / "feed.rss").write_text(feed(site.url, "low", "middle", "high"))
    table = list_videos(f"{site.url}/feed.rss", limit=2)
    assert table["title"].to_list() == ["low ☕", "middle ☕"]
    assert table["link"].to_list() == [f"{site.url}/low.mp4", f"{site.url}/middle.mp4"]
    with pytest.raises(HlkitError, match="is not a list of videos"):
        list_videos(f"{site.url}/low.mp4", limit=2)
    with pytest.raises(HlkitError, match=r"holds 3 videos\. Give the link of one"):
        web.web_facts(f"{site.url}/feed.rss")


def test_a_full_disk_is_noticed_before_the_download(site, videos, monkeypatch):
    monkeypatch.setattr(project, "free_disk", lambda path: 0)
    with pytest.raises(HlkitError, match=r"in source needs about .* GB are missing"):
        download(f"{site.url}/low.mp4", videos, progress=False)
    assert [path for path, _ in site.asked].count("/low.mp4") == 1, "a look, and no download"


def form(name, **facts):
    return {
        "format_id": name,
        "protocol": "https",
        "ext": "mp4",
        "url": name,
        "vcodec": "avc1",
        "acodec": "mp4a",
    } | facts


YOUTUBE = {
    "formats": [
        form("board", protocol="mhtml", vcodec="none", acodec="none"),
        form("sound-webm", vcodec="none", acodec="opus", ext="webm", abr=160),
        form("sound-m4a", vcodec="none", acodec="mp4a", ext="m4a", abr=128),
        form("low-vp9", height=360, fps=30, vcodec="vp9", acodec="none", ext="webm", tbr=200),
        form("low-both", height=360, fps=30, tbr=500),
        form("low-h264", height=360, fps=30, acodec="none", tbr=400),
        form("high-av1", height=1080, fps=60, vcodec="av01", acodec="none", tbr=2000),
        form("high-h264", height=1080, fps=60, acodec="none", tbr=4000),
        form("higher-vp9", height=1440, fps=60, vcodec="vp9", acodec="none", ext="webm", tbr=9000),
    ]
}


@pytest.mark.parametrize(
    ("quality", "name", "formats"),
    [
        ("analysis", "360p", ["low-h264", "sound-m4a"]),
        ("360p", "360p", ["low-both"]),
        ("1080p60", "1080p60", ["high-h264", "sound-m4a"]),
        ("source", "1440p60", ["higher-vp9", "sound-webm"]),
    ],
)
def test_which_formats_are_taken(quality, name, formats):
    found, picked = pick_formats(YOUTUBE, quality)
    assert (found, [each["format_id"] for each in picked]) == (name, formats)


def test_formats_that_tell_nothing():
    assert [each.names for each in read_formats({"formats": [{"format_id": "0", "url": "u"}]})] == [("source",)]
    assert read_formats({"formats": None}) == []


def test_facts():
    chapters = [{"start_time": 0, "end_time": 5, "title": "Apex"}, {"start_time": 5, "end_time": None, "title": "x"}]
    about = read_web_facts({"title": "T", "uploader_id": "@me", "upload_date": "20260102", "chapters": chapters})
    expected = {"title": "T", "channel": "@me", "published": "2026-01-02"}
    assert about == expected | {"chapters": [{"start": 0.0, "end": 5.0, "title": "Apex"}]}
    assert read_web_facts({"timestamp": 0, "upload_date": "19700101"})["published"] == "1970-01-01"
    assert read_web_facts({"timestamp": 1})["published"] == "1970-01-01T00:00:01Z"
