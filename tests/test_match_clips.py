"""Labels from the clips that viewers made of a VOD, from the download on, against a stand-in for Twitch."""

import shutil

import polars as pl
import pytest
from test_matching import OTHER, STREAM, edit
from twitch_site import segment, twitch_site

from hlkit import stages, twitchdl
from hlkit.labels import read_labels
from hlkit.project import HlkitError, HlkitWarning, Project

pytestmark = pytest.mark.slow

VOD = "1234567"
# What the clips show of the stream (s), when each was made, and how often it was seen. Viewers clip at any moment.
CLIPS = {
    "BraveWin-a_1": ((50.0, 62.0), "2026-01-02T12:01:04Z", 40),
    "OddJump-b_2": ((120.3, 133.8), "2026-01-02T12:02:20Z", 900),
    "LastStand-c_3": ((301.0, 316.4), "2026-01-02T12:09:00Z", 7),
}
FOREIGN, GONE = "NotHere-d_4", "DeletedSince-e_5"


def quiet(line):
    """Take a line and say nothing."""


@pytest.fixture(scope="module")
def renditions(tmp_path_factory):
    """The demo recording as a VOD in two qualities, and clips of it as Twitch encodes them: another rate and size."""
    folder = tmp_path_factory.mktemp("vod")
    for group in ("chunked", "360p30"):
        segment(STREAM, folder / group, seconds=10)
    (folder / "clips").mkdir()
    for slug, ((start, end), _, _) in CLIPS.items():
        edit(folder / "clips" / f"{slug}.mp4", (STREAM, start, end), fps=30)
    edit(folder / "clips" / f"{FOREIGN}.mp4", (OTHER, 60, 72), fps=30)
    return folder


@pytest.fixture
def site(renditions, tmp_path, monkeypatch):
    folder = shutil.copytree(renditions, tmp_path / "site")
    with twitch_site(folder) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setattr(twitchdl, "WAITS", (0.0,))
        running.videos = {VOD: running.video(VOD, lengthSeconds=360)}
        running.groups.pop("720p60")
        made = {slug: (end - start, when, views) for slug, ((start, end), when, views) in CLIPS.items()}
        made |= {FOREIGN: (12.0, "2026-01-02T12:03:00Z", 20), GONE: (12.0, "2026-01-02T12:04:00Z", 90)}
        made["OfAnotherStream-f_6"] = (12.0, "2026-01-01T20:00:00Z", 5000)
        running.clips = [
            running.clip(slug, when, durationSeconds=round(seconds), viewCount=views)
            for slug, (seconds, when, views) in made.items()
        ]
        yield running


def take_away(site, *slugs):
    """Delete clips, as their makers and streamers may, after the VOD's list of them was kept."""
    site.clips = [clip for clip in site.clips if clip["slug"] not in slugs]


def test_clips_of_a_vod_are_downloaded_found_in_it_and_become_labels(site, tmp_path):
    project = Project(tmp_path / "project")
    stages.download(project, f"https://www.twitch.tv/videos/{VOD}", chat=False, progress=False, say=quiet)
    mine = pl.DataFrame({"video": [VOD], "start": [305.0], "end": [308.0], "label": ["highlight"]})
    stages.label_spans(project, mine, video=VOD, origin="hand", say=quiet)
    take_away(site, GONE)
    said = []
    with pytest.warns(HlkitWarning, match=f"The clip https://clips.twitch.tv/{GONE} is left out: "):
        found = stages.match_clips(project, video=VOD, progress=False, say=said.append)
    # The most seen first; what was made of another stream is not fetched at all.
    assert [line.partition(" shows ")[0] for line in said[:4]] == [
        f"{VOD}: {slug}.mp4" for slug in ("OddJump-b_2", "BraveWin-a_1", FOREIGN, "LastStand-c_3")
    ]
    assert said[2].endswith("shows nothing of it.")
    assert site.paths("/clips/OfAnotherStream.*") == []
    near = sorted(found.select("start", "end").rows())
    assert near == [pytest.approx(span, abs=0.5) for span, *_ in CLIPS.values()]

    labels = read_labels(project.labels(VOD), video=VOD)
    shown = labels.filter(pl.col("label") == "highlight").select("start", "end", "origin").rows()
    expected = [
        (50.0, 62.0, "clip:BraveWin-a_1"),
        (120.3, 133.8, "clip:OddJump-b_2"),
        (301.0, 305.0, "clip:LastStand-c_3"),
        (305.0, 308.0, "hand"),
        (308.0, 316.4, "clip:LastStand-c_3"),
    ]
    assert [span[2] for span in shown] == [span[2] for span in expected]
    assert [span[:2] for span in shown] == [pytest.approx(span[:2], abs=0.5) for span in expected]
    # Half a minute around each was seen by who made it; of the rest nobody says anything.
    rest = labels.filter(pl.col("label") == "background")
    around = [(20, 50), (62, 92), (90.3, 120.3), (133.8, 163.8), (271, 301), (316.4, 346.4)]
    around[1:3] = [(62, 120.3)]
    assert rest.select("start", "end").rows() == [pytest.approx(span, abs=0.5) for span in around]
    assert set(rest["origin"]) == {"clips"}

    before, again = project.labels(VOD).read_bytes(), []
    with pytest.warns(HlkitWarning, match="is left out"):
        stages.match_clips(project, video=VOD, progress=False, say=again.append)
    assert again == [f"{VOD}: match already done."]
    assert project.labels(VOD).read_bytes() == before


def test_clips_that_are_all_gone_and_none_at_all_are_told(site, tmp_path):
    project = Project(tmp_path / "project")
    stages.download(project, VOD, chat=False, progress=False, say=quiet)
    take_away(site, *CLIPS, FOREIGN, GONE)
    with pytest.warns(HlkitWarning), pytest.raises(HlkitError, match="None of the 5 clips of '1234567' can be had"):
        stages.match_clips(project, video=VOD, progress=False, say=quiet)
    assert not project.labels(VOD).exists()
    stages.download(project, VOD, chat=False, redo=True, progress=False, say=quiet)
    said = []
    assert stages.match_clips(project, video=VOD, say=said.append).is_empty()
    assert said == ["1234567: no clips were made of it."]
