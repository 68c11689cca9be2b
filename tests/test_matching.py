"""What a highlight video shows of a stream is found: real encodings of the demo recordings, and the pure parts."""

import fcntl
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlkit import glimpses, stages
from hlkit.borders import fit_end
from hlkit.evidence import Evidence, best_elsewhere
from hlkit.excerpts import Excerpts
from hlkit.fingerprints import SIDE, tile_prints, unit_prints
from hlkit.frames import extract_frames
from hlkit.glimpses import worth_decoding
from hlkit.labels import MARK_SCHEMA
from hlkit.landmarks import LANDMARKS, SLICE_SECONDS, agreements, pair, peaks, votes
from hlkit.matching import MATCH_SCHEMA, match_reel
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.stages.matched import subtract, with_match, with_rest
from hlkit.tracing import FINER, trace
from hlkit.video import find_ffmpeg

DATA = Path(__file__).parent.parent / "data" / "demo"
STREAM, OTHER = DATA / "demo_a.mp4", DATA / "demo_b.mp4"
SIZE = "scale=426:240,setsar=1"


def edit(target, *parts, look=SIZE, fps=25, fade=0.0, sound="anull", music=False, silent=False, extra=()):
    """Clips `(file, start, end)` joined with other size, rate and encoder settings; `look` and `sound` are filters."""
    words, chains = [], []
    for number, (file, start, end) in enumerate(parts):
        words += ["-ss", str(start), "-t", str(end - start), "-i", str(file)]
        chains.append(f"[{number}:v]{look},fps={fps},settb=AVTB,format=yuv420p[v{number}]")
        chains.append(f"[{number}:a]aresample=44100,{sound}[a{number}]")
    done, last = parts[0][2] - parts[0][1], "0"
    for number in range(1, len(parts)):
        if fade:
            chains.append(f"[v{last}][v{number}]xfade=duration={fade}:offset={done - fade:.3f}[vx{number}]")
            chains.append(f"[a{last}][a{number}]acrossfade=d={fade}[ax{number}]")
        else:
            chains.append(f"[v{last}][a{last}][v{number}][a{number}]concat=n=2:v=1:a=1[vx{number}][ax{number}]")
        done, last = done + parts[number][2] - parts[number][1] - fade, f"x{number}"
    if music:
        words += ["-f", "lavfi", "-i", "aevalsrc='0.08*sin(880*t*(2+floor(mod(2*t,4))))':s=44100"]
        chains.append(f"[a{last}][{len(parts)}:a]amix=duration=first:normalize=0[am]")
    maps = ["-map", f"[v{last}]"] + ([] if silent else ["-map", "[am]" if music else f"[a{last}]"])
    chains += [f"[a{last}]anullsink"] if silent else []
    command = [find_ffmpeg(), "-v", "error", "-y", *words, "-filter_complex", ";".join(chains), *maps]
    subprocess.run([*command, "-preset", "veryfast", "-crf", "27", *extra, str(target)], check=True)
    return target


def ends(table):
    return [(row["start"], row["end"]) for row in table.iter_rows(named=True)]


def assert_near(table, expected, within=0.15):
    assert len(table) == len(expected), table
    for found, wanted in zip(ends(table), sorted(expected), strict=True):
        assert found == pytest.approx(wanted, abs=within)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    parts = [(STREAM, 200, 206), (OTHER, 40, 45), (STREAM, 50, 54.5), (STREAM, 120, 130)]
    return edit(tmp_path_factory.mktemp("reels") / "best.mp4", *parts)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A stream of half a minute."""
    return edit(tmp_path_factory.mktemp("stream") / "short.mp4", (STREAM, 110, 140), look="null", fps=35)


def test_clips_in_another_order_size_and_rate_are_found_and_foreign_ones_are_not(clean):
    table = match_reel(STREAM, clean, progress=False)
    assert table.schema == MATCH_SCHEMA
    assert_near(table, [(50, 54.5), (120, 130), (200, 206)], within=0.08)
    assert table["reel_start"].to_list() == pytest.approx([11.0, 15.5, 0.0], abs=0.06)
    assert table["reel_end"].to_list() == pytest.approx([15.5, 25.5, 6.0], abs=0.06)
    assert set(table["video"]) == {"demo_a"} and set(table["label"]) == {"highlight"}
    assert table["confidence"].min() > 0.8


def test_titles_music_and_cross_fades_do_not_hide_a_clip(tmp_path):
    parts = [(STREAM, 300, 308), (STREAM, 60, 66), (OTHER, 100, 106), (STREAM, 196, 203)]
    look = f"{SIZE},drawbox=x=20:y=150:w=260:h=60:color=navy:t=fill,eq=brightness=0.06:contrast=1.15"
    reel = edit(tmp_path / "reel.mp4", *parts, look=look, fade=0.6, music=True)
    assert_near(match_reel(STREAM, reel, progress=False), [(60, 66), (196, 203), (300, 308)], within=0.4)


def test_a_reel_of_another_stream_gives_nothing(tmp_path):
    reel = edit(tmp_path / "reel.mp4", *[(OTHER, start, start + 7) for start in (3, 60, 120, 180, 230)])
    assert match_reel(STREAM, reel, progress=False).is_empty()


@pytest.mark.slow
def test_the_frame_store_gives_what_decoding_gives(clean, tmp_path):
    index = extract_frames(STREAM, tmp_path / "demo_a", video_id="demo_a", progress=False)
    assert_near(
        match_reel(STREAM, clean, frames=index, root=tmp_path, progress=False), [(50, 54.5), (120, 130), (200, 206)]
    )


def test_a_long_stream_is_decoded_only_where_its_keyframes_look_like_the_reel(clean, monkeypatch):
    asked = []
    between = Excerpts.between

    def counted(self, start, end, *, rate):
        asked.append((rate, end - start))
        return between(self, start, end, rate=rate)

    monkeypatch.setattr(glimpses, "WHOLE_SECONDS", 0.0)
    monkeypatch.setattr(Excerpts, "between", counted)
    assert_near(match_reel(STREAM, clean, progress=False), [(50, 54.5), (120, 130), (200, 206)])
    assert 0 < sum(seconds for rate, seconds in asked if rate == glimpses.RATE) < 180  # of 360 s


@pytest.mark.slow
def test_a_clock_that_drifts_and_a_long_clip(tmp_path):
    """24 pictures a second played as 23.976 last a thousandth longer."""
    slow = f"{SIZE},setpts=PTS*1.001"
    reel = edit(tmp_path / "reel.mp4", (STREAM, 100, 190), look=slow, fps="24000/1001", sound="atempo=0.999")
    assert_near(match_reel(STREAM, reel, progress=False), [(100, 190)])


def test_a_reel_that_is_longer_than_the_stream(short):
    table = match_reel(short, STREAM, progress=False)
    assert_near(table, [(0, 30)])
    assert table["reel_start"].item() == pytest.approx(110, abs=0.1)


@pytest.mark.parametrize(
    "which", ["both", *(pytest.param(which, marks=pytest.mark.slow) for which in ("reel", "stream"))]
)
def test_without_sound_the_pictures_suffice(short, tmp_path, which):
    stream, reel = short, edit(tmp_path / "reel.mp4", (STREAM, 115, 124), silent=which != "stream")
    if which != "reel":
        stream = edit(tmp_path / "stream.mp4", (STREAM, 110, 140), look="null", fps=35, silent=True)
    assert_near(match_reel(stream, reel, progress=False), [(5, 14)])


def test_the_streams_sound_under_other_pictures_is_no_clip(short, tmp_path):
    """As where the streamer's music is the reel's music too."""
    sound = edit(tmp_path / "sound.mp4", (STREAM, 112, 127))
    reel = tmp_path / "reel.mp4"
    other = ["-ss", "70", "-t", "15", "-i", str(OTHER), "-i", str(sound), "-map", "0:v", "-map", "1:a"]
    subprocess.run([find_ffmpeg(), "-v", "error", *other, str(reel)], check=True)
    assert match_reel(short, reel, progress=False).is_empty()


def test_a_still_picture_tells_no_time(short, tmp_path):
    still = edit(tmp_path / "still.mp4", (STREAM, 120, 130), look=f"{SIZE},loop=-1:1:0,trim=duration=10", silent=True)
    assert match_reel(short, still, progress=False).is_empty()


def test_a_reel_shorter_than_a_second(short, tmp_path):
    assert match_reel(short, edit(tmp_path / "reel.mp4", (STREAM, 120, 120.6)), progress=False).is_empty()


def test_what_the_stream_shows_twice_is_left_out_and_told(tmp_path):
    stream = edit(tmp_path / "stream.mp4", (STREAM, 50, 62), (OTHER, 10, 30), (STREAM, 50, 62), look="null", fps=35)
    reel = edit(tmp_path / "reel.mp4", (STREAM, 52, 60), (OTHER, 14, 22))
    with pytest.warns(HlkitWarning, match=r"shows at 0:00:00 is in the stream more than once, so it is left out"):
        table = match_reel(stream, reel, progress=False)
    assert_near(table, [(16, 24)])


def test_files_that_are_no_reel(short, tmp_path):
    with pytest.raises(HlkitError, match="both the stream and the reel"):
        match_reel(short, short, progress=False)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(HlkitError, match=r"empty\.mp4 is empty"):
        match_reel(short, tmp_path / "empty.mp4", progress=False)
    with pytest.raises(HlkitError, match="There is no video file"):
        match_reel(short, tmp_path / "none.mp4", progress=False)


def test_frames_that_are_too_few_are_refused(short, clean, tmp_path):
    index = extract_frames(short, tmp_path / "s", video_id="s", fps=1, progress=False)
    with pytest.raises(HlkitError, match="frames are 1 a second; to find a reel in them takes 2 or more"):
        match_reel(short, clean, frames=index, root=tmp_path, progress=False)


# The stage and the command


@pytest.fixture(scope="module")
def finished(clean, tmp_path_factory):
    project, lines = Project(tmp_path_factory.mktemp("project")), []
    stages.download(project, STREAM, progress=False, say=lines.append)
    stages.frames(project, progress=False, say=lines.append)
    stages.match(project, clean, video="demo_a", progress=False, say=lines.append)
    return project, lines


def test_the_stage_writes_labels_and_what_is_not_shown_is_background(finished):
    project, lines = finished
    assert lines[2] == "demo_a: best.mp4 shows 3 stretches of it, 0:00:21."
    labels = pl.read_csv(project.labels("demo_a"))
    assert labels["label"].to_list() == ["background", "highlight"] * 3 + ["background"]
    assert labels["start"].to_list() == pytest.approx([0, 50, 54.5, 120, 130, 200, 206], abs=0.1)
    assert labels["end"].to_list()[-1] == pytest.approx(360, abs=0.01)
    assert labels["start"].to_list()[1:] == labels["end"].to_list()[:-1]


def test_the_stage_is_done_once_and_takes_the_frame_store(finished, clean):
    project, _ = finished
    again = []
    table = stages.match(project, clean, video="demo_a", progress=False, say=again.append)
    assert again == ["demo_a: match already done."]
    assert_near(table, [(50, 54.5), (120, 130), (200, 206)])
    with pytest.raises(HlkitError, match="rest is 'all'; background and near are allowed"):
        stages.match(project, clean, video="demo_a", rest="all", progress=False)  # type: ignore[arg-type]
    with pytest.raises(HlkitError, match="come along when it is downloaded from Twitch"):
        stages.match_clips(project, video="demo_a", progress=False)


@pytest.fixture
def copied(finished, tmp_path):
    return Project(shutil.copytree(finished[0].root, tmp_path / "project"))


def test_a_label_that_does_not_say_where_it_is_from_never_passes_for_a_matchs(copied, clean):
    copied.labels("demo_a").write_text("video,start,end,label\ndemo_a,300,310,highlight\n")
    for _ in range(2):
        stages.match(copied, clean, video="demo_a", redo=True, progress=False, say=lambda line: None)
        labels = pl.read_csv(copied.labels("demo_a"))
        assert labels.filter(pl.col("start") == 300)["origin"].to_list() == ["hand"]
    assert set(labels["origin"]) == {"hand", "reel:best"}


def test_nobody_marks_in_a_page_while_a_match_is_written(copied, clean):
    journal = copied.labels("demo_a").with_suffix(".jsonl")
    journal.touch()
    locked = {}

    def try_to_mark(line):
        with journal.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked[line] = False
            except BlockingIOError:
                locked[line] = True

    stages.match(copied, clean, video="demo_a", redo=True, progress=False, say=try_to_mark)
    # What it shows, what that replaces, what was written.
    assert list(locked.values()) == [False, True, True]


def test_a_reel_that_shows_nothing_any_more_takes_its_labels_along_and_is_looked_at_once(copied, tmp_path):
    reel, said = edit(tmp_path / "best.mp4", (OTHER, 40, 45)), []
    rows = [("demo_a", 10.0, 12.0, "highlight", "hand"), ("demo_a", 50.0, 54.5, "highlight", "reel:best")]
    marks = pl.DataFrame(rows, schema=MARK_SCHEMA, orient="row")
    stages.label_spans(copied, marks, video="demo_a", origin="hand", say=lambda line: None)
    for _ in range(2):
        assert stages.match(copied, reel, video="demo_a", progress=False, say=said.append).is_empty()
    assert pl.read_csv(copied.labels("demo_a")).rows() == [("demo_a", 10.0, 12.0, "highlight", "hand")]
    assert said[0] == "demo_a: best.mp4 shows nothing of it."
    assert said[-1] == "demo_a: match already done."


def test_reels_of_one_name_would_take_each_others_labels(finished, clean, tmp_path):
    project, _ = finished
    before = project.labels("demo_a").read_bytes()
    shutil.copy(clean, tmp_path / "best.mkv")
    with pytest.raises(HlkitError, match=r"best\.mp4 and .*best\.mkv have one name.*Give one of them another name"):
        stages.match(project, [clean, tmp_path / "best.mkv"], video="demo_a", progress=False)
    assert project.labels("demo_a").read_bytes() == before


def test_labels_that_are_gone_are_made_again_and_replaced_ones_are_told(finished, clean, tmp_path):
    project = Project(Path(shutil.copytree(finished[0].root, tmp_path / "project")))
    before = project.labels("demo_a").read_bytes()
    project.labels("demo_a").unlink()
    said = []
    stages.match(project, clean, video="demo_a", progress=False, say=said.append)
    assert said[0] == "demo_a: best.mp4 shows 3 stretches of it, 0:00:21."
    assert project.labels("demo_a").read_bytes() == before
    said.clear()
    stages.match(project, clean, video="demo_a", redo=True, progress=False, say=said.append)
    assert said[1] == "demo_a: that replaces 3 highlights which an earlier best.mp4 gave."
    assert project.labels("demo_a").read_bytes() == before


def test_the_command(finished, clean):
    project, _ = finished
    words = [sys.executable, "-c", "from hlkit.cli import main; main()", "match"]
    done = subprocess.run(
        [*words, clean, "--video", "demo_a", "--project", project.root], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "demo_a: match already done.\n", "")
    wrong = subprocess.run([*words, "--video", "demo_a", "--project", project.root], capture_output=True, text=True)
    assert wrong.returncode == 2


SPANS = {"video": pl.String, "start": pl.Float64, "end": pl.Float64, "label": pl.String, "origin": pl.String}


def spans(*rows):
    return pl.DataFrame([("v", *row) for row in rows], schema=SPANS, orient="row")


def shows(*ranges):
    rows = [("v", start, end, "highlight", 0.0, end - start, 1.0, "") for start, end in ranges]
    return pl.DataFrame(rows, schema=MATCH_SCHEMA, orient="row")


def test_a_persons_labels_come_first_and_an_earlier_match_is_replaced():
    labels = spans(
        (0.0, 5.0, "background", "reel:a"), (10.0, 20.0, "highlight", "hand"), (30.0, 40.0, "highlight", "reel:a")
    )
    found = with_match(labels, shows((4.0, 12.0), (50.0, 60.0)), origin="reel:b")
    assert found.drop("video").rows() == [
        (0.0, 4.0, "background", "reel:a"),
        (4.0, 10.0, "highlight", "reel:b"),
        (10.0, 20.0, "highlight", "hand"),
        (30.0, 40.0, "highlight", "reel:a"),
        (50.0, 60.0, "highlight", "reel:b"),
    ]
    assert with_match(found, shows((1.0, 2.0)), origin="reel:b")["start"].to_list() == [0.0, 1.0, 2.0, 10.0, 30.0]


def test_the_rest_is_all_or_what_is_near():
    labels = spans((100.0, 110.0, "highlight", "reel:a"), (120.0, 130.0, "highlight", "hand"))
    rest = {"video": "v", "length": 300.0, "origin": "reel:a"}
    everything = with_rest(labels, rest="background", **rest).filter(label="background")
    assert ends(everything) == [(0.0, 100.0), (110.0, 120.0), (130.0, 300.0)]
    beside = with_rest(labels, rest="near", **rest).filter(label="background")
    assert ends(beside) == [(70.0, 100.0), (110.0, 120.0), (130.0, 140.0)]


# The pure parts

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


@given(RANGES, RANGES)
def test_subtract_is_what_sets_of_moments_say(pieces, covers):
    moments = {t for s, e in pieces for t in range(s, e)} - {t for s, e in covers for t in range(s, e)}
    result = subtract(pieces, covers)
    assert [t for s, e in result for t in range(s, e)] == sorted(moments)
    assert all(a[1] <= b[0] for a, b in pairwise(result))


@given(st.integers(8, 60), st.sampled_from([0, 4, 8, 14]), st.integers(10, 50), st.floats(0.4, 1.2))
def test_an_end_is_found_exactly_behind_a_cut_or_a_fade(full, fade, outside, level):
    ramp = [1 - (step + 1) / (fade + 1) for step in range(fade)]
    shares = level * np.array([1.0] * full + ramp + [0.0] * outside)
    end = fit_end(shares, np.ones(len(shares)), 30)
    if full >= (full + fade + outside) // 8 + 1:  # the level is the median of the first quarter
        assert (end.stop, end.fade) == (full + fade, fade)
        assert end.drop == pytest.approx(1.0)


def test_the_examples_of_fit_end():
    assert fit_end(np.array([1, 1, 1, 0.02, 0]), np.ones(5), 3).stop == 3
    end = fit_end(np.array([1, 1, 0.75, 0.5, 0.25, 0, 0]), np.ones(7), 5)
    assert (end.stop, end.fade) == (5, 3)


def walk(seed, count, size=64):
    """Prints that change little from one to the next, as a camera's do."""
    steps = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    for number in range(1, count):
        steps[number] = 0.9 * steps[number - 1] + 0.45 * steps[number]
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 1100), min_size=1, max_size=3, unique_by=lambda start: start // 200), st.integers(0, 3))
def test_runs_are_traced_at_any_offset_and_in_any_order(starts, seed):
    stream = walk(seed, 1200 * FINER)
    clips = [stream[start * FINER + 1 : (start + 24) * FINER + 1] for start in starts]
    reel = np.concatenate([part for number, clip in enumerate(clips) for part in (clip, walk(50 + number, 60))])
    runs = trace(stream[::FINER], reel)
    assert len(runs) == len(starts)
    place = 0
    for run, start in zip(runs, starts, strict=True):
        assert run.begin_offset == pytest.approx(start * FINER + 1 - place, abs=1)
        assert run.first == pytest.approx(place / FINER, abs=4)
        assert run.stop == pytest.approx((place + 96) / FINER, abs=4)
        place += 96 + 60


def test_nothing_is_traced_where_there_is_nothing():
    assert trace(walk(1, 300), walk(2, 800)) == []
    assert trace(walk(1, 3), walk(2, 800)) == []
    assert trace(walk(1, 300), walk(2, 5)) == []


def test_prints_do_not_depend_on_brightness_or_contrast():
    pictures = np.random.default_rng(0).integers(60, 180, size=(3, SIDE, SIDE)).astype(np.uint8)
    nothing = np.zeros(256, dtype=np.float32)
    one, other = (
        unit_prints(tile_prints(each), nothing) for each in (pictures, (pictures * 0.7 + 40).astype(np.uint8))
    )
    assert (one * other).sum(axis=1).min() > 0.97
    assert np.abs(one @ other.T - np.diag((one * other).sum(axis=1))).max() < 0.3
    assert not unit_prints(tile_prints(np.full((1, SIDE, SIDE), 77, np.uint8)), nothing).any()


def test_landmarks_agree_where_the_same_peaks_are():
    spectrum = np.full((200, 100), -100.0, dtype=np.float32)
    spots = [(10, 30), (25, 60), (40, 12), (70, 80), (90, 45), (130, 22), (160, 66)]
    for place, pitch in spots:
        spectrum[place, pitch] = -20.0
    slices, bins = peaks(spectrum)
    assert list(zip(slices.tolist(), bins.tolist(), strict=True)) == spots
    stream = pair(slices + 1000, bins)
    agreeing = agreements(stream, pair(slices, bins))
    assert set(agreeing[:, 0].tolist()) == {1000} and len(agreeing) == len(stream)
    assert votes(agreeing, 0.0, 10.0, 1000 * SLICE_SECONDS) == (len(stream), 0)
    assert votes(agreeing, 0.0, 10.0, 1100 * SLICE_SECONDS) == (0, len(stream))
    assert len(agreements(np.zeros(0, LANDMARKS), stream)) == 0


def test_keyframes_that_are_like_the_reel_say_where_to_decode():
    times, likeness = np.arange(0, 1000, 2.0), np.zeros(500)
    likeness[[100, 102, 300]] = 0.9
    assert worth_decoding(times, likeness, 3000, 600) == [(585, 628), (1785, 1816)]
    assert worth_decoding(times, likeness, 3000, 20) == [(585, 616)]
    likeness[108] = 0.9  # begins 2 s after the first one's end
    assert worth_decoding(times, likeness, 3000, 600) == [(585, 664), (1785, 1816)]
    assert worth_decoding(times, np.zeros(500), 3000, 600) == []


def test_another_place_that_is_as_like_is_found():
    stream = walk(3, 300)
    stream[200:220] = stream[50:70]
    place, likeness = best_elsewhere(stream, stream[50:70], np.arange(20), 50)
    assert (place, likeness) == (200, pytest.approx(1.0, abs=1e-5))
    assert best_elsewhere(walk(3, 300), stream[50:70], np.arange(20), 50)[1] < 0.7


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "sure"),
        ({"moved": 1.0}, "still"),
        ({"moved": 1.0, "votes": 20}, "sure"),
        ({"movement": 0.1}, "unlike"),
        ({"moved": 6.0}, "doubtful"),
        ({"moved": 6.0, "clear_ends": 1}, "sure"),
        ({"moved": 3.5, "clear_ends": 2}, "doubtful"),
        ({"moved": 4.0, "votes": 12, "chance_votes": 5}, "doubtful"),
        ({"moved": 4.0, "votes": 15, "chance_votes": 5}, "sure"),
        ({"elsewhere": True, "votes": 90}, "repeated"),
    ],
)
def test_what_evidence_suffices(changed, verdict):
    usual = {"likeness": 0.8, "movement": 0.8, "moved": 20.0, "votes": 0, "chance_votes": 0, "clear_ends": 0}
    assert Evidence(**(usual | {"elsewhere": False} | changed)).verdict == verdict


def test_glimpses_of_other_rates(tmp_path, short):
    index = extract_frames(short, tmp_path / "s", video_id="s", fps=10, progress=False)
    found = glimpses.stored_frames(index, tmp_path, progress=False)
    assert found.rate == Fraction(2) and len(found.pictures) == 60 and found.known.all()
