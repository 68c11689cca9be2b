"""Stretches of recordings in place of all of them: what a list names, from a web site on loopback and from files."""

import json
import shutil
from pathlib import Path

import ffmpeg
import pytest
from recordings import make_numbered, read_number
from twitch_site import segment
from web_site import web_site

from hlkit import segments, stages, web
from hlkit.labels import read_labels
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.remote import download_stretch
from hlkit.video import open_container, probe, run_ffmpeg

FPS, SECONDS = 10, 60


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """A minute whose picture `i` shows `i`: as a file, as a playlist, and with a clock that begins late."""
    folder = tmp_path_factory.mktemp("pages")
    make_numbered(folder / "all.mp4", seconds=SECONDS, fps=FPS, gop=20, width=320, height=320, sound=True)
    segment(folder / "all.mp4", folder / "hls", seconds=4)
    node = ffmpeg.input(str(folder / "all.mp4")).output(str(folder / "late.mkv"), c="copy", output_ts_offset=7)
    run_ffmpeg(node, progress=False)
    return folder


@pytest.fixture
def site(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "WAITS", (0.0,))
    monkeypatch.setattr(segments, "WAITS", ())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with web_site(Path(shutil.copytree(pages, tmp_path / "site"))) as running:
        yield running


def numbers(video):
    with open_container(video) as (container, stream):
        return [read_number(frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


@pytest.mark.parametrize("name", ["all.mp4", "late.mkv", "hls/index-dvr.m3u8"])
def test_a_stretch_comes_by_itself_exact_to_the_picture(site, tmp_path, name):
    video = download_stretch(
        f"{site.url}/{name}", tmp_path / "videos", start=30.5, end=33.5, video_id="a", progress=False
    )
    assert numbers(video) == list(range(305, 335))
    assert probe(video).has_audio
    about = json.loads(video.with_suffix(".json").read_text())
    assert (about["stretch_of"], about["start"], about["end"]) == (f"{site.url}/{name}", 30.5, 33.5)
    assert "source" not in about, "times of the stretch are not those of the source"
    assert about["length"] == probe(video).duration
    assert sorted(path.name for path in video.parent.iterdir()) == ["a.json", "a.mp4"]
    if name.startswith("hls"):
        assert sorted(path for path in site.sent if path.endswith(".ts")) == [f"/hls/{n}.ts" for n in (0, 7, 8)]


def test_of_a_large_file_little_is_fetched(tmp_path, monkeypatch):
    """A real client asks for the bytes from a place on and hangs up when it has enough."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "site").mkdir()
    # Noise, so that a second takes 3 Mbit, as a real video's does.
    noise = ffmpeg.input("nullsrc=s=320x240:r=10:d=90,geq=random(1)*255:128:128", format="lavfi")
    options = {"vcodec": "libx264", "preset": "ultrafast", "g": 20, "crf": 28, "pix_fmt": "yuv420p"}
    run_ffmpeg(noise.output(str(tmp_path / "site" / "a.mp4"), movflags="+faststart", **options), progress=False)
    with web_site(tmp_path / "site") as site:
        download_stretch(f"{site.url}/a.mp4", tmp_path, start=60, end=62, video_id="a", progress=False)
        asked = [wanted for path, wanted in site.asked if path == "/a.mp4" and wanted]
    size = (tmp_path / "site" / "a.mp4").stat().st_size
    assert max(int(each.removeprefix("bytes=").partition("-")[0]) for each in asked) > 0.5 * size


def test_what_lies_behind_the_end_is_left_out_or_refused(site, tmp_path):
    options = {"video_id": "a", "progress": False}
    for name in ("all.mp4", "late.mkv", "hls/index-dvr.m3u8"):
        video = download_stretch(f"{site.url}/{name}", tmp_path / "videos", start=58, end=66, **options)
        assert numbers(video) == list(range(580, 600))
        with pytest.raises(HlkitError, match=r"lies behind the .*'s end, 0:01:00"):
            download_stretch(f"{site.url}/{name}", tmp_path / "videos", start=61, end=66, **options)
    with pytest.raises(
        HlkitError, match=r"0:00:01\.000 to 0:00:01\.010 is shorter than a picture, which lasts 0\.100 s"
    ):
        download_stretch(tmp_path / "site" / "all.mp4", tmp_path, start=1, end=1.01, **options)
    with pytest.raises(HlkitError, match="can't be a video's id"):
        download_stretch(tmp_path / "site" / "all.mp4", tmp_path, start=1, end=2, video_id="../a")


def test_a_recording_that_breaks_off_is_not_taken_for_whole(site, tmp_path):
    content = (site.folder / "all.mp4").read_bytes()
    (site.folder / "broken.mp4").write_bytes(content[: len(content) // 2])
    # The index stands at the end of this one, so without it nothing can be read at all; in front, half of it can.
    node = ffmpeg.input(str(site.folder / "all.mp4")).output(
        str(site.folder / "front.mp4"), c="copy", movflags="+faststart"
    )
    run_ffmpeg(node, progress=False)
    content = (site.folder / "front.mp4").read_bytes()
    (site.folder / "front.mp4").write_bytes(content[: len(content) // 2])
    for name in ("broken.mp4", "front.mp4"):
        with pytest.raises(HlkitError):
            download_stretch(f"{site.url}/{name}", tmp_path / "videos", start=40, end=50, video_id="a", progress=False)
        assert not (tmp_path / "videos" / "a.mp4").exists()


def write_list(path, *rows):
    path.write_text("\n".join(["label,link,time_start,time_end,split", *rows]) + "\n")
    return path


def test_a_list_of_stretches_comes_with_its_labels_and_what_is_gone_is_told(site, tmp_path):
    project, said = Project(tmp_path / "project"), []
    rows = [f"dancing,{site.url}/all.mp4,10,12,train", f"golf,{site.url}/gone.mp4,3,5,train"]
    rows += [f"golf,{tmp_path / 'site' / 'late.mkv'},20,22.5,train"]
    wanted = write_list(tmp_path / "train.csv", *rows)
    with pytest.warns(HlkitWarning, match=r"1 of 3 recordings did not come, the first because: .*404"):
        videos = stages.download(project, wanted, progress=False, say=said.append)
    assert [video.partition("_")[2] for video in videos] == ["000010_000012", "000020_000022.500"]
    assert [line for line in said if "gone" in line and "404" in line]
    assert [numbers(project.video(video))[0] for video in videos] == [100, 200]
    spans = [read_labels(project.labels(video)).rows()[0] for video in videos]
    assert [span[1:4] for span in spans] == [(0.0, 2.0, "dancing"), (0.0, 2.5, "golf")]
    assert {span[4] for span in spans} == {"import:train.csv"}
    said.clear()
    with pytest.warns(HlkitWarning):
        assert stages.download(project, wanted, progress=False, say=said.append) == videos
    assert sum("download already done" in line for line in said) == 2
    # A label that was corrected in the list is corrected here; one that was corrected here stays.
    write_list(tmp_path / "train.csv", rows[0].replace("dancing", "ballet"), rows[2])
    stages.download(project, wanted, progress=False, say=said.append)
    assert read_labels(project.labels(videos[0]))["label"].to_list() == ["ballet"]


def test_only_some_classes_of_a_list(site, tmp_path):
    project = Project(tmp_path / "project")
    rows = [f"{label},{tmp_path / 'site' / 'all.mp4'},{n},{n + 1},train" for n, label in enumerate("abab")]
    wanted = write_list(tmp_path / "train.csv", *rows)
    videos = stages.download(project, wanted, classes=["b"], progress=False, say=lambda line: None)
    assert videos == ["all_000001_000002", "all_000003_000004"]
    with pytest.raises(HlkitError, match=r"labelled c\. Their labels are: a, b\."):
        stages.download(project, wanted, classes=["b", "c"])


def test_spreadsheets_write_background_with_a_capital(site, tmp_path):
    project = Project(tmp_path / "project")
    wanted = write_list(tmp_path / "train.csv", f"Background,{tmp_path / 'site' / 'all.mp4'},1,2,train")
    (video,) = stages.download(project, wanted, progress=False, say=lambda line: None)
    assert read_labels(project.labels(video))["label"].to_list() == ["background"]


def test_a_list_of_which_nothing_comes_is_an_error(site, tmp_path):
    rows = [f"golf,{site.url}/gone{number}.mp4,3,5,train" for number in range(2)]
    with pytest.raises(HlkitError, match="2 of 2 recordings did not come"):
        stages.download(Project(tmp_path), write_list(tmp_path / "l.csv", *rows), progress=False, say=lambda line: None)


def test_many_recordings_have_one_line(site, tmp_path, capfd):
    project, said = Project(tmp_path / "project"), []
    rows = [f"a,{tmp_path / 'site' / 'all.mp4'},{n},{n + 0.5},train" for n in range(21)]
    stages.download(project, write_list(tmp_path / "l.csv", *rows), say=said.append)
    stages.frames(project, fps="2", size=16, say=said.append)
    assert said == ["21 of 21 recordings are here.", "21 videos: frames of 16 px, 2 a second."]
    assert "download: 100%" in capfd.readouterr().err
    stages.frames(project, fps="2", size=16, progress=False, say=said.append)
    assert said[-1] == "21 videos: frames of 16 px, 2 a second (21 already done)."
