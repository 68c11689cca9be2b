"""Reels with titles, fades and other shapes: which pictures show what, where things lie, and what is still copied."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import SOUND_RATE, draw_number, make_numbered, read_number
from test_reel import bursts, decode, lag, spans, write_aloud
from test_smart_cut import check_decodes, copied

from hlkit import reel
from hlkit.cuts import Cut, plan_cuts, reel_rate
from hlkit.layout import Layout, Look, plan_layout
from hlkit.overlay import write_title
from hlkit.parts import ReelPart, check_fade, plan_parts, reel_places
from hlkit.project import HlkitError, Project
from hlkit.reel import write_reel
from hlkit.soundtrack import mix_sound
from hlkit.video import open_ffmpeg, probe

FACE = (0.25, 0.5, 0.5, 1.0)


def pictures(path: Path, form: str = "gray") -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=form) for frame in container.decode(video=0)]


# --- the plan ---


def test_parts_by_hand():
    assert plan_parts([10]) == (ReelPart(0, 0, 10),)
    assert plan_parts([10, 20], titled=5) == (
        ReelPart(0, 0, 5, "titled"),
        ReelPart(0, 5, 10),
        ReelPart(1, 0, 5, "titled"),
        ReelPart(1, 5, 20),
    )
    assert plan_parts([10, 8, 9], fade=3, titled=5) == (
        ReelPart(0, 0, 5, "titled"),
        ReelPart(0, 5, 7),
        ReelPart(0, 7, 10, "fade"),
        ReelPart(1, 3, 5, "titled"),
        ReelPart(1, 5, 8, "fade"),
        ReelPart(2, 3, 5, "titled"),
        ReelPart(2, 5, 9),
    )
    assert plan_parts([4, 7], titled=60) == (ReelPart(0, 0, 4, "titled"), ReelPart(1, 0, 7, "titled"))
    assert reel_places([10, 8, 9], 3) == [0, 7, 12]


@given(st.integers(0, 9), st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 60))
def test_every_picture_of_a_cut_is_in_one_part_or_fades_in(fade, lengths, titled):
    counts = [length + 2 * fade for length in lengths]
    parts = plan_parts(counts, fade=fade, titled=titled)
    assert sum(part.count for part in parts) == sum(counts) - (len(counts) - 1) * fade
    shown = [(part.cut, number) for part in parts for number in range(part.first, part.stop)]
    shown += [(part.cut + 1, number) for part in parts if part.kind == "fade" for number in range(part.count)]
    assert sorted(shown) == [(cut, number) for cut, count in enumerate(counts) for number in range(count)]
    assert {part.cut for part in parts if part.kind != "fade"} == set(range(len(counts)))
    place, begins = 0, {}
    for part in parts:
        begins.setdefault(part.cut, place - part.first)
        place += part.count
    assert [begins[cut] for cut in range(len(counts))] == reel_places(counts, fade)


def test_a_cut_that_is_too_short_for_its_fades_is_named():
    check_fade([19, 30], 9, Fraction(30))
    check_fade([5], 9, Fraction(30))
    with pytest.raises(
        HlkitError, match=r"Cut 2 is 0\.60 s long.*two fades of 0\.30 s\. Give a fade of at most 0\.26 s"
    ):
        check_fade([30, 18, 40], 9, Fraction(30))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"title": "  "}, "The title is '  '. Give one line of text"),
        ({"title": "a\nb"}, "Give one line of text"),
        ({"title": "{nothing}"}, r"in which \{name\}, \{number\}, \{time\}, \{score\} may stand"),
        ({"title": "{time"}, "Give one line of text"),
        ({"title": "{number.real}"}, "Give one line of text"),
        ({"fade_seconds": -0.1}, r"A fade of -0\.1 s can't be\. Give 0 \(none\) to 5 seconds"),
        ({"fade_seconds": float("nan")}, "Give 0"),
        ({"fade_seconds": 6}, "Give 0"),
        ({"shape": "4:3"}, "The shape is '4:3'; source, 16:9, 9:16 are allowed"),
        ({"face": FACE}, "only with shape 9:16, not 'source'"),
        ({"face": (0.5, 0, 0.4, 1), "shape": "9:16"}, "with x0 < x1"),
    ],
)
def test_looks_that_can_not_be(options, message):
    with pytest.raises(HlkitError, match=message):
        Look(**options)


def test_titles():
    cuts = [Cut(61.9, 70, 0.875), Cut(3671, 3680, 0.5)]
    assert Look(title="auto").titles(cuts, "sunday") == ["sunday #1  0:01:01", "sunday #2  1:01:11"]
    assert Look(title="{score} {{ok}}").titles(cuts, "sunday") == ["0.88 {ok}", "0.50 {ok}"]
    assert Look().titles(cuts, "sunday") == []
    with pytest.raises(HlkitError, match="no score is known"):
        Look(title="{score}").titles([Cut(1, 2)], "sunday")


def test_a_long_title_is_made_smaller_and_then_cut_short(tmp_path):
    wide, high = write_title(tmp_path / "a", "ace", 1080, 1000)
    assert (tmp_path / "a").stat().st_size == wide * high * 4
    narrow, low = write_title(tmp_path / "b", "a title of more than twenty letters", 1080, 1000)
    assert wide < narrow <= 1000
    assert high // 2 <= low < high
    least = write_title(tmp_path / "c", "w" * 300, 1080, 1000)
    assert 900 < least[0] <= 1000
    assert least[1] == pytest.approx(high / 2, abs=4)


@pytest.mark.parametrize(
    ("size", "look", "layout"),
    [
        ((1921, 1081), Look(), Layout("source", 1920, 1080)),
        ((2560, 1080), Look(shape="16:9"), Layout("16:9", 1920, 1080)),
        ((640, 480), Look(shape="16:9"), Layout("16:9", 854, 480)),
        ((1920, 1080), Look(shape="9:16"), Layout("9:16", 1080, 1920)),
        ((284, 160), Look(shape="9:16"), Layout("9:16", 160, 284)),
        ((1080, 1920), Look(shape="9:16"), Layout("9:16", 1080, 1920)),
        # A cam of 480x270 and one of 400x300 fill the width; one that is upright, and one like a ribbon, get a third.
        ((1920, 1080), Look(shape="9:16", face=(0, 0, 0.25, 0.25)), Layout("9:16", 1080, 1920, 608, (1080, 608))),
        ((1600, 900), Look(shape="9:16", face=(0, 0, 0.25, 1 / 3)), Layout("9:16", 900, 1600, 676, (900, 676))),
        ((1920, 1080), Look(shape="9:16", face=(0, 0, 0.1, 0.5)), Layout("9:16", 1080, 1920, 640, (228, 640))),
        ((1920, 1080), Look(shape="9:16", face=(0, 0, 1, 0.2)), Layout("9:16", 1080, 1920, 640, (1080, 122))),
    ],
)
def test_layouts(size, look, layout):
    assert plan_layout(size[0], size[1], look) == layout


# --- fades ---

CUTS = [Cut(0.5, 3.5), Cut(4.2, 6.0), Cut(6.5, 9.9)]


def grey_of(number: int) -> np.ndarray:
    """What a decoder shows of `draw_number`."""
    return (draw_number(number, 64, 64).astype(float) - 16) * 255 / 219


def shares(count: int) -> list[float]:
    return [(n + 1) / (count + 1) for n in range(count)]


@pytest.mark.parametrize(
    ("suffix", "fps", "mode"),
    [
        ("mp4", "30", "smart"),
        ("mp4", "60000/1001", "encode"),
        ("mkv", "30000/1001", "smart"),
        ("ts", "24000/1001", "smart"),
    ],
)
def test_cuts_pass_over_into_each_other_picture_by_picture(suffix, fps, mode, tmp_path):
    source, target = tmp_path / f"a.{suffix}", tmp_path / "reel.mp4"
    make_numbered(source, seconds=10, fps=fps, sound=True)
    rate, cuts = Fraction(fps), plan_cuts(spans(*((cut.start, cut.end) for cut in CUTS)), probe(source))
    assert write_aloud(source, cuts, target, cut=mode, look=Look(fade_seconds=0.3)) == []
    fade = round(Fraction("0.3") * rate)
    numbers = [list(range(round(cut.start * rate), round(cut.end * rate))) for cut in cuts]
    shown, times, sound = decode(target)
    assert len(shown) == sum(map(len, numbers)) - 2 * fade
    assert times == [n / rate for n in range(len(shown))]
    assert len(sound) / SOUND_RATE == pytest.approx(len(shown) / rate, abs=1024 / SOUND_RATE)
    seen, place = pictures(target), 0
    for cut, (before, after) in enumerate(zip([[], *numbers[:-1]], numbers, strict=True)):
        fading = fade if cut else 0
        for n, share in enumerate(shares(fading)):
            one, other = (grey_of(number) for number in (before[n - fade], after[n]))
            step = other - one
            assert ((seen[place + n] - one) * step).sum() / (step**2).sum() == pytest.approx(share, abs=0.02), (cut, n)
            # Each of the next pictures would fit less well.
            errors = []
            for first, second in ((0, 0), (1, 0), (0, 1)):
                wanted = grey_of(before[n - fade] + first) * (1 - share) + grey_of(after[n] + second) * share
                errors.append(np.abs(seen[place + n] - wanted).mean())
            assert errors[0] < 4
            assert errors[0] < min(errors[1:])
        place += fading
        plain = after[fading : len(after) - (fade if cut + 1 < len(cuts) else 0)]
        assert shown[place : place + len(plain)] == plain
        place += len(plain)
    if mode == "smart":
        assert copied(source, target) > len(shown) / 3
    check_decodes(target)


@pytest.mark.parametrize("mode", ["smart", "encode"])
def test_parts_show_what_the_whole_cut_would_show_at_a_variable_rate_too(mode, tmp_path):
    source, sound = tmp_path / "vfr.mp4", bursts(12, 0.25)
    make_numbered(source, seconds=12, fps=30, vfr=True, sound=sound)
    cuts = plan_cuts(spans((0.5, 4.0), (5.01, 8.4), (9.0, 11.9)), probe(source))
    write_reel(source, cuts, tmp_path / "plain.mp4", cut="encode", progress=False)
    said = write_aloud(source, cuts, tmp_path / "reel.mp4", cut=mode, look=Look(title="auto", fade_seconds=0.4))
    unsteady = "3 of 3 cuts are encoded in place of copied: its pictures do not come at a steady rate."
    assert said == ([unsteady] if mode == "smart" else [])
    rate = reel_rate(probe(source))
    counts, fade = [round((cut.end - cut.start) * rate) for cut in cuts], round(Fraction("0.4") * rate)
    (wanted, _, plain), (shown, _, heard) = decode(tmp_path / "plain.mp4"), decode(tmp_path / "reel.mp4")
    begin = 0
    for count, place in zip(counts, reel_places(counts, fade), strict=True):
        # A title covers the number's upper cells.
        clear = range(round(2 * rate), count - fade)
        assert [shown[place + n] for n in clear] == [wanted[begin + n] for n in clear]
        one, other = (round((at + fade) / rate * SOUND_RATE) for at in (begin, place))
        length = round((count - 2 * fade) / rate * SOUND_RATE)
        assert abs(lag(heard[other : other + length], plain[one : one + length])) <= 2
        begin += count


@pytest.mark.parametrize("count", [6, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("suffix", "fps", "mode"), [("mp4", "30", "smart"), ("ts", "60000/1001", "encode")])
def test_beeps_stay_with_their_flashes_over_all_fades(suffix, fps, mode, count, tmp_path):
    source, target, sound = tmp_path / f"a.{suffix}", tmp_path / "reel.mp4", bursts(60, 0.25)
    make_numbered(source, seconds=60, fps=fps, sound=sound)
    dice = random.Random(count)
    starts = [dice.uniform(0, 57) for _ in range(count)]
    cuts = [plan_cuts(spans((start, start + dice.uniform(1.2, 2.4))), probe(source))[0] for start in starts]
    assert write_aloud(source, cuts, target, cut=mode, look=Look(fade_seconds=0.2)) == []
    rate, (shown, _, heard) = reel_rate(probe(source)), decode(target)
    fade = round(Fraction("0.2") * rate)
    counts = [round((cut.end - cut.start) * rate) for cut in cuts]
    lags = []
    for cut, count_of, place in zip(cuts, counts, reel_places(counts, fade), strict=True):
        first = round(cut.start * rate)
        assert shown[place + fade : place + count_of - fade] == list(range(first + fade, first + count_of - fade))
        begin, end = (round(n / rate * SOUND_RATE) for n in (place + fade, place + count_of - fade))
        wanted = round((first + fade) / rate * SOUND_RATE)
        lags.append(lag(heard[begin:end], sound[wanted : wanted + end - begin]))
    late = 1024 if suffix == "ts" else 0
    assert max(abs(each - late) for each in lags) / SOUND_RATE < 0.010, lags


def test_sounds_pass_over_equally_loud(tmp_path):
    dice = np.random.default_rng(0)
    one, other, last = (dice.integers(-9000, 9000, (length, 2)).astype("<i2") for length in (50_000, 120_000, 3000))
    (tmp_path / "apart").write_bytes(b"".join(each.tobytes() for each in (one, other, last)))
    with (tmp_path / "mixed").open("wb") as mixed:
        mix_sound(tmp_path / "apart", [50_000, 120_000, 3000], [0, 42_000, 161_500], mixed)
    mixed = np.frombuffer((tmp_path / "mixed").read_bytes(), "<i2").reshape(-1, 2)
    assert len(mixed) == 161_500 + 3000
    assert np.array_equal(mixed[:42_000], one[:42_000])
    assert np.array_equal(mixed[50_000:161_500], other[8000:119_500])
    assert np.array_equal(mixed[162_000:], last[500:])
    angle = (np.arange(8000) + 0.5) / 8000 * np.pi / 2
    wanted = one[42_000:] * np.cos(angle)[:, None] + other[:8000] * np.sin(angle)[:, None]
    assert np.abs(mixed[42_000:50_000] - wanted).max() <= 0.5 + 1e-6
    loud = np.sqrt((mixed[42_000:50_000].astype(float) ** 2).reshape(8, -1).mean(axis=1))
    assert loud == pytest.approx(9000 / np.sqrt(3), rel=0.05)


# --- titles ---


def grey(path: Path, seconds: float, **options) -> Path:
    """A recording whose upper half stays grey, with keyframes each second."""
    size = options.pop("size", "320x180")
    picture = f"color=0x606060:s={size}:r=30:d={seconds},format=yuv420p"
    h264 = ["-c:v", "libx264", "-g", "30", "-sc_threshold", "0", "-preset", "veryfast"]
    with open_ffmpeg(["-f", "lavfi", "-i", picture, *h264, path]) as process:
        process.wait()
    return path


@pytest.mark.parametrize(("mode", "fade"), [("smart", 0.0), ("smart", 0.5), ("encode", 0.0), ("encode", 0.5)])
def test_a_title_is_there_for_two_seconds_of_each_cut(mode, fade, tmp_path):
    source, target = grey(tmp_path / "a.mp4", 14), tmp_path / "sunday.mp4"
    cuts = [Cut(0.5, 5.5), Cut(7.0, 8.5), Cut(9.2, 13.2)]
    assert write_aloud(source, cuts, target, cut=mode, look=Look(title="{name} {number}", fade_seconds=fade)) == []
    counts, fading = [150, 45, 120], round(30 * fade)
    places = reel_places(counts, fading)
    bright = [int((picture > 200).sum()) for picture in pictures(target)]
    assert len(bright) == sum(counts) - 2 * fading
    # While it fades in or out, it is half there.
    clear = [n for n in range(len(bright)) if not any(place <= n < place + fading for place in places[1:])]
    wanted = {n for place, count in zip(places, counts, strict=True) for n in range(place, place + min(count, 60))}
    assert [n for n in clear if bright[n] > 100] == [n for n in clear if n in wanted]
    assert [n for n in clear if n not in wanted and bright[n]] == []
    first, third = pictures(target)[10], pictures(target)[places[2] + 30]
    width, height = write_title(tmp_path / "title", "sunday 1", 180, 312)
    drawn = np.frombuffer((tmp_path / "title").read_bytes(), np.uint8).reshape(height, width, 4)
    margin = round(180 * 0.02) // 2 * 2
    box = first[margin : margin + height, margin : margin + width].astype(float)
    assert np.corrcoef(box.ravel(), drawn[..., 0].ravel())[0, 1] > 0.95
    assert np.abs(first.astype(int) - third).max() > 100  # another number


def test_with_smart_cut_only_titled_and_faded_pictures_and_edges_are_encoded(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=30, width=160, height=96, sound=True)
    cuts = [Cut(0.5, 9.5), Cut(11.0, 20.0), Cut(21.3, 29.0)]
    assert write_aloud(source, cuts, target, look=Look(title="auto", fade_seconds=0.2)) == []
    total = 270 + 270 + 231 - 2 * 6
    # Titled and faded, then less than a GOP before each first keyframe, and two at each end.
    assert copied(source, target) >= total - (60 + 2 * 54 + 2 * 6) - 3 * 29 - 3 * 2
    shown = [read_number(picture) for picture in pictures(target)]
    rest = {n: number for n, number in enumerate(shown) if 60 <= n < 264}
    assert rest == {n: 15 + n for n in range(60, 264)}
    check_decodes(target)


def test_a_title_and_a_score_stand_below_each_other(tmp_path):
    source = grey(tmp_path / "a.mp4", 6)
    scores = pl.DataFrame({"time": [n / 3 for n in range(18)], "score": [0.25] * 18})
    write_reel(source, [Cut(1, 5)], tmp_path / "reel.mp4", overlay="score", scores=scores, progress=False)
    look = Look(title="{score}")
    write_reel(source, [Cut(1, 5)], tmp_path / "both.mp4", overlay="score", scores=scores, look=look, progress=False)
    plain, both = pictures(tmp_path / "reel.mp4"), pictures(tmp_path / "both.mp4")
    margin, high = round(180 * 0.02) // 2 * 2, write_title(tmp_path / "title", "0.25", 180, 300)[1]
    score, title = both[30][margin : margin + high], both[30][2 * margin + high : 2 * (margin + high)]
    assert np.abs(score.astype(int) - plain[30][margin : margin + high]).mean() < 1
    # The same text, a line lower.
    assert np.abs(score.astype(int) - title).mean() < 2
    assert np.abs(both[90].astype(int) - plain[90]).mean() < 1


# --- shapes ---

RED, GREEN, BLUE, WHITE = "0xff0000", "0x00ff00", "0x0000ff", "0xffffff"


def coloured(path: Path, size: str, boxes: list[tuple[str, str]]) -> Path:
    """A blue recording with boxes (`x:y:w:h` in ffmpeg's terms) of other colours."""
    drawn = "".join(f",drawbox={place}:color={colour}:t=fill" for place, colour in boxes)
    picture = f"color={BLUE}:s={size}:r=30:d=2{drawn},format=yuv420p"
    with open_ffmpeg(["-f", "lavfi", "-i", picture, "-c:v", "libx264", "-crf", "1", path]) as process:
        process.wait()
    return path


def colour_at(picture: np.ndarray, x: float, y: float) -> str:
    """The colour around a place, each from 0 to 1."""
    row, column = (min(int(place * side), side - 3) for place, side in zip((y, x), picture.shape, strict=False))
    mean = picture[row : row + 2, column : column + 2].reshape(-1, 3).mean(axis=0)
    names = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3, "black": (0,) * 3}
    return min(names, key=lambda name: float(np.abs(mean - names[name]).sum()))


def shaped(source: Path, tmp_path: Path, **options) -> np.ndarray:
    write_reel(source, [Cut(0.5, 1.5)], tmp_path / "reel.mp4", look=Look(**options), progress=False)
    shown = pictures(tmp_path / "reel.mp4", "rgb24")
    assert len(shown) == 30
    with av.open(str(tmp_path / "reel.mp4")) as container:
        assert (container.streams.video[0].codec_context.sample_aspect_ratio or 1) == 1
    return shown[15]


def test_vertical_is_the_middle_of_the_game(tmp_path):
    # The middle 9/16 of the height are 202 of 640 pixels, from 219 to 421.
    edges = [("x=0:y=0:w=216:h=ih", RED), ("x=424:y=0:w=216:h=ih", GREEN), ("x=216:y=300:w=208:h=60", WHITE)]
    shown = shaped(coloured(tmp_path / "a.mp4", "640x360", edges), tmp_path, shape="9:16")
    assert shown.shape == (640, 360, 3)
    row = [colour_at(shown, x, 0.4) for x in (0.01, 0.5, 0.98)]
    assert row == ["blue"] * 3
    # The lowest sixth is white.
    assert [colour_at(shown, 0.5, y) for y in (0.01, 0.81, 0.85, 0.99)] == ["blue", "blue", "white", "white"]


def test_the_face_cam_stands_whole_above_the_game(tmp_path):
    # 160 x 90 pixels at the lower left, with a white corner at its upper right.
    boxes = [("x=0:y=270:w=160:h=90", RED), ("x=120:y=270:w=40:h=22", WHITE), ("x=300:y=0:w=40:h=ih", GREEN)]
    source = coloured(tmp_path / "a.mp4", "640x360", boxes)
    shown = shaped(source, tmp_path, shape="9:16", face=(0, 0.75, 0.25, 1))
    assert shown.shape == (640, 360, 3)
    # 360 wide, so 202.5 high: a little less than a third.
    assert [colour_at(shown, x, 0.03) for x in (0.01, 0.7, 0.8, 0.99)] == ["red", "red", "white", "white"]
    assert [colour_at(shown, 0.99, y) for y in (0.065, 0.09, 0.305)] == ["white", "red", "red"]
    # The game's 296 middle pixels fill the rest: the green ones go from 0.43 to 0.57.
    assert [colour_at(shown, x, 0.325) for x in (0.01, 0.41, 0.45, 0.55, 0.59, 0.99)] == [
        *("blue", "blue", "green", "green", "blue", "blue")
    ]
    assert colour_at(shown, 0.5, 0.99) == "green"


def test_an_upright_face_cam_keeps_its_proportions_on_a_dark_ground(tmp_path):
    boxes = [("x=0:y=180:w=80:h=180", RED), ("x=300:y=0:w=40:h=ih", GREEN)]
    source = coloured(tmp_path / "a.mp4", "640x360", boxes)
    shown = shaped(source, tmp_path, shape="9:16", face=(0, 0.5, 0.125, 1))
    # A third is 214 pixels high, and the cam 96 wide in the middle: 0.37 to 0.63.
    assert [colour_at(shown, x, 0.3) for x in (0.39, 0.5, 0.61)] == ["red"] * 3
    ground = shown[100, 20].astype(int)
    assert 60 < ground[0] < 190
    assert ground[1:].max() < 40
    assert colour_at(shown, 0.5, 0.35) == "green"


def test_texts_in_a_vertical_reel_stand_on_the_game(tmp_path):
    source = grey(tmp_path / "a.mp4", 4, size="640x360")
    look = Look(title="a title that is far too long for a picture of so few pixels", shape="9:16", face=FACE)
    write_reel(source, [Cut(0, 4)], tmp_path / "reel.mp4", look=look, progress=False)
    shown = pictures(tmp_path / "reel.mp4")
    rows, columns = np.nonzero(shown[30] > 200)
    layout = plan_layout(640, 360, look)
    assert rows.min() > layout.panel
    assert rows.max() < layout.panel + 40
    assert columns.max() < 360 - 6
    assert not (shown[60] > 200).any()


@pytest.mark.parametrize(
    ("size", "edges", "row"),
    [
        # 160 pixels of 21:9 go, half at each side: red up to 80, white from 100.
        ("800x360", [("x=0:y=0:w=79:h=ih", RED), ("x=100:y=0:w=600:h=ih", WHITE)], ["blue", "white", "white", "blue"]),
        ("480x360", [("x=10:y=0:w=460:h=ih", WHITE)], ["black", "white", "white", "black"]),
    ],
)
def test_a_wide_picture_is_cropped_or_gets_bars(size, edges, row, tmp_path):
    shown = shaped(coloured(tmp_path / "a.mp4", size, edges), tmp_path, shape="16:9")
    assert shown.shape == (360, 640, 3)
    assert [colour_at(shown, x, 0.5) for x in (0.01, 0.2, 0.8, 0.98)] == row


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    make_numbered(tmp_path / "b.mp4", seconds=3, width=480, height=480)
    with open_ffmpeg(["-i", tmp_path / "b.mp4", "-vf", "setsar=16/9", tmp_path / "a.mp4"]) as process:
        process.wait()
    shown = shaped(tmp_path / "a.mp4", tmp_path, shape="16:9")
    assert shown.shape == (480, 854, 3)
    assert read_number(shown) == 30


def test_shaped_reels_fade_as_well(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=6, width=128, height=128, sound=True)
    look = Look(shape="16:9", fade_seconds=0.5)
    write_reel(source, [Cut(0, 2), Cut(3, 5)], target, look=look, progress=False)
    shown = [read_number(picture[:, 50:178]) for picture in pictures(target)]
    assert len(shown) == 105
    assert [*shown[:45], *shown[60:]] == [*range(45), *range(105, 150)]


# --- the command ---


def test_the_command_makes_a_vertical_reel_with_titles_and_fades(tmp_path):
    project = Project(tmp_path / "project")
    project.videos.mkdir(parents=True)
    make_numbered(project.videos / "sunday.mp4", seconds=8, width=160, height=96, sound=True)
    project.reel("sunday").parent.mkdir()
    project.reel("sunday", ".csv").write_text("video,start,end\nsunday,1,3\nsunday,5,7\n")
    project.scores("first", "sunday").parent.mkdir(parents=True)
    scores = pl.DataFrame({"video": ["sunday"] * 24, "time": [n / 3 for n in range(24)], "score": [0.25] * 24})
    scores.write_parquet(project.scores("first", "sunday"))

    def hlkit(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "from hlkit.cli import main; main()", "reel", *words]
        done = subprocess.run([*command, "--project", str(project.root)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    looks = ["--title", "{number} {score}", "--fade", "0.3", "--shape", "9:16", "--face", "0.5,0,1,0.5"]
    status, said = hlkit(*looks)
    assert (status, "sunday: a reel of 2 highlights, 0:00:04: " in said) == (0, True), said
    shown = pictures(project.reel("sunday"))
    assert (len(shown), shown[0].shape) == (111, (170, 96))
    assert hlkit(*looks) == (0, "sunday: reel already done.\n")
    status, said = hlkit("--face", "0.5,0,1,0.5")
    assert (status, said.splitlines()) == (
        1,
        ["hlkit: A face cam stands above the game only with shape 9:16, not 'source'."],
    )
    assert hlkit("--shape", "4:3")[0] == 2
    scores.write_parquet(project.scores("first", "sunday"), compression="uncompressed")
    assert "already done" not in hlkit(*looks)[1]


# --- refusals and kills ---


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    make_numbered(path, seconds=5, sound=True)
    return path


@pytest.mark.parametrize(
    ("cut", "look", "message"),
    [
        (
            "smart",
            Look(shape="16:9"),
            "Copied pictures can't have another shape. Choose cut 'encode' in place of 'smart'",
        ),
        ("keyframe", Look(shape="9:16"), "Choose cut 'encode' in place of 'keyframe', or shape 'source'"),
        ("keyframe", Look(title="auto"), "cut 'keyframe' encodes nothing. Choose cut 'smart' or 'encode'"),
        ("keyframe", Look(fade_seconds=0.1), "cut 'keyframe' encodes nothing"),
        (None, Look(title="{score}"), "no score is known"),
        (None, Look(fade_seconds=0.5), r"Cut 1 is 1\.00 s long, which is not longer than two fades of 0\.50 s"),
    ],
)
def test_looks_that_the_cuts_can_not_have(source, cut, look, message, tmp_path):
    with pytest.raises(HlkitError, match=message):
        write_reel(source, [Cut(1, 2), Cut(3, 5)], tmp_path / "reel.mp4", cut=cut, look=look, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["smart", "encode"])
def test_an_interrupted_reel_with_looks_goes_on_and_comes_out_the_same(source, mode, tmp_path, monkeypatch):
    cuts, look = [Cut(0.2, 1.4), Cut(1.7, 4.8), Cut(2, 3)], Look(title="auto", fade_seconds=0.2)
    write_reel(source, cuts, tmp_path / "clean" / "reel.mp4", cut=mode, look=look, progress=False)
    target, made = tmp_path / "reel.mp4", []
    # In the first fade, in the second cut, before its sound, and before the third's.
    for name, stop in (("_encode", 2), ("_encode", 2), ("write_sound", 2), ("write_sound", 3)):
        real, calls = getattr(reel, name), []

        def interrupt(*args, real=real, calls=calls, stop=stop):
            calls.append(args)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(reel, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                write_reel(source, cuts, target, cut=mode, look=look, progress=False)
        assert not target.exists()
    real = reel._encode
    monkeypatch.setattr(reel, "_encode", lambda *args: made.append(args[2]) or real(*args))
    write_reel(source, cuts, target, cut=mode, look=look, progress=False)
    assert made == [len(plan_parts([36, 93, 30], fade=6, titled=60 if mode == "smart" else 0)) - 1]
    assert target.read_bytes() == (tmp_path / "clean" / "reel.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "reel.mp4"]


def test_another_look_is_another_reel(source, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    names = set()
    for look in (Look(), Look(title="a"), Look(title="b"), Look(fade_seconds=0.1), Look(shape="9:16")):
        with monkeypatch.context() as patch:
            patch.setattr(reel, "join_cuts", interrupt)
            with pytest.raises(KeyboardInterrupt):
                write_reel(source, [Cut(1, 2), Cut(3, 4)], tmp_path / "reel.mp4", look=look, progress=False)
        (left,) = tmp_path.iterdir()
        assert re.fullmatch(r"\.part-reel-[0-9a-f]{16}", left.name)
        names.add(left.name)
    assert len(names) == 5
