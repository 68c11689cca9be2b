"""A reel in the source's pictures: only the cuts' segments travel, and each shows what the local rendition shows."""

from pathlib import Path

import ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_numbered, read_number
from twitch_site import segment
from web_site import web_site

from hlkit import segments as module
from hlkit import tries
from hlkit.alignment import align, compare
from hlkit.cuts import Cut, Piece
from hlkit.layout import Look
from hlkit.project import HlkitError
from hlkit.reel import write_reel
from hlkit.remote import find_source, write_remote_reel
from hlkit.segments import Segment, plan_runs, read_playlist
from hlkit.sources import Stream
from hlkit.video import open_container, probe, run_ffmpeg

PLAYLIST = "https://a.org/v/index.m3u8?signature=x"


def playlist(*lines, end=True):
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:10", *lines, *(["#EXT-X-ENDLIST"] if end else [])]) + "\n"


def test_segments_of_a_playlist():
    text = playlist("#EXTINF:10.0,", "0.ts", "#EXTINF:9.5,", "1-unmuted.ts?a=b", "#EXTINF:1,", "https://b.org/2.ts")
    assert read_playlist(text, PLAYLIST) == [
        Segment("https://a.org/v/0.ts", 0.0, 10.0),
        Segment("https://a.org/v/1-muted.ts?a=b", 10.0, 19.5),
        Segment("https://b.org/2.ts", 19.5, 20.5),
    ]


def test_segments_that_are_parts_of_a_file():
    part = ["#EXTINF:2,", "#EXT-X-BYTERANGE:100@50", "all.mp4", "#EXTINF:2,", "#EXT-X-BYTERANGE:70", "all.mp4"]
    segments = read_playlist(playlist('#EXT-X-MAP:URI="init.mp4"', *part), PLAYLIST)
    assert [(each.first_byte, each.size) for each in segments] == [(50, 100), (150, 70)]
    assert {each.init for each in segments} == {"https://a.org/v/init.mp4"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (playlist(), "no playlist of a finished recording"),
        ("<html>", "no playlist of a finished recording"),
        (playlist("#EXTINF:1,", "0.ts", end=False), "no playlist of a finished recording"),
        (playlist('#EXT-X-KEY:METHOD=AES-128,URI="k"', "#EXTINF:1,", "0.ts"), "encrypted"),
        (playlist("#EXTINF:1,", "file:///etc/passwd"), "out of the web"),
        (playlist('#EXT-X-MAP:URI="file:///etc/passwd"', "#EXTINF:1,", "0.ts"), "out of the web"),
    ],
)
def test_playlists_that_can_not_be_cut_from(text, says):
    with pytest.raises(HlkitError, match=says):
        read_playlist(text, PLAYLIST)


def test_the_segments_of_a_cut():
    segments = [Segment(str(number), number * 10.0, number * 10.0 + 10) for number in range(6)]
    cuts = [Cut(0, 7.5), Cut(8.5, 12), Cut(22, 28), Cut(22.1, 27.9), Cut(51, 59.9)]
    assert plan_runs(cuts, segments, margin=2.0) == [range(1), range(2), range(2, 3), range(2, 3), range(4, 6)]
    with pytest.raises(HlkitError, match="lies behind the source's end, 0:01:00"):
        plan_runs([Cut(60, 61)], segments, margin=2.0)


@given(
    st.lists(st.floats(0.5, 12), min_size=1, max_size=40),
    st.floats(0, 0.99),
    st.floats(0.1, 20),
    st.floats(0, 3),
)
def test_a_run_holds_its_cut_and_nothing_more(lengths, place, length, margin):
    ends = np.cumsum(lengths)
    segments = [Segment("u", float(end - span), float(end)) for end, span in zip(ends, lengths, strict=True)]
    start = float(place * ends[-1])
    (run,) = plan_runs([Cut(start, start + length)], segments, margin=margin)
    chosen = [segments[number] for number in run]
    assert chosen[0].start <= max(0.0, start - margin) + 1e-6
    assert chosen[-1].end >= min(start + length + margin, float(ends[-1])) - 1e-6
    assert all(each.end > start - margin and each.start < start + length + margin for each in chosen)


@given(st.integers(-8, 8), st.sampled_from([1, 2, 3]), st.integers(0, 2**32 - 1))
def test_the_shift_is_found_whatever_the_rates(shift, ratio, seed):
    """The other stretch shows the same pictures at `ratio` times the rate, `shift` of its pictures later."""
    dice = np.random.default_rng(seed)
    pictures = dice.integers(0, 255, (60, 4, 4)).astype(np.uint8)
    other_times = np.arange(60) / 60 + shift / 60
    shifts, differences = compare(np.arange(20, 40, ratio) / 60, pictures[20:40:ratio], other_times, pictures)
    assert shifts[differences.argmin()] == pytest.approx(shift / 60)
    assert differences.min() == 0


def test_nothing_fits_nothing():
    none = np.empty(0), np.empty((0, 4, 4))
    one = np.zeros(1), np.zeros((1, 4, 4))
    for pair in ((none, one), (one, none), (none, none)):
        shifts, differences = compare(*pair[0], *pair[1])
        assert len(shifts) == len(differences) == 0


def make_renditions(folder: Path, *, seconds: float, late: int = 0, segment_seconds: float = 10, fmp4=False) -> Path:
    """`source/index-dvr.m3u8` at 20 pictures a second, which begins `late` pictures later than `low.mp4` at 10."""
    make_numbered(folder / "all.mp4", seconds=seconds, fps=20, gop=40, width=96, height=96, sound=True)
    low = ffmpeg.input(str(folder / "all.mp4"))
    small = low["v:0"].filter("framestep", 2).filter("scale", 64, 64)
    run_ffmpeg(small.output(str(folder / "low.mp4"), vcodec="libx264", preset="ultrafast", crf=30), progress=False)
    if late:
        make_numbered(folder / "all.mp4", seconds=seconds, fps=20, gop=40, width=96, height=96, sound=True, first=late)
    segment(folder / "all.mp4", folder / "source", seconds=segment_seconds, fmp4=fmp4)
    return folder / "low.mp4"


def numbers(video):
    with open_container(video) as (container, stream):
        return [read_number(frame.to_ndarray(format="gray")) for frame in container.decode(stream)]


def expected(cuts):
    return [number for cut in cuts for number in range(round(cut.start * 20), round(cut.end * 20))]


def greys(video):
    with open_container(video) as (container, stream):
        return np.stack([frame.to_ndarray(format="gray").astype(float) for frame in container.decode(stream)])


def whole(site, path):
    return Stream(site.url + path, None, is_hls=False, headers={})


def hls(site, path):
    return Stream(site.url + path, None, is_hls=True, headers={})


def moved(site):
    return sum(site.sent.values())


@pytest.mark.parametrize(("late", "fmp4"), [(0, False), (7, False), (7, True)])
def test_the_reel_shows_in_the_sources_pictures_what_the_local_ones_show(tmp_path, late, fmp4):
    low = make_renditions(tmp_path, seconds=60, late=late, segment_seconds=4, fmp4=fmp4)
    cuts = [Cut(1.0, 3.5), Cut(30.1, 34.0), Cut(55.0, 58.0)]
    with web_site(tmp_path) as site:
        write_remote_reel(
            low, hls(site, "/source/index-dvr.m3u8?signed=1"), cuts, tmp_path / "reel.mp4", progress=False
        )
        asked = {path for path, _ in site.asked if path.endswith(("ts", "mp4"))}
    assert numbers(tmp_path / "reel.mp4") == expected(cuts)
    assert probe(tmp_path / "reel.mp4").has_audio
    assert probe(tmp_path / "reel.mp4").width == 96
    assert len(asked - {"/source/init.mp4"}) == 6  # of 15
    assert not list(tmp_path.glob(".source-*"))


@pytest.mark.parametrize(("way", "mode"), [("playlist", "smart"), ("file", "encode")])
def test_titles_and_fades_are_those_of_a_reel_out_of_the_source_itself(tmp_path, way, mode):
    low = make_renditions(tmp_path, seconds=24, late=7, segment_seconds=4)
    cuts, look = [Cut(1.5, 5.0), Cut(10.6, 14.0), Cut(19.5, 22.5)], Look(title="{number} {time}", fade_seconds=0.5)
    # The source begins 7 pictures later; no second passes between a cut's two times.
    its_own = [Cut(cut.start - 0.35, cut.end - 0.35) for cut in cuts]
    wanted, target = tmp_path / "own" / "reel.mp4", tmp_path / "reel.mp4"
    write_reel(tmp_path / "all.mp4", its_own, wanted, cut=mode, look=look, progress=False)
    with web_site(tmp_path) as site:
        source = hls(site, "/source/index-dvr.m3u8") if way == "playlist" else whole(site, "/all.mp4")
        write_remote_reel(low, source, cuts, target, cut=mode, look=look, progress=False)
    shown, clear = numbers(target), [*range(40, 60), *range(100, 118), *range(158, 178)]
    assert len(shown) == 70 + 68 + 60 - 2 * 10
    # From the end of a title to the beginning of a fade; the last one fades into nothing.
    assert [shown[n] for n in clear] == [*range(70, 90), *range(252, 270), *range(430, 450)]
    one, other = (greys(path) for path in (wanted, target))
    assert np.abs(one - other).mean(axis=(1, 2)).max() < 2
    assert probe(target).duration == pytest.approx(probe(wanted).duration, abs=0.001)
    assert probe(target).has_audio
    assert not list(tmp_path.glob(".source-*"))


@pytest.mark.parametrize("parts", ["both", "apart"])
def test_a_source_that_is_a_file_or_two(tmp_path, parts):
    """As YouTube has them: pictures and sound of the best quality lie in two files."""
    low = make_renditions(tmp_path, seconds=60, late=7)
    cuts = [Cut(1.0, 3.5), Cut(30.1, 34.0), Cut(55.0, 58.0)]
    if parts == "apart":
        for kind in ("v", "a"):
            node = ffmpeg.input(str(tmp_path / "all.mp4"))[f"{kind}:0"].output(str(tmp_path / f"{kind}.mp4"), c="copy")
            run_ffmpeg(node, progress=False)
    with web_site(tmp_path) as site:
        urls = (f"{site.url}/all.mp4", None) if parts == "both" else (f"{site.url}/v.mp4", f"{site.url}/a.mp4")
        source = Stream(*urls, is_hls=False, headers={"X-Asked": "by hlkit"})
        write_remote_reel(low, source, cuts, tmp_path / "reel.mp4", progress=False)
        assert {headers["X-Asked"] for headers in site.headers} == {"by hlkit"}
    assert numbers(tmp_path / "reel.mp4") == expected(cuts)
    assert probe(tmp_path / "reel.mp4").has_audio


def test_a_file_that_is_gone(tmp_path):
    low = make_numbered(tmp_path / "low.mp4", seconds=2) and tmp_path / "low.mp4"
    with (
        web_site(tmp_path) as site,
        pytest.raises(HlkitError, match=r"/gone\.mp4 can't be cut \(.*Not Found.*\)\. Run"),
    ):
        source = Stream(f"{site.url}/gone.mp4?signature=1", None, is_hls=False, headers={})
        write_remote_reel(low, source, [Cut(0, 1)], tmp_path / "reel.mp4", progress=False)


@pytest.mark.slow
def test_five_highlights_of_half_an_hour_move_an_eighth_of_it_at_most(tmp_path):
    low = make_renditions(tmp_path, seconds=1800, late=3)
    size = sum(file.stat().st_size for file in (tmp_path / "source").iterdir())
    cuts = [Cut(start, start + 10) for start in (59.0, 432.1, 777.7, 1234.5, 1780.0)]
    with web_site(tmp_path) as site:
        write_remote_reel(low, hls(site, "/source/index-dvr.m3u8"), cuts, tmp_path / "reel.mp4", progress=False)
    assert moved(site) <= size / 8
    assert numbers(tmp_path / "reel.mp4") == expected(cuts)
    print(f"moved {moved(site):,} of {size:,} bytes, 1/{size / moved(site):.1f}")


@pytest.fixture
def small(tmp_path):
    low = make_renditions(tmp_path, seconds=20, segment_seconds=4)
    with web_site(tmp_path) as site:
        yield low, site


def test_a_segment_that_fails_is_asked_for_again_after_growing_waits(small, tmp_path, monkeypatch):
    low, site = small
    waits = []
    monkeypatch.setattr(tries.time, "sleep", waits.append)
    site.faults = {"/source/2.ts": [503, 500, "short"]}
    cuts = [Cut(9.0, 11.0)]
    write_remote_reel(low, hls(site, "/source/index-dvr.m3u8"), cuts, tmp_path / "reel.mp4", progress=False)
    assert numbers(tmp_path / "reel.mp4") == expected(cuts)
    assert [wait for wait in waits if wait] == list(module.WAITS)


def test_what_has_been_fetched_is_not_fetched_again(small, tmp_path, monkeypatch):
    low, site = small
    monkeypatch.setattr(module, "WAITS", ())
    site.faults = {"/source/3.ts": [503]}
    with pytest.raises(
        HlkitError, match=r"/source/3\.ts does not come \(HTTP Error 503.*\)\. Run this again"
    ) as caught:
        write_remote_reel(
            low, hls(site, "/source/index-dvr.m3u8?s=1"), [Cut(5.0, 15.0)], tmp_path / "r.mp4", progress=False
        )
    assert "?" not in str(caught.value)
    write_remote_reel(
        low, hls(site, "/source/index-dvr.m3u8?s=2"), [Cut(5.0, 15.0)], tmp_path / "r.mp4", progress=False
    )
    fetched = [path for path, _ in site.asked if path.endswith(".ts")]
    assert len(set(fetched)) < len(fetched) <= len(set(fetched)) + 1


def test_a_segment_that_is_no_video_does_not_stay(small, tmp_path):
    low, site = small
    wrong = site.folder / "source" / "2.ts"
    right = wrong.read_bytes()
    wrong.write_bytes(b"<html>busy</html>")
    cuts = [Cut(8.5, 11.5)]
    with pytest.raises(HlkitError):
        write_remote_reel(low, hls(site, "/source/index-dvr.m3u8"), cuts, tmp_path / "reel.mp4", progress=False)
    wrong.write_bytes(right)
    write_remote_reel(low, hls(site, "/source/index-dvr.m3u8"), cuts, tmp_path / "reel.mp4", progress=False)
    assert numbers(tmp_path / "reel.mp4") == expected(cuts)


def test_a_source_that_shows_something_else_is_refused(small, tmp_path):
    _, site = small
    make_numbered(tmp_path / "other.mp4", seconds=20, fps=10, first=20_000)
    with pytest.raises(HlkitError, match=r"does not show at 0:00:08 what other\.mp4 shows there"):
        source = hls(site, "/source/index-dvr.m3u8")
        write_remote_reel(tmp_path / "other.mp4", source, [Cut(8.0, 9.0)], tmp_path / "reel.mp4", progress=False)


def test_a_still_picture_takes_the_offset_of_the_others(tmp_path):
    """The second cut shows nothing that moves: any offset would fit."""
    moving = "testsrc2=s=64x64:r=10:d=10,format=yuv420p"
    still = "color=gray:s=64x64:r=10:d=10,format=yuv420p"

    def make(name, begin):
        parts = [ffmpeg.input(text, format="lavfi") for text in (moving, still)]
        joined = ffmpeg.concat(*parts).filter("trim", start=begin).filter("setpts", "PTS-STARTPTS")
        run_ffmpeg(joined.output(str(tmp_path / name), vcodec="libx264", g=10), progress=False)
        return tmp_path / name

    low, late = make("low.mp4", 0), make("late.mp4", 0.7)
    whole = Piece(probe(late))
    pieces = align(low, [whole, whole], [Cut(3.0, 5.0), Cut(14.0, 16.0)])
    assert [round(piece.offset, 3) for piece in pieces] == [0.7, 0.7]


@pytest.mark.parametrize(
    ("source", "says"), [("a.mp4", "a file on this computer"), ("https://clips.twitch.tv/Nice", "a clip")]
)
def test_what_has_no_larger_source(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").touch()
    with pytest.raises(HlkitError, match=f"The recording was {says}.*no larger source"):
        find_source(source)
