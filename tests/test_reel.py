from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
import warnings
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import SOUND_RATE, make_numbered, number_at, read_number

from hlkit import reel
from hlkit.labels import read_labels
from hlkit.overlay import ScoreTexts, draw_texts, score_texts
from hlkit.project import HlkitError, HlkitWarning
from hlkit.reel import Cut, plan_cuts, reel_rate, write_cut_list, write_reel
from hlkit.video import VideoInfo, probe


def info(fps: str = "30", duration: float = 100.0) -> VideoInfo:
    return VideoInfo(Path("a.mp4"), duration, 640, 360, Fraction(fps), 0.0, "h264", True)


def spans(*pairs: tuple[float, float], **columns) -> pl.DataFrame:
    table = {"start": [start for start, _ in pairs], "end": [end for _, end in pairs], **columns}
    return pl.DataFrame(table, schema_overrides={"start": pl.Float64, "end": pl.Float64})


def decode(path: Path) -> tuple[list[int], list[Fraction], np.ndarray]:
    """The numbers on a reel's pictures, their times, and its sound, f32 (samples,), from time 0."""
    numbers, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            numbers.append(read_number(frame.to_ndarray(format="gray")))
            times.append(frame.pts * frame.time_base)
    sound = np.zeros(0, np.float32)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0) if container.streams.audio else ():
            block = frame.to_ndarray().mean(axis=0)
            begin = round(frame.pts * frame.time_base * frame.sample_rate)
            sound = np.concatenate([sound, np.zeros(max(0, begin + len(block) - len(sound)), np.float32)])
            sound[max(0, begin) : begin + len(block)] = block[max(0, -begin) :]
    return numbers, times, sound


def write_aloud(source: Path, cuts, target: Path, **options) -> list[str]:
    """Write a reel; what it warned of, without the recording's name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_reel(source, cuts, target, progress=False, **options)
    return [str(each.message).removeprefix(f"{source.name}: ") for each in caught if each.category is HlkitWarning]


# --- the plan ---


def test_cuts_take_the_pictures_whose_times_lie_in_the_highlight():
    # At 30 fps the pictures of [1.01, 2.02) are 31 (1.0333 s) to 60 (2.0 s).
    assert plan_cuts(spans((1.01, 2.02)), info()) == (Cut(31 / 30, 61 / 30),)
    assert plan_cuts(spans((1.1, 1.2)), info()) == (Cut(33 / 30, 36 / 30),)


def test_cuts_are_clipped_sorted_and_merged():
    table = spans((50, 60), (-5, 1), (99, 200), (10, 20), (15, 25), (25, 26), (300, 301))
    assert [(cut.start, cut.end) for cut in plan_cuts(table, info())] == [(0, 1), (10, 26), (50, 60), (99, 100)]


def test_scores_are_carried_and_the_higher_one_wins():
    table = spans((1, 2), (1.5, 3), (5, 6), score=[0.5, 0.75, None])
    assert plan_cuts(table, info()) == (Cut(1, 3, 0.75), Cut(5, 6, None))


def test_a_highlight_between_two_pictures_is_left_out():
    assert plan_cuts(spans((1.001, 1.002)), info()) == ()
    assert plan_cuts(spans(), info()) == ()


@pytest.mark.parametrize("pair", [(2, 1), (1, 1), (math.nan, 1), (1, math.nan)])
def test_a_reversed_highlight_is_refused(pair):
    with pytest.raises(HlkitError, match="Its end must come after its start"):
        plan_cuts(spans(pair), info())


def test_highlights_of_two_videos_are_refused():
    with pytest.raises(HlkitError, match="several videos"):
        plan_cuts(spans((1, 2), (3, 4), video=["a", "b"]), info())


@given(
    st.lists(st.tuples(st.floats(-10, 120), st.floats(0.001, 40)), max_size=12),
    st.sampled_from(["30", "30000/1001", "60000/1001", "24000/1001", "35", "28.37"]),
)
def test_every_picture_in_a_highlight_is_shown_once_and_no_other(pairs, fps):
    recording = info(fps)
    rate = reel_rate(recording)
    cuts = plan_cuts(spans(*((start, start + length) for start, length in pairs)), recording)
    shown = np.concatenate([[], *(np.arange(round(cut.start * rate), round(cut.end * rate)) for cut in cuts)])
    times = np.arange(math.ceil(100 * rate)) / float(rate)
    inside = np.zeros((2, len(times)), dtype=bool)
    for start, length in pairs:
        for row, slack in enumerate((-1e-6, 1e-6)):  # spans a little shorter, a little longer: floats are not exact
            inside[row] |= (start - slack <= times) & (times < start + length + slack)
    assert set(np.flatnonzero(inside[0])) <= set(shown) <= set(np.flatnonzero(inside[1]))
    assert np.all(np.diff(shown) > 0)
    assert all(before.end < after.start for before, after in pairwise(cuts))


@pytest.mark.parametrize(
    ("average", "rate"),
    [
        ("30", "30"),
        ("29.9998", "30"),
        ("2997/100", "30000/1001"),
        ("23.98", "24000/1001"),
        ("24.001", "24"),
        ("59.9399", "60000/1001"),
        ("35", "35"),
        ("28.37", "28.37"),
        ("1000", "240"),
    ],
)
def test_the_rate_is_freed_of_rounding(average, rate):
    assert reel_rate(info(average)) == Fraction(rate)


@pytest.mark.parametrize("pair", [(1, 1), (2, 1), (-1, 1), (0, math.inf), (math.nan, 1)])
def test_impossible_cuts(pair):
    with pytest.raises(HlkitError, match="Give 0 <= start < end"):
        Cut(*pair)


def test_the_cut_list_can_be_read_as_labels(tmp_path):
    write_cut_list([Cut(61.25, 3671.5, 0.87654), Cut(4000, 4001)], tmp_path / "cuts.csv")
    text = (tmp_path / "cuts.csv").read_text()
    assert text == "start,end,score\n0:01:01.250,1:01:11.500,0.8765\n1:06:40.000,1:06:41.000,\n"
    pl.read_csv(tmp_path / "cuts.csv").drop("score").write_csv(tmp_path / "labels.csv")
    assert read_labels(tmp_path / "labels.csv", video="a")["end"].to_list() == [3671.5, 4001]


# --- the pictures ---

CUTS = [(0.0, 0.5), (1.1, 2.3), (2.4, 2.5), (4.0, 5.97)]


def expected_numbers(times: list[Fraction], cuts, rate: Fraction) -> list[int]:
    """What the reel shows: from the picture nearest to a cut's start, the one on screen amid each reel picture."""
    numbers = []
    for cut in cuts:
        half = 1 / rate / 2
        latest = max((time for time in times if time <= Fraction(cut.start) + half), default=Fraction(0))
        begin = latest if latest >= Fraction(cut.start) - half else Fraction(cut.start)
        count = round((Fraction(cut.end) - Fraction(cut.start)) * rate)
        numbers += [number_at(times, begin + (n + Fraction(1, 2)) / rate) for n in range(count)]
    return numbers


def picture_times(path: Path) -> list[Fraction]:
    """When each picture comes on screen, in seconds from the container's start, as the container says."""
    with av.open(str(path)) as container:
        origin = Fraction(container.start_time, 1_000_000)
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        return sorted(packet.pts * packet.time_base - origin for packet in packets)


LATE = "1 of 4 cuts are encoded in place of copied: no picture is there yet when it begins."
OPEN = (
    "2 of 4 cuts are encoded in place of copied: its GOPs are open: pictures after a keyframe need some from before it."
)


@pytest.mark.parametrize("cut", ["smart", "encode"])
@pytest.mark.parametrize(
    ("suffix", "fps", "options", "said"),
    [
        ("mp4", "30", {}, []),
        ("mp4", "60000/1001", {"gop": 250}, []),
        ("mp4", "24000/1001", {"start": 0.3}, [LATE]),
        ("mkv", "30000/1001", {}, []),
        ("mkv", "60", {"sound": False}, []),
        ("ts", "30", {"gop": 60}, []),
        ("ts", "60000/1001", {"start": 0.21}, [LATE]),
        ("mp4", "30", {"options": {"x264-params": "open-gop=1"}, "bframes": 4}, [OPEN]),
        # Without an edit list the pictures come as much later as B-frames are reordered.
        ("mp4", "30", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "start": 0.0}, [LATE]),
    ],
)
def test_the_reel_shows_exactly_the_pictures_of_the_cuts(suffix, fps, options, said, cut, tmp_path):
    source, target = tmp_path / f"it's a, 100%; [source]:.{suffix}", tmp_path / "out put's" / "reel.mp4"
    make_numbered(source, seconds=6, fps=fps, **{"sound": True, **options})
    cuts = plan_cuts(spans(*CUTS), probe(source))
    assert write_aloud(source, cuts, target, cut=cut) == (said if cut == "smart" else [])
    numbers, shown_at, sound = decode(target)
    rate = Fraction(fps)
    if "start" in options:
        times = picture_times(source)
        assert numbers == expected_numbers(times, cuts, rate)
    else:
        first_and_stop = [(math.ceil(start * rate - 1e-6), math.ceil(end * rate - 1e-6)) for start, end in CUTS]
        assert numbers == [n for first, stop in first_and_stop for n in range(first, stop)]
    assert shown_at == [n / rate for n in range(len(numbers))]
    if options.get("sound", True):
        assert len(sound) / SOUND_RATE == pytest.approx(len(numbers) / rate, abs=1024 / SOUND_RATE)
    assert [path.name for path in target.parent.iterdir()] == ["reel.mp4"]


def test_a_variable_rate_becomes_constant(tmp_path):
    source, target = tmp_path / "vfr.mp4", tmp_path / "reel.mp4"
    times = make_numbered(source, seconds=8, fps=30, vfr=True, sound=True)
    cuts = plan_cuts(spans((0.5, 2.0), (3.01, 4.4), (5.0, 7.9)), probe(source))
    unsteady = "3 of 3 cuts are encoded in place of copied: its pictures do not come at a steady rate."
    assert write_aloud(source, cuts, target) == [unsteady]
    numbers, shown_at, _ = decode(target)
    rate = reel_rate(probe(source))
    assert shown_at == [pytest.approx(n / rate, abs=1e-6) for n in range(len(numbers))]
    assert len(set(np.diff([round(time * 1_000_000) for time in shown_at]))) <= 2
    assert numbers == expected_numbers(times, cuts, rate)


def test_a_picture_that_stays_for_seconds_is_there_when_a_cut_begins_with_it(tmp_path):
    source, target = tmp_path / "slow.mp4", tmp_path / "reel.mp4"
    times = make_numbered(source, seconds=60, fps="1/2", vfr=True, gop=250)
    cuts = [Cut(start, start + 4) for start in range(6, 50, 6)]
    write_reel(source, cuts, target, cut="encode", progress=False)
    rate = reel_rate(probe(source))
    begins = [max(time for time in times if time <= cut.start + 1 / rate / 2) for cut in cuts]
    assert any(cut.start - begin > 1.5 for cut, begin in zip(cuts, begins, strict=True))
    assert decode(target)[0] == expected_numbers(times, cuts, rate)


def test_what_the_file_is(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=3, width=67 // 2 * 2, sound=True)
    write_reel(tmp_path / "a.mp4", [Cut(1, 2)], tmp_path / "reel.mp4", progress=False)
    with av.open(str(tmp_path / "reel.mp4")) as container:
        video, audio = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
        assert (video.name, video.pix_fmt, video.width, video.height) == ("h264", "yuv420p", 66, 64)
        assert (audio.name, audio.sample_rate, audio.layout.name) == ("aac", 48_000, "stereo")
        assert container.streams.video[0].average_rate == 30
    data = (tmp_path / "reel.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_cuts_keep_the_order_they_are_given_in(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=3)
    write_reel(tmp_path / "a.mp4", [Cut(2, 2.1), Cut(0, 0.1), Cut(2, 2.1)], tmp_path / "reel.mp4", progress=False)
    numbers, _, sound = decode(tmp_path / "reel.mp4")
    assert numbers == [60, 61, 62, 0, 1, 2, 60, 61, 62]
    assert len(sound) == 0


# --- the sound ---


def bursts(seconds: float, every: float) -> np.ndarray:
    """10 ms of noise at every multiple of `every`, each its own, else silence."""
    dice = np.random.default_rng(0)
    sound = np.zeros(round(seconds * SOUND_RATE))
    for begin in np.arange(0, seconds - 0.01, every):
        place = round(begin * SOUND_RATE)
        sound[place : place + 480] = dice.uniform(-0.8, 0.8, 480)
    return sound


def lag(heard: np.ndarray, wanted: np.ndarray) -> int:
    """By how many samples `heard` comes after `wanted`, from the peak of their correlation."""
    size = 1 << (len(heard) + len(wanted)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size)), size)
    peak = int(np.argmax(correlation))
    return peak - size if peak > size // 2 else peak


def check_sync(source: Path, sound: np.ndarray, cuts, target: Path, late: float = 0.0) -> list[int]:
    """By how many samples each cut's sound comes after the picture that belongs to it; checks the pictures as well."""
    rate = reel_rate(probe(source))
    numbers, _, heard = decode(target)
    counts = [round((cut.end - cut.start) * rate) for cut in cuts]
    lags, place = [], 0
    for cut, count in zip(cuts, counts, strict=True):
        first = round((cut.start - late) * rate)
        assert numbers[place : place + count] == list(range(first, first + count))
        begin, end = (round(n / rate * SOUND_RATE) for n in (place, place + count))
        source_begin = round((first / rate + late) * SOUND_RATE)
        lags.append(lag(heard[begin:end], sound[source_begin : source_begin + end - begin]))
        place += count
    return lags


@pytest.mark.parametrize(("suffix", "fps"), [("mp4", "30"), ("mkv", "30000/1001"), ("ts", "60000/1001")])
@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_beeps_stay_with_their_flashes_over_all_cuts(suffix, fps, count, tmp_path):
    source, sound = tmp_path / f"a.{suffix}", bursts(30, 0.25)
    make_numbered(source, seconds=30, fps=fps, sound=sound)
    dice = random.Random(count)
    starts = [dice.uniform(0, 29) for _ in range(count)]
    cuts = [plan_cuts(spans((start, start + dice.uniform(0.4, 0.9))), probe(source))[0] for start in starts]
    write_reel(source, cuts, tmp_path / "reel.mp4", progress=False)
    lags = check_sync(source, sound, cuts, tmp_path / "reel.mp4")
    # Matroska rounds times to a millisecond, 48 samples. In MPEG-TS the encoder's first 1024 samples are heard.
    late, tolerance = {"mp4": (0, 2), "mkv": (0, 48), "ts": (1024, 2)}[suffix]
    assert max(abs(each - late) for each in lags) <= tolerance, lags


def test_a_late_picture_track_stays_in_step(tmp_path):
    source, sound = tmp_path / "a.mp4", bursts(6, 0.25)
    make_numbered(source, seconds=5, sound=sound, start=0.5)
    cuts = plan_cuts(spans((1, 2.5), (3, 4.5)), probe(source))
    write_reel(source, cuts, tmp_path / "reel.mp4", progress=False)
    assert check_sync(source, sound, cuts, tmp_path / "reel.mp4", late=0.5) == [0, 0]


def test_sound_that_ends_early_is_filled_with_silence(tmp_path):
    source, sound = tmp_path / "a.mp4", bursts(2, 0.25)
    make_numbered(source, seconds=6, sound=sound)
    cuts = [Cut(1, 3), Cut(4, 5), Cut(0.5, 1.5)]
    write_reel(source, cuts, tmp_path / "reel.mp4", progress=False)
    numbers, _, heard = decode(tmp_path / "reel.mp4")
    assert numbers == [*range(30, 90), *range(120, 150), *range(15, 45)]
    whole = np.concatenate([sound[SOUND_RATE:], np.zeros(2 * SOUND_RATE), sound[SOUND_RATE // 2 : 3 * SOUND_RATE // 2]])
    assert abs(lag(heard, whole)) <= 2
    assert np.abs(heard[round(1.1 * SOUND_RATE) : round(2.9 * SOUND_RATE)]).max() < 0.01
    assert np.abs(heard[round(3.0 * SOUND_RATE) :]).max() > 0.3


# --- the score on the picture ---


def test_texts_follow_the_table_with_its_gaps():
    texts = score_texts(pl.DataFrame({"time": [2.0, 2.5, 3.0, 4.5], "score": [0.1, 0.256, 0.3, 1.0]}))
    assert texts == ScoreTexts((2.0, 2.5, 3.0, 4.5), ("0.10", "0.26", "0.30", "1.00"), 0.5)
    seen = [texts.at(time) for time in (0, 1.99, 2.0, 2.49, 2.5, 3.7, 3.8, 4.5, 5.2, 5.3)]
    assert seen == ["", "", "0.10", "0.10", "0.26", "0.30", "", "1.00", "1.00", ""]
    assert texts.grid(2.75, 4.6) == (-0.25, ["0.26", "0.30", "0.30", "", "1.00", "1.00", ""][:6])


def test_of_several_classes_the_likeliest_is_named():
    table = pl.DataFrame({"video": "a", "time": [0.0, 1.0], "score_kill": [0.9, 0.1], "score_fall": [0.2, 0.4]})
    assert score_texts(table).texts == ("kill 0.90", "fall 0.40")


@pytest.mark.parametrize(
    "table",
    [
        {"time": [], "score": []},
        {"time": [1.0, 1.0], "score": [0.0, 0.0]},
        {"time": [1.0]},
        {"score": [1.0]},
        {"video": ["a", "b"], "time": [0.0, 1.0], "score": [0.0, 1.0]},
    ],
)
def test_score_tables_that_do_not_serve(table):
    with pytest.raises(HlkitError, match="score"):
        score_texts(pl.DataFrame(table))


def test_the_score_changes_with_every_time_step(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=6, width=320, height=240, first=0)
    scores = pl.DataFrame({"video": "a", "time": [n / 3 for n in range(18)], "score": [n / 20 for n in range(18)]})
    cuts = [Cut(1.1, 2.5), Cut(4.0, 5.0)]
    write_reel(source, cuts, target, overlay="score", scores=scores, progress=False)
    shown = [n / 30 for cut in cuts for n in range(round(cut.start * 30), round(cut.end * 30))]
    wanted = [f"{math.floor(time * 3 + 1e-6) / 20:.2f}" for time in shown]
    candidates = {text: draw_texts([text], 240)[text] for text in set(wanted)}
    margin = round(240 * 0.02) // 2 * 2
    read = []
    with av.open(str(target)) as container:
        for frame in container.decode(video=0):
            grey = frame.to_ndarray(format="gray").astype(float)
            distance = {}
            for text, box in candidates.items():
                patch = grey[margin : margin + box.shape[0], margin : margin + box.shape[1]]
                distance[text] = np.abs((patch > 180) * 255.0 - box[..., 0]).mean()
            read.append(min(distance, key=distance.__getitem__))
    assert read == wanted
    assert len(set(wanted)) == 8


# --- faults ---


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    make_numbered(path, seconds=5, sound=True)
    return path


@pytest.mark.parametrize(
    ("cuts", "name", "options", "message"),
    [
        ([], "reel.mp4", {}, "There is nothing to cut"),
        ([Cut(1, 2)], "reel.mkv", {}, r"Give a new name that ends with \.mp4"),
        ([Cut(1, 2)], "reel.mp4", {"crf": 52}, r"Give 0 \(lossless\) to 51"),
        ([Cut(1, 2)], "reel.mp4", {"overlay": "score"}, "needs the score table"),
        ([Cut(1, 2), Cut(4, 6)], "reel.mp4", {}, "The cut 0:00:04.000 to 0:00:06.000 does not lie in the recording"),
        ([Cut(1, 1.001)], "reel.mp4", {}, "is shorter than a picture"),
    ],
)
def test_bad_wishes_leave_an_earlier_reel_alone(source, cuts, name, options, message, tmp_path):
    (tmp_path / name).write_bytes(b"earlier")
    with pytest.raises(HlkitError, match=message):
        write_reel(source, cuts, tmp_path / name, progress=False, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"earlier"}


def test_the_recording_is_not_overwritten(source):
    with pytest.raises(HlkitError, match="Give a new name"):
        write_reel(source, [Cut(1, 2)], source.parent / "." / source.name, progress=False)


def test_a_recording_that_breaks_off_is_named(tmp_path):
    path = tmp_path / "a.mp4"
    make_numbered(path, seconds=20, sound=True, width=128, height=128, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(HlkitError, match=r"a\.mp4 ends before 0:00:18\.000, though it says that it is longer"):
        write_reel(path, [Cut(16, 18), Cut(1, 3)], tmp_path / "reel.mp4", progress=False)
    assert [each.name for each in tmp_path.iterdir()] == ["a.mp4"]


def test_pictures_that_are_missing_in_the_middle_are_named(source, tmp_path, monkeypatch):
    real = reel.render
    monkeypatch.setattr(reel, "render", lambda stretches, count, *rest: real(stretches, count - 1, *rest))
    with pytest.raises(HlkitError, match=r"a\.mp4 gave 29 of the 30 pictures of the cut 0:00:01\.000 to 0:00:02\.000"):
        write_reel(source, [Cut(1, 2)], tmp_path / "reel.mp4", cut="encode", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["reel.mp4", "reels/reel.mp4"])
def test_a_folder_of_the_reels_name_is_noticed_before_the_work(source, name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(reel, "_make", None)
    with pytest.raises(HlkitError, match="can't be written: a folder has that name"):
        write_reel(source, [Cut(1, 2)], tmp_path / name, progress=False)


def test_a_folder_that_can_not_be_written(source, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HlkitError, match="can't be written: "):
        write_reel(source, [Cut(1, 2)], tmp_path / "file" / "reel.mp4", progress=False)


# --- kill -9 ---

CHILD = """
import os, sys
from pathlib import Path
from hlkit import reel
def loud(call):
    def wrapped(*args):
        say()
        result = call(*args)
        say()
        return result
    return wrapped
def say():
    os.write(1, b".\\n")
    os.read(0, 1)
for name in ("_run", "write_splice", "write_sound", "join_cuts", "count_pictures"):
    setattr(reel, name, loud(getattr(reel, name)))
cuts = [reel.Cut(start + 0.6, start + 1.5) for start in (0, 1, 2, 3)]
reel.write_reel(Path(sys.argv[1]), cuts, Path(sys.argv[2]), cut=sys.argv[3], progress=False)
"""
# Before and after what is done for each of four cuts (`write_sound`; `_run` and `count_pictures`, or `write_splice`),
# then `join_cuts` and `count_pictures`.
WORDS = {"encode": 4 * 6 + 4, "smart": 4 * 4 + 4}


def kill_a_reel(source: Path, target: Path, mode: str, words: int) -> int:
    """Make a reel in a process of its own, and kill -9 it while it waits at so many words; its exit status."""
    command = [sys.executable, "-c", CHILD, str(source), str(target), mode]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None and child.stdout is not None
    for word in range(1, words + 1):
        if not child.stdout.readline():
            break
        if word < words:
            child.stdin.write(b".")
    else:
        child.kill()
    child.stdin.close()
    child.stdout.close()
    return child.wait()


@pytest.mark.parametrize("mode", ["smart", "encode"])
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_reel_leaves_nothing_and_is_taken_up(source, kills, mode, tmp_path, monkeypatch):
    cuts, target = [Cut(start + 0.6, start + 1.5) for start in (0, 1, 2, 3)], tmp_path / "reel.mp4"
    write_reel(source, cuts, tmp_path / "clean.mp4", cut=mode, progress=False)
    # Killed when two cuts are finished: the other two are made, and no more.
    assert kill_a_reel(source, target, mode, WORDS[mode] // 2 - 1) == -signal.SIGKILL
    assert not target.exists()
    made = []
    for name in ("_run", "write_splice"):
        real = getattr(reel, name)
        monkeypatch.setattr(reel, name, lambda *args, real=real: made.append(args) or real(*args))
    write_reel(source, cuts, target, cut=mode, progress=False)
    assert len(made) == 2
    assert target.read_bytes() == (tmp_path / "clean.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.mp4", "reel.mp4"]
    target.unlink()

    # Killed anywhere, one time after the other, a run that takes up what those before it left ends alike.
    dice = random.Random(1)
    for words in (dice.randrange(1, WORDS[mode]) for _ in range(kills - 1)):
        if kill_a_reel(source, target, mode, words) == 0:
            assert target.read_bytes() == (tmp_path / "clean.mp4").read_bytes()
            target.unlink()
        assert not target.exists()
    write_reel(source, cuts, target, cut=mode, progress=False)
    assert target.read_bytes() == (tmp_path / "clean.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.mp4", "reel.mp4"]


def test_the_reel_appears_only_after_it_was_checked(source, tmp_path, monkeypatch):
    target, seen, real = tmp_path / "reel.mp4", [], reel.count_pictures

    def count(path):
        seen.append(target.exists())
        return real(path)

    monkeypatch.setattr(reel, "count_pictures", count)
    write_reel(source, [Cut(1, 1.5)], target, cut="encode", progress=False)
    assert seen == [False, False]
    assert target.exists()


def test_an_interrupted_reel_goes_on_and_a_changed_one_starts_anew(source, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    cuts, target = [Cut(1, 1.5), Cut(3, 3.5)], tmp_path / "reel.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(reel, "join_cuts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_reel(source, cuts, target, progress=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".part-reel-")
    write_reel(source, cuts[::-1], target, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["reel.mp4"]
    assert decode(target)[0] == [*range(90, 105), *range(30, 45)]


HELD = """
import sys
from pathlib import Path
from hlkit import reel
real = reel.join_cuts
def waits(*args):
    print("at work", flush=True)
    sys.stdin.readline()
    return real(*args)
reel.join_cuts = waits
reel.write_reel(Path(sys.argv[1]), [reel.Cut(1, 1.5)], Path(sys.argv[2]), progress=False)
"""


@pytest.mark.parametrize("cuts", [[Cut(1, 1.5)], [Cut(2, 2.5)]])
def test_a_second_run_at_the_same_time_says_so_and_harms_nothing(source, cuts, tmp_path):
    target = tmp_path / "reel.mp4"
    command = [sys.executable, "-c", HELD, source, target]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "at work\n"
    says = r"^The reel reel\.mp4 is being made in another notebook or terminal\. Wait until that is done"
    with pytest.raises(HlkitError, match=says):
        write_reel(source, cuts, target, progress=False)
    first.communicate("go on\n")
    assert first.returncode == 0
    assert decode(target)[0] == list(range(30, 45))
    write_reel(source, cuts, target, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["reel.mp4"]


def test_progress_ends_at_the_number_of_pictures(source, tmp_path, capsys):
    write_reel(source, [Cut(1, 1.5), Cut(3, 3.5)], tmp_path / "reel.mp4")
    assert "reel: 100%" in (text := capsys.readouterr().err)
    assert "30/30" in text.replace("\r", "\n").strip().splitlines()[-1]
