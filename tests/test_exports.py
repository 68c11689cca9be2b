"""Every export is read back by its own library or parser, with times exact to the picture; then the stage."""

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as Xml
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import opentimelineio as otio
import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from recordings import make_numbered
from yt_dlp.extractor.twitch import TwitchVodIE
from yt_dlp.extractor.youtube import YoutubeIE
from yt_dlp.utils import parse_duration

from hlkit import stages
from hlkit.cutlist import CutList, Excerpt, make_cut_list, one_line
from hlkit.editors import LeftOutError, to_edl, to_fcpxml, to_losslesscut, to_otio, to_resolve
from hlkit.exports import (
    EXPORT_KINDS,
    reel_captions,
    reel_chapters,
    stream_captions,
    stream_chapters,
    twitch_links,
    write_exports,
    youtube_links,
)
from hlkit.labels import read_labels, write_labels
from hlkit.mp4 import count_pictures
from hlkit.project import HlkitError, Project
from hlkit.reel import plan_cuts
from hlkit.sources import Source
from hlkit.video import VideoInfo, probe

NTSC_60, FILM, THIRTY = Fraction(60000, 1001), Fraction(24000, 1001), Fraction(30)
RATES = (NTSC_60, FILM, THIRTY, Fraction(30000, 1001), Fraction(24), Fraction(25), Fraction(50), Fraction(60))
HOSTILE = """a "b", 'c' & <d> | e/f\\g; 100 % #1 ]]> 🎮👩‍👩‍👧 ünï"""
SIX_HOURS = 6 * 3600


def cut_list(*borders, rate=NTSC_60, names=None, seconds=SIX_HOURS, **changes):
    """Excerpts between each two of `borders`, in pictures."""
    pairs = list(zip(borders[::2], borders[1::2], strict=True))
    names = names or [f"highlight {number}" for number in range(1, len(pairs) + 1)]
    excerpts = tuple(
        Excerpt(first, stop, name, 0.5 if number % 2 else None)
        for number, ((first, stop), name) in enumerate(zip(pairs, names, strict=True))
    )
    facts = {"recording": Path("/some where/rec 1.mp4"), "title": "A title", "width": 1920, "height": 1080}
    facts |= {"has_audio": True, "source": Source("vod", "1234567890")}
    return CutList(rate=rate, pictures=int(seconds * rate), excerpts=excerpts, **(facts | changes))


@st.composite
def cut_lists(draw):
    """One to twelve excerpts anywhere in six hours, some of them touching, at any rate of cameras and games."""
    rate = draw(st.sampled_from(RATES))
    last = int(SIX_HOURS * rate)
    stops = draw(st.sets(st.integers(0, last), min_size=2, max_size=24).map(sorted))
    names = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: one_line(text) or "x")
    count = len(stops) // 2
    names = draw(st.lists(names, min_size=count, max_size=count))
    return cut_list(*stops[: count * 2], rate=rate, names=names, has_audio=draw(st.booleans()))


def frames(time_range):
    """A range of OpenTimelineIO in pictures, which must be whole."""
    start, stop = time_range.start_time, time_range.end_time_exclusive()
    assert start.value == int(start.value) and stop.value == int(stop.value)
    return int(start.value), int(stop.value)


def borders_of(cuts):
    return [(each.first, each.stop) for each in cuts.excerpts]


def reel_borders(cuts):
    return list(pairwise(accumulate((each.count for each in cuts.excerpts), initial=0)))


# --- video editors ---


@given(cut_lists())
def test_opentimelineio_reads_every_border_name_and_score(cuts):
    timeline = otio.adapters.read_from_string(to_otio(cuts), "otio_json")
    assert [track.kind for track in timeline.tracks] == ["Video", "Audio"][: 1 + cuts.has_audio]
    for track in timeline.tracks:
        assert [frames(clip.source_range) for clip in track] == borders_of(cuts)
        assert [frames(clip.range_in_parent()) for clip in track] == reel_borders(cuts)
        assert [clip.name for clip in track] == [each.name for each in cuts.excerpts]
        assert {clip.source_range.start_time.rate for clip in track} == {float(cuts.rate)}
        # The rate is a float, so seconds are exact to a few millionths of a picture.
        seconds = [clip.source_range.start_time.to_seconds() for clip in track]
        assert [float(each.first / cuts.rate) for each in cuts.excerpts] == pytest.approx(seconds, abs=1e-7)
        media = {clip.media_reference.target_url for clip in track}
        assert media == {"file:///some%20where/rec%201.mp4"}
        assert {frames(clip.media_reference.available_range) for clip in track} == {(0, cuts.pictures)}
    markers = [clip.markers[0] for clip in timeline.tracks[0]]
    assert [frames(marker.marked_range)[0] for marker in markers] == [each.first for each in cuts.excerpts]
    assert [marker.metadata["hlkit"]["score"] for marker in markers] == [each.score for each in cuts.excerpts]
    assert [marker.name for marker in markers] == [each.caption for each in cuts.excerpts]


def time(text):
    """An FCPXML time, exactly."""
    return Fraction(text.removesuffix("s"))


@given(cut_lists())
def test_fcpxml_states_every_time_exactly_on_picture_borders(cuts):
    root = Xml.fromstring(to_fcpxml(cuts))
    resources, sequence = root.find("resources"), root.find("library/event/project/sequence")
    form, asset = resources.find("format"), resources.find("asset")
    assert time(form.get("frameDuration")) == 1 / cuts.rate
    assert (form.get("width"), form.get("height")) == ("1920", "1080")
    assert (asset.get("hasVideo"), asset.get("hasAudio")) == ("1", str(int(cuts.has_audio)))
    assert time(asset.get("duration")) * cuts.rate == cuts.pictures
    assert time(sequence.get("duration")) * cuts.rate == cuts.reel_pictures
    clips = sequence.findall("spine/asset-clip")
    assert len(clips) == len(sequence.find("spine")) == len(cuts.excerpts)
    for clip, each, (begin, end) in zip(clips, cuts.excerpts, reel_borders(cuts), strict=True):
        starts = [time(clip.get(name)) * cuts.rate for name in ("start", "offset", "duration")]
        assert starts == [each.first, begin, end - begin]
        assert (clip.get("ref"), clip.get("format")) == (asset.get("id"), form.get("id"))
        assert clip.get("name") == each.name
        (marker,) = clip
        assert (time(marker.get("start")) * cuts.rate, marker.get("value")) == (each.first, each.caption)


def fcpxml_adapter_reads(*texts):
    """The timelines that the adapter makes of FCPXML.

    Its reader builds objects with nested metadata, at which OpenTimelineIO 0.18 may abort when Python ends ("the
    function must be called with the GIL held"); so it reads in a process of its own, which ends without that.
    """
    program = (
        "import json, os, sys, opentimelineio as otio\n"
        "read = [otio.adapters.read_from_string(text, 'fcpx_xml') for text in json.load(sys.stdin)]\n"
        "print(json.dumps([otio.adapters.write_to_string(each[0], 'otio_json') for each in read]), flush=True)\n"
        "os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    return [otio.adapters.read_from_string(text, "otio_json") for text in json.loads(done.stdout)]


def test_the_fcpxml_adapter_reads_it_back():
    """The adapter itself rounds rates down to whole numbers (59 for 59.94), and times to pictures of these."""
    lists = [cut_list(0, 7, 100, 700, 5000, 5601, 99_001, 100_307, rate=rate) for rate in RATES]
    for cuts, timeline in zip(lists, fcpxml_adapter_reads(*map(to_fcpxml, lists)), strict=True):
        clips = [clip for clip in timeline.tracks[0] if isinstance(clip, otio.schema.Clip)]
        assert [clip.name for clip in clips] == [each.name for each in cuts.excerpts]
        assert {clip.media_reference.target_url for clip in clips} == {"file:///some%20where/rec%201.mp4"}
        assert [clip.markers[0].name for clip in clips] == [each.caption for each in cuts.excerpts]
        coarse = int(cuts.rate)
        for clip, each in zip(clips, cuts.excerpts, strict=True):
            begin, length = clip.source_range.start_time, clip.source_range.duration
            assert begin.rate == coarse
            assert -1 <= begin.value - each.first / cuts.rate * coarse <= 0
            assert -1 <= length.value - each.count / cuts.rate * coarse <= 0


def time_base(cuts):
    return round(cuts.rate)


@given(cut_lists())
@example(cut_list(0, 1, 59, 60, 3599, 3600, 215_999, 216_000))
def test_the_edl_adapter_reads_every_border_back(cuts):
    text = to_edl(cuts)
    assert text.splitlines()[1] == "FCM: NON-DROP FRAME"
    assert ";" not in re.sub(r"^\*.*|^TITLE.*", "", text, flags=re.MULTILINE)
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=time_base(cuts))
    assert [track.kind for track in timeline.tracks] == ["Video", "Audio", "Audio"][: 3 if cuts.has_audio else 1]
    for track in timeline.tracks:
        assert [frames(clip.source_range) for clip in track] == borders_of(cuts)
        assert [frames(clip.range_in_parent()) for clip in track] == reel_borders(cuts)
        assert {clip.name for clip in track} == {"rec 1.mp4"}
        assert [list(clip.metadata["cmx_3600"]["comments"]) for clip in track] == [
            [f"COMMENT: {each.caption}"] for each in cuts.excerpts
        ]


def test_time_code_by_hand():
    cuts = cut_list(0, 59, 60, 3600, 216_001, 216_060, rate=NTSC_60)
    events = [line.split()[4:] for line in to_edl(cuts).splitlines() if re.match(r"\d{3} ", line)]
    assert events == [
        ["00:00:00:00", "00:00:00:59", "00:00:00:00", "00:00:00:59"],
        ["00:00:01:00", "00:01:00:00", "00:00:00:59", "00:00:59:59"],
        ["01:00:00:01", "01:00:01:00", "00:00:59:59", "00:01:00:58"],
    ]
    film = cut_list(24, 25, rate=FILM)
    assert "00:00:01:00 00:00:01:01 00:00:00:00 00:00:00:01" in to_edl(film)


@given(cut_lists())
def test_resolves_markers_stand_at_the_highlights_of_a_timeline_that_begins_at_one_hour(cuts):
    base = time_base(cuts)
    timeline = otio.adapters.read_from_string(to_resolve(cuts), "cmx_3600", rate=base, ignore_timecode_mismatch=True)
    clips = [clip for clip in timeline.tracks[0] if isinstance(clip, otio.schema.Clip)]
    assert [frames(clip.source_range)[0] - 3600 * base for clip in clips] == [each.first for each in cuts.excerpts]
    for line, each in zip(re.findall(r"^ \|C:.*$", to_resolve(cuts), re.MULTILINE), cuts.excerpts, strict=True):
        found = re.fullmatch(r" \|C:ResolveColorBlue \|M:([^|]*) \|D:(\d+)", line)
        assert (found[1], int(found[2])) == (each.caption.replace("|", "/"), each.count)


def losslesscut_reads(text):
    """What LosslessCut makes of a CSV: three columns in each row; of the seconds three digits after the point."""
    rows = list(csv.reader(io.StringIO(text)))
    assert rows and all(len(row) == 3 for row in rows)
    pattern = r"^\D*(?:(?:(\d+):)?(\d{1,2}):)?(\d+)(?:\.(\d{1,3}))?:?"
    times = [[re.match(pattern, cell.strip()) for cell in row[:2]] for row in rows]
    assert all(found[1] is found[2] is None for pair in times for found in pair)
    return [
        (*(Fraction(f"{found[3]}.{found[4] or 0}") for found in pair), row[2].strip())
        for pair, row in zip(times, rows, strict=True)
    ]


@given(cut_lists())
def test_losslesscut_reads_every_border_back(cuts):
    read = losslesscut_reads(to_losslesscut(cuts))
    assert [(round(start * cuts.rate), round(end * cuts.rate)) for start, end, _ in read] == borders_of(cuts)
    assert [name for *_, name in read] == [each.caption for each in cuts.excerpts]
    for (start, end, _), each in zip(read, cuts.excerpts, strict=True):
        assert 0 <= each.first / cuts.rate - start < Fraction(1, 1000)
        assert 0 <= each.stop / cuts.rate - end < Fraction(1, 1000)


# --- those who watch ---


def youtube_accepts(text, length):
    """YouTube's own rules; returns the chapters' seconds."""
    found = [re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d\d) (\S.*)", line) for line in text.splitlines()]
    assert all(found), text
    seconds = [int(each[1] or 0) * 3600 + int(each[2]) * 60 + int(each[3]) for each in found]
    assert all(int(each[2]) < 60 and int(each[3]) < 60 for each in found)
    assert seconds[0] == 0 and text.startswith("0:00 ")
    assert len(seconds) >= 3
    assert all(after - before >= 10 for before, after in pairwise([*seconds, length]))
    return seconds


@given(cut_lists(), st.sampled_from([1, 60, 200]))
def test_chapters_keep_youtubes_rules_or_are_left_out(cuts, share):
    # In minutes instead of hours, many highlights are near each other.
    near = [(first // share, stop // share) for first, stop in borders_of(cuts)]
    near = [border for pair in near if pair[0] < pair[1] for border in pair]
    assume(near)
    cuts = cut_list(*near, rate=cuts.rate, seconds=SIX_HOURS // share)
    for write, length, starts in (
        (stream_chapters, cuts.pictures, [each.first for each in cuts.excerpts]),
        (reel_chapters, cuts.reel_pictures, [begin for begin, _ in reel_borders(cuts)]),
    ):
        try:
            text = write(cuts)
        except LeftOutError as reason:
            assert re.search(r"would have [12]$", str(reason))
            continue
        seconds = youtube_accepts(text, length / cuts.rate)
        assert set(seconds[1:]) <= {int(start / cuts.rate) for start in starts}


def test_chapters_by_hand():
    cuts = cut_list(900, 1200, 1500, 1800, 36_000, 36_300, 120_000, 120_270, rate=THIRTY, seconds=4020)
    assert stream_chapters(cuts) == (
        "0:00 Start\n0:30 highlight 1\n0:50 highlight 2\n20:00 highlight 3\n1:06:40 highlight 4\n"
    )
    # The last one lasts 9 s, too short for a chapter of its own.
    assert reel_chapters(cuts) == (
        "0:00 highlight 1 (0:00:30)\n0:10 highlight 2 (0:00:50)\n0:20 highlight 3 (0:20:00)\n"
    )
    soon = cut_list(270, 300, 301, 600, 700, 800, 1500, 1600, rate=THIRTY, seconds=100)
    assert stream_chapters(soon) == "0:00 highlight 1\n0:10 highlight 2\n0:23 highlight 3\n0:50 highlight 4\n"
    with pytest.raises(LeftOutError, match=r"3 chapters of 10 s or more, and this would have 1$"):
        reel_chapters(soon)


def test_what_is_for_the_reel_keeps_to_its_fades_and_editors_cut():
    cuts = cut_list(900, 1200, 1500, 1800, 3000, 3301, rate=THIRTY, seconds=200)
    faded = replace(cuts, fade=15)
    assert faded.reel_pictures == 300 + 300 + 301 - 30
    # Each begins half a second earlier than the one before: 0, 9.5, 19 s. The first is too short for YouTube then.
    times = re.findall("[0-9:,]+ --> [0-9:,]+", reel_captions(faded))
    assert times == [
        "00:00:00,000 --> 00:00:09,500",
        "00:00:09,500 --> 00:00:19,000",
        "00:00:19,000 --> 00:00:29,033",
    ]
    with pytest.raises(LeftOutError, match=r"would have 2$"):
        reel_chapters(faded)
    for write in (to_otio, to_fcpxml, to_edl, stream_captions, stream_chapters):
        assert write(faded) == write(cuts)
    with pytest.raises(HlkitError, match="Give a fade of at most"):
        replace(cuts, fade=150)


@given(cut_lists())
def test_twitch_links_are_ones_that_yt_dlp_takes_and_lead_to_the_second(cuts):
    lines = twitch_links(cuts).splitlines()
    assert len(lines) == len(cuts.excerpts)
    for line, each in zip(lines, cuts.excerpts, strict=True):
        link, name = line.split("\t")
        assert re.fullmatch(r"https://www\.twitch\.tv/videos/1234567890\?t=\d+h\d{1,2}m\d{1,2}s", link)
        assert TwitchVodIE.suitable(link) and TwitchVodIE._match_id(link) == "1234567890"
        assert 0 <= each.first / cuts.rate - parse_duration(link.split("?t=")[1]) < 1
        assert name == each.caption


@given(
    cut_lists(), st.sampled_from(["https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3", "https://youtu.be/dQw4w9WgXcQ"])
)
def test_youtube_links_are_ones_that_yt_dlp_takes_and_lead_to_the_second(cuts, link):
    lines = youtube_links(replace(cuts, source=Source("web", link))).splitlines()
    assert len(lines) == len(cuts.excerpts)
    for line, each in zip(lines, cuts.excerpts, strict=True):
        link, name = line.split("\t")
        assert YoutubeIE.suitable(link) and YoutubeIE._match_id(link) == "dQw4w9WgXcQ"
        assert link.startswith("https://youtu.be/dQw4w9WgXcQ?t=")
        assert 0 <= each.first / cuts.rate - int(link.partition("?t=")[2]) < 1
        assert name == each.caption


def read_srt(text, folder):
    """What libav's reader of subtitles finds: start and end in milliseconds, text."""
    file = folder / "captions.srt"
    file.write_text(text, encoding="utf-8")
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]
        assert {packet.time_base for packet in packets} <= {Fraction(1, 1000)}
        return [(each.pts, each.pts + each.duration, bytes(each).decode()) for each in packets]


@given(cuts=cut_lists())
def test_captions_are_on_screen_with_their_pictures_and_no_others(cuts, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    for write, borders in ((reel_captions, reel_borders(cuts)), (stream_captions, borders_of(cuts))):
        read = read_srt(write(cuts), folder)
        assert len(read) == len(borders)
        for (begin, end, text), (first, stop), each in zip(read, borders, cuts.excerpts, strict=True):
            shown = [begin <= picture / cuts.rate * 1000 < end for picture in (first - 1, first, stop - 1, stop)]
            assert shown == [False, True, True, False]
            assert text.startswith(each.caption.replace("<", "(").replace(">", ")"))


# --- what the formats can't hold ---


def test_hostile_names_come_back_whole():
    cuts = cut_list(
        *(10, 100, 200, 300, 900, 1500),
        names=[HOSTILE] * 3,
        title=f"{HOSTILE}'s",
        recording=Path("/tmp/a 'b' \"c\" & <d> #1 % 🎮.mp4"),
    )
    timeline = otio.adapters.read_from_string(to_otio(cuts), "otio_json")
    assert (timeline.name, timeline.tracks[0][0].name) == (f"{HOSTILE}'s", HOSTILE)
    url = timeline.tracks[0][0].media_reference.target_url
    assert unquote(urlsplit(url).path) == str(cuts.recording)
    (final_cut,) = fcpxml_adapter_reads(to_fcpxml(cuts))
    assert (final_cut.name, final_cut.tracks[0][0].name) == (f"{HOSTILE}'s", HOSTILE)
    assert final_cut.tracks[0][0].media_reference.target_url == url
    edl = otio.adapters.read_from_string(to_edl(cuts), "cmx_3600", rate=60)
    assert edl.tracks[0][0].name == cuts.recording.name
    assert losslesscut_reads(to_losslesscut(cuts))[0][2] == HOSTILE
    assert [
        line.split(" ", 1)[1]
        for line in stream_chapters(cut_list(0, 1, 900, 1000, 1800, 1900, names=[HOSTILE] * 3)).splitlines()
    ] == [HOSTILE] * 3


def test_labels_of_several_lines_become_one():
    spans = pl.DataFrame(
        {"start": [1.0, 1.5, 9.0], "end": [2.0, 3.0, 10.0], "label": ["a\n\tb\x00", "c,\r\nd", " \n "]}
    )
    cuts = make_cut_list(spans, info(), title="one\ntwo\u2028three")
    assert [each.name for each in cuts.excerpts] == ["a b + c, d 1", "highlight 2"]
    assert cuts.title == "one two three"


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\x07.mp4", "a\u2029b.mp4", "double  space.mp4"])
def test_a_file_name_that_no_line_can_hold_is_refused(name):
    with pytest.raises(HlkitError, match="Rename it"):
        cut_list(1, 2, recording=Path("/x") / name)


def info(fps="60000/1001", duration=100.0):
    return VideoInfo(Path("/x/rec.mp4"), duration, 640, 360, Fraction(fps), 0.0, "h264", has_audio=True)


@pytest.mark.parametrize(
    ("write", "cuts", "reason"),
    [
        (to_fcpxml, cut_list(1, 2, rate=Fraction(10)), "Final Cut takes 23.976, 24, .* has 10$"),
        (to_fcpxml, cut_list(1, 2, rate=Fraction(48)), "has 48$"),
        (to_edl, cut_list(1, 2, rate=Fraction(10)), "time code counts 24, 25, 30, 48, 50, 60 .* has 10$"),
        (to_edl, cut_list(1, 2, rate=Fraction(2837, 100)), "has 28.37$"),
        (to_edl, cut_list(1, 2, seconds=90_000), "ends after 24 hours"),
        (to_edl, cut_list(*range(2000)), "999 events, and these are 1000"),
        (to_resolve, cut_list(1, 2, seconds=23.5 * 3600), "ends after 23 hours"),
        (twitch_links, cut_list(1, 2, source=None), "no Twitch VOD"),
        (twitch_links, cut_list(1, 2, source=Source("clip", "Name")), "no Twitch VOD"),
        (twitch_links, cut_list(1, 2, source=Source("file", "/a.mp4")), "no Twitch VOD"),
        (youtube_links, cut_list(1, 2, source=None), "not from YouTube"),
        (youtube_links, cut_list(1, 2, source=Source("web", "https://vimeo.com/12345678901")), "not from YouTube"),
    ],
)
def test_what_does_not_apply_says_why(write, cuts, reason):
    with pytest.raises(LeftOutError, match=reason):
        write(cuts)


def test_any_rate_goes_to_opentimelineio_and_the_texts():
    cuts = cut_list(1, 2, 300, 400, 600, 700, rate=Fraction(2837, 100))
    left_out = {
        kind for kind in EXPORT_KINDS for text in write_exports(cuts, kind).values() if not isinstance(text, str)
    }
    assert left_out == {"fcpxml", "edl", "resolve", "chapters", "youtube"}


@pytest.mark.parametrize(
    ("borders", "reason"), [((), "nothing to export"), ((5, 9, 8, 12), "overlap"), ((0, 10**9), "leave the recording")]
)
def test_a_cut_list_holds_itself_together(borders, reason):
    with pytest.raises(HlkitError, match=reason):
        cut_list(*borders)


# --- from label files ---


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_picture_borders_survive_the_label_file(rate, tmp_path):
    """A label file rounds to a microsecond, up as often as down."""
    firsts = range(7, 6000, 8)
    spans = pl.DataFrame(
        [("rec", float(first / rate), float((first + 3) / rate), "highlight") for first in firsts],
        schema=["video", "start", "end", "label"],
        orient="row",
    )
    write_labels(spans, tmp_path / "rec.csv")
    recording = info(str(rate), 1000.0)
    cuts = make_cut_list(read_labels(tmp_path / "rec.csv"), recording)
    assert borders_of(cuts) == [(first, first + 3) for first in firsts]
    assert [(round(cut.start * rate), round(cut.end * rate)) for cut in plan_cuts(spans, recording)] == borders_of(cuts)


@given(
    st.lists(st.tuples(st.floats(-5, 110), st.floats(0.001, 30), st.text(max_size=8)), min_size=1, max_size=8),
    st.sampled_from(RATES),
)
def test_a_cut_list_shows_what_the_reel_shows_under_names_of_one_line(rows, rate):
    table = pl.DataFrame(
        [(start, start + length, label) for start, length, label in rows],
        schema={"start": pl.Float64, "end": pl.Float64, "label": pl.String},
        orient="row",
    )
    cuts = plan_cuts(table, info(str(rate)))
    assume(cuts)
    made = make_cut_list(table, info(str(rate)))
    assert borders_of(made) == [(round(cut.start * rate), round(cut.end * rate)) for cut in cuts]
    for number, each in enumerate(made.excerpts, start=1):
        assert each.name == one_line(each.name) and each.name.endswith(f" {number}")
        assert len(each.name.splitlines()) == 1
    Xml.fromstring(to_fcpxml(made))


def test_an_excerpt_has_the_mean_score_of_its_frames():
    spans = pl.DataFrame({"start": [1.0, 50.0], "end": [3.0, 51.0]})
    scores = pl.DataFrame({"time": [0.5, 1.0, 2.0, 2.5, 3.0], "score": [0.9, 0.2, 0.4, 0.9, 0.9]})
    first, second = make_cut_list(spans, info("30"), scores=scores).excerpts
    assert first.score == pytest.approx(0.5)
    assert (first.caption, second.score, second.caption) == ("highlight 1, score 0.50", None, "highlight 2")


# --- the stage ---


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    file = tmp_path_factory.mktemp("recording") / "rec.mp4"
    make_numbered(file, seconds=45, fps=NTSC_60, sound=True)
    return file


@pytest.fixture
def project(recording, tmp_path):
    made = Project(tmp_path / "project")
    made.videos.mkdir(parents=True)
    shutil.copy(recording, made.videos / "sunday.mp4")
    (made.videos / "sunday.json").write_text('{"source": "https://www.twitch.tv/videos/1234567890", "title": "S & M"}')
    made.reel("sunday").parent.mkdir()
    made.reel("sunday", ".csv").write_text(
        "video,start,end,label\nsunday,1.7,12,kill\nsunday,14,25,kill\nsunday,30,41,x\n"
    )
    return made


def test_the_stage_writes_every_kind_beside_the_reel_and_the_reel_shows_the_same(project):
    said = []
    files = stages.export(project, say=said.append)
    folder = project.reel("sunday").parent
    suffixes = (
        "otio fcpxml edl resolve.edl losslesscut.csv chapters.txt stream.chapters.txt twitch.txt srt stream.srt"
    ).split()
    assert files == [folder / f"sunday.{suffix}" for suffix in suffixes]
    assert sorted(folder.iterdir()) == sorted([*files, project.reel("sunday", ".csv")])
    assert said[0].startswith(f"sunday: 3 highlights for other programs, in {folder}: sunday.otio, sunday.fcpxml, ")
    timeline = otio.adapters.read_from_file(str(folder / "sunday.otio"))
    cuts = plan_cuts(read_labels(project.reel("sunday", ".csv")), probe(project.video("sunday")))
    assert [frames(clip.source_range) for clip in timeline.tracks[0]] == [
        (round(cut.start * NTSC_60), round(cut.end * NTSC_60)) for cut in cuts
    ]
    assert timeline.name == "S & M"
    assert [clip.name for clip in timeline.tracks[0]] == ["kill 1", "kill 2", "x 3"]
    assert (
        (folder / "sunday.twitch.txt").read_text().startswith("https://www.twitch.tv/videos/1234567890?t=0h0m1s\tkill")
    )
    edl = otio.adapters.read_from_file(str(folder / "sunday.edl"), rate=60)
    assert [frames(clip.source_range) for clip in edl.tracks[0]] == [
        frames(clip.source_range) for clip in timeline.tracks[0]
    ]


def test_the_command_ends_well(project):
    """OpenTimelineIO holds Python objects in C++, which can abort a process at its very end."""
    command = [sys.executable, "-c", "from hlkit.cli import main; main()", "export", "sunday", "--to", "otio"]
    command += ["--to", "fcpxml", "--to", "edl", "--project", str(project.root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("sunday.otio, sunday.fcpxml, sunday.edl.\n")


def test_lists_of_losslesscut_are_no_highlights_of_another_video(project):
    stages.export(project, to=["losslesscut"], say=lambda line: None)
    said = []
    stages.export(project, to=["srt"], say=said.append)
    assert [line.split(":")[0] for line in said] == ["sunday"]
    assert [path.name for path in stages.reel(project, progress=False, say=lambda line: None)] == ["sunday.mp4"]


def test_captions_follow_the_reel_when_it_is_cut_with_another_fade(project):
    quiet, captions = {"say": lambda line: None}, project.reel("sunday", ".srt")

    def begins():
        stages.export(project, to=["srt"], **quiet)
        return [begin for begin, _, _ in read_srt(captions.read_text(), project.root)]

    starts = [math.ceil(start * NTSC_60) for start in (1.7, 14, 30)]
    counts = [math.ceil(stop * NTSC_60) - start for start, stop in zip(starts, (12, 25, 41), strict=True)]
    for fade in (0, 0.5):
        looks = {"fade_seconds": fade, "title": "{number}"} if fade else {}
        stages.reel(project, progress=False, **looks, **quiet)
        shared = round(Fraction(fade) * NTSC_60)
        places = [0, counts[0] - shared, counts[0] + counts[1] - 2 * shared]
        assert begins() == [math.floor(place / NTSC_60 * 1000) for place in places]
        assert count_pictures(project.reel("sunday")) == sum(counts) - 2 * shared
    said = []
    stages.reel(project, fade_seconds=0.5, title="{number}", progress=False, say=said.append)
    assert said == ["sunday: reel already done."]
    # The reel is not of these highlights any more.
    project.reel("sunday", ".csv").write_text("video,start,end\nsunday,1,2\nsunday,4,9\n")
    assert begins() == [0, 1001]


def test_again_it_is_already_done_until_something_changes(project):
    said = []
    files = stages.export(project, say=said.append)
    before = {file: file.stat().st_mtime_ns for file in files}
    assert stages.export(project, say=said.append) == files
    assert said[-1] == "sunday: export already done."
    assert {file: file.stat().st_mtime_ns for file in files} == before
    files[0].unlink()
    stages.export(project, say=said.append)
    assert files[0].is_file()
    project.reel("sunday", ".csv").write_text("video,start,end\nsunday,1,2\n")
    project.videos.joinpath("sunday.json").unlink()
    again = stages.export(project, say=said.append)
    # Chapters and links of the earlier choice would be out of date.
    gone = {"sunday.chapters.txt", "sunday.stream.chapters.txt", "sunday.twitch.txt"}
    assert {file.name for file in files} - {file.name for file in again} == gone
    assert not any((project.reel("sunday").parent / name).exists() for name in gone)
    assert said[-4:] == [
        "sunday: sunday.chapters.txt left out: YouTube wants 3 chapters of 10 s or more, and this would have 1.",
        "sunday: sunday.stream.chapters.txt left out: YouTube wants 3 chapters of 10 s or more, and this would have 1.",
        "sunday: sunday.twitch.txt left out: the recording is no Twitch VOD.",
        "sunday: sunday.youtube.txt left out: the recording is not from YouTube.",
    ]


def test_what_was_asked_for_and_can_not_be_is_an_error(project):
    project.videos.joinpath("sunday.json").write_text('{"source": "gone.mp4"}')
    with pytest.raises(HlkitError, match=r"sunday: nothing to write\. sunday\.twitch\.txt left out: the recordi"):
        stages.export(project, to=["twitch"], say=lambda line: None)
    with pytest.raises(HlkitError, match=r"no export to pdf. There is: otio, fcpxml"):
        stages.export(project, to=["pdf"], say=lambda line: None)
    project.reel("sunday", ".csv").write_text("video,start,end\n")
    with pytest.raises(HlkitError, match="no highlight was picked"):
        stages.export(project, say=lambda line: None)
    project.reel("sunday", ".csv").unlink()
    with pytest.raises(HlkitError, match=r"No highlights are picked yet"):
        stages.export(project, say=lambda line: None)
    assert list(project.reel("sunday").parent.iterdir()) == []


def test_scores_are_those_of_the_last_run(project):
    scores = pl.DataFrame(
        {"video": ["sunday"] * 45, "time": [float(second) for second in range(45)], "score": [0.25] * 45}
    )
    project.scores("first", "sunday").parent.mkdir(parents=True)
    scores.write_parquet(project.scores("first", "sunday"))
    stages.export(project, to=["srt"], say=lambda line: None)
    assert "kill 1, score 0.25 (0:00:01)\n" in project.reel("sunday", ".srt").read_text()
