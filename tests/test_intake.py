"""The download stage with several sources, and the reel out of the source's pictures: what a user calls."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from recordings import make_numbered, read_number
from twitch_site import SPECIAL, TwitchSite, segment, twitch_site

from hlkit import stages, twitchdl
from hlkit.labels import write_labels
from hlkit.project import HlkitError, Project
from hlkit.video import open_container

SECONDS = 24


@pytest.fixture(scope="session")
def renditions(tmp_path_factory) -> Path:
    """Twitch's source has twice the pictures of its smallest rendition, and shows the same."""
    folder = tmp_path_factory.mktemp("stream")
    for group, rate, size in (("chunked", 20, 96), ("360p30", 10, 64)):
        make_doubled(folder / f"{group}.mp4", rate=rate, size=size)
        segment(folder / f"{group}.mp4", folder / group)
    return folder


def make_doubled(path, *, rate, size):
    import av
    import numpy as np
    from recordings import draw_number

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 2 * rate
        for place in range(SECONDS * rate):
            planes = np.full((size * 3 // 2, size), 128, np.uint8)
            planes[:size] = draw_number(place * 20 // rate, size, size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode(None))


@pytest.fixture
def site(renditions, tmp_path, monkeypatch):
    with twitch_site(Path(shutil.copytree(renditions, tmp_path / "site"))) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(twitchdl, "WAITS", (0.0,))
        running.groups.pop("720p60")
        running.videos["1234567"]["lengthSeconds"] = SECONDS
        yield running


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


def test_the_newest_of_a_channel_come(site, project):
    for video in ("2345678", "3456789"):
        site.videos[video] = TwitchSite.video(video, lengthSeconds=SECONDS)
    said = []
    words = {"limit": 2, "chat": False, "progress": False, "say": said.append}
    assert stages.download(project, "https://www.twitch.tv/streamer", **words) == ["1234567", "2345678"]
    assert project.video_ids() == ["1234567", "2345678"]
    again = stages.download(project, ["https://www.twitch.tv/streamer"], **words)
    assert again == ["1234567", "2345678"]
    assert said[2:] == ["1234567: download already done.", "2345678: download already done."]


def test_a_channel_is_listed(site):
    said = []
    site.videos["1234567"]["title"] = "Fri\x1bday\r\n"
    table = stages.channel("streamer", limit=3, say=said.append)
    assert table["id"].to_list() == ["1234567"]
    assert said == ["https://www.twitch.tv/videos/1234567   0:00:24  2026-01-02  Friday"]
    site.videos.clear()
    stages.channel("streamer", say=said.append)
    assert said[1:] == ["streamer has no videos."]


def test_a_folder_and_a_list_come_and_one_that_fails_keeps_none_away(project, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        make_numbered(tmp_path / "folder" / f"{name}.mp4", seconds=1)
    make_numbered(tmp_path / "c.mp4", seconds=1)
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    (tmp_path / "list.csv").write_text("link,id\nbroken.mp4,x\nc.mp4,sea\n")
    said = []
    with pytest.raises(HlkitError, match=r"1 of 4 recordings did not come, the first because: .*broken\.mp4 can't be"):
        stages.download(project, [tmp_path / "folder", tmp_path / "list.csv"], progress=False, say=said.append)
    assert project.video_ids() == ["a", "b", "sea"]
    assert sum("downloaded" in line for line in said) == 3
    assert any("broken.mp4" in line for line in said)
    with pytest.raises(HlkitError, match=r"a\.mp4' and '.*a\.mp4' would both get the id 'a'"):
        stages.download(project, [tmp_path / "folder", tmp_path / "folder" / "a.mp4"])
    with pytest.raises(HlkitError, match="fits one recording, not 2"):
        stages.download(project, tmp_path / "folder", video="x")


def numbers(video):
    with open_container(video) as (container, stream):
        return [read_number(frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


def test_a_stretch_of_a_vod_comes_by_itself(site, project, tmp_path):
    (tmp_path / "list.csv").write_text("link,start,end,label\nhttps://www.twitch.tv/videos/1234567,9,12,ace\n")
    (video,) = stages.download(project, tmp_path / "list.csv", progress=False, say=lambda line: None)
    assert video == "1234567_000009_000012"
    assert numbers(project.video(video)) == list(range(180, 240, 2))
    about = json.loads((project.videos / f"{video}.json").read_text())
    assert (about["title"], about["quality"], about["chapters"]) == ('Friday "ranked" ☕', "360p", [])
    fetched = {request.path for request in site.requests if request.path.endswith(".ts")}
    assert len(fetched) < SECONDS / 2
    assert not project.chat(video).exists()


def test_a_reel_of_a_vod_in_its_best_pictures(site, project):
    quiet = {"progress": False, "say": lambda line: None}
    stages.download(project, "1234567", chat=False, **quiet)
    before = len(site.paths(f"/{SPECIAL}/chunked/.*"))
    spans = pl.DataFrame({"video": ["1234567"], "start": [10.1], "end": [12.0], "label": ["highlight"]})
    write_labels(spans, project.reel("1234567", ".csv"))
    (reel,) = stages.reel(project, source="remote", **quiet)
    assert numbers(reel) == list(range(202, 240))
    fetched = site.paths(rf"/{SPECIAL}/chunked/\d+\.ts")
    assert (before, sorted(fetched)) == (0, [f"/{SPECIAL}/chunked/{number}.ts" for number in (4, 5, 6)])
    said = []
    stages.reel(project, source="remote", progress=False, say=said.append)
    assert said == ["1234567: reel already done."]
    stages.reel(project, **quiet)
    assert numbers(reel) == list(range(202, 240, 2))


def test_a_reel_of_a_vod_in_its_best_pictures_with_titles_and_fades(site, project):
    quiet = {"progress": False, "say": lambda line: None}
    stages.download(project, "1234567", chat=False, **quiet)
    times = {"start": [6.1, 14.1], "end": [9.0, 17.0]}
    spans = pl.DataFrame({"video": ["1234567"] * 2, **times, "label": ["highlight"] * 2})
    write_labels(spans, project.reel("1234567", ".csv"))
    (reel,) = stages.reel(project, source="remote", title="auto", fade_seconds=0.2, **quiet)
    shown = numbers(reel)
    assert len(shown) == 2 * 58 - 4
    # What lies between a title and a fade, in pictures of the source.
    assert shown[40:54] == list(range(162, 176))
    assert shown[94:] == list(range(322, 340))
    said = []
    stages.reel(project, source="remote", title="auto", fade_seconds=0.2, progress=False, say=said.append)
    assert said == ["1234567: reel already done."]


def test_a_recording_of_unknown_origin_has_no_remote_reel(project, tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=2)
    quiet = {"progress": False, "say": lambda line: None}
    stages.download(project, tmp_path / "a.mp4", **quiet)
    spans = pl.DataFrame({"video": ["a"], "start": [0.0], "end": [1.0], "label": ["highlight"]})
    write_labels(spans, project.reel("a", ".csv"))
    with pytest.raises(HlkitError, match="was a file on this computer: there is no larger source"):
        stages.reel(project, source="remote", **quiet)
    (project.videos / "a.json").write_text(json.dumps({}))
    with pytest.raises(HlkitError, match="Where 'a' came from is not known"):
        stages.reel(project, source="remote", **quiet)
