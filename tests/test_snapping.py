"""Better cut points, on recordings whose shot changes and silences are known to the picture."""

import math
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit import stages
from hlkit.labels import read_labels, write_labels
from hlkit.project import HlkitError, Project, fingerprint
from hlkit.reel import plan_cuts
from hlkit.snapping import (
    KEPT_SHARE,
    SNAP_SCHEMA,
    find_snap_points,
    quiet_moment,
    shot_changes,
    snap_spans,
)
from hlkit.video import probe

NTSC_60, FILM, THIRTY = Fraction(60000, 1001), Fraction(24000, 1001), Fraction(30)
SOUND_RATE = 48_000


def spans(*pairs):
    return pl.DataFrame(
        [("a", float(start), float(end), "highlight") for start, end in pairs],
        schema=["video", "start", "end", "label"],
        orient="row",
    )


def points(shots=(), quiets=()):
    rows = [(float(time), "shot") for time in shots] + [(float(time), "quiet") for time in quiets]
    return pl.DataFrame(rows, schema=SNAP_SCHEMA, orient="row")


def snapped(pairs, shots=(), quiets=(), **options):
    return snap_spans(spans(*pairs), points(shots, quiets), **options).select("start", "end").rows()


# --- the rule ---


@pytest.mark.parametrize(
    ("pairs", "shots", "quiets", "after"),
    [
        ([(10, 20)], [9.5], [9.9, 20.4], [(9.5, 20.4)]),
        ([(10, 20)], [9.5, 10.4], [], [(10.4, 20)]),
        ([(10, 20)], [8.9, 21.1], [8.9, 21.1], [(10, 20)]),
        ([(10, 20)], [9, 21], [], [(9, 21)]),
        ([(10, 20)], [], [], [(10, 20)]),
        # Half of a short one stays.
        ([(10, 12)], [10.6, 11.5], [], [(10, 11.5)]),
        ([(10, 11)], [10.25, 10.75], [], [(10.25, 10.75)]),
        ([(10, 11)], [10.3, 10.7], [10.1], [(10.1, 11)]),
        # Neighbours do not meet twice.
        ([(10, 20), (20.5, 30)], [20.7], [], [(10, 20), (20.7, 30)]),
        ([(10, 20), (20.5, 30)], [20.3], [], [(10, 20.3), (20.3, 30)]),
        ([(10, 20), (20, 30)], [20.4], [], [(10, 20), (20.4, 30)]),
        ([(10, 20), (20, 30)], [19.6], [], [(10, 19.6), (19.6, 30)]),
        # Beyond the recording (which ends at 30) there is nothing.
        ([(0.5, 29.5)], [-0.2, 30.2], [0, 30], [(0, 30)]),
    ],
)
def test_ends_move_to_shots_before_quiet_and_never_too_far(pairs, shots, quiets, after):
    assert snapped(pairs, shots, quiets, duration=30.0) == [tuple(map(float, pair)) for pair in after]


def test_fixed_ends_stay():
    assert snapped([(10, 20)], [9.5, 20.5], fixed={10.0}) == [(10, 20.5)]
    assert snapped([(10, 20)], [9.5, 20.5], fixed={20.0}) == [(9.5, 20)]


@pytest.mark.parametrize("reach", [0, -1, float("inf"), float("nan")])
def test_an_impossible_reach_is_refused(reach):
    with pytest.raises(HlkitError, match="Give a number above 0"):
        snapped([(1, 2)], reach_seconds=reach)


tenths = st.integers(0, 600).map(lambda number: number / 10)


@given(
    st.lists(tenths, min_size=2, max_size=16, unique=True).map(sorted),
    st.lists(tenths, max_size=30),
    st.lists(tenths, max_size=30),
    st.sampled_from([0.3, 1.0, 2.5]),
)
def test_snapped_spans_keep_their_order_their_half_and_their_distance(borders, shots, quiets, reach):
    pairs = list(zip(borders[::2], borders[1::2], strict=False))
    before = spans(*pairs)
    found = points(shots, quiets)
    after = snap_spans(before, found, reach_seconds=reach, duration=60.0)
    assert after.drop("start", "end").equals(before.drop("start", "end"))
    flat = [border for row in after.select("start", "end").rows() for border in row]
    assert flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= 60
    times = set(shots) | set(quiets)
    for (start, end), (begin, stop) in zip(pairs, after.select("start", "end").rows(), strict=True):
        assert stop - begin >= KEPT_SHARE * (end - start) - 1e-9
        for old, new in ((start, begin), (end, stop)):
            assert abs(new - old) <= reach + 1e-9
            assert new == old or new in times
    again = snap_spans(after, points(shots), reach_seconds=reach, duration=60.0, fixed=flat)
    assert again.equals(after)


def test_spans_that_overlap_already_are_not_lost():
    assert snapped([(10, 20), (12, 15), (18, 30)], [9.8, 20.2]) == [(9.8, 20.2), (12, 15), (18, 30)]


# --- what counts as a shot change, or as quiet ---


def test_a_jump_counts_when_it_is_high_alone_and_shows_another_view():
    changes, likeness = np.full(60, 2.0), np.full(60, 0.95)
    changes[[20, 40]], likeness[[20, 40]] = 30.0, 0.1
    assert shot_changes(changes, likeness, THIRTY) == [20, 40]
    assert shot_changes(changes, np.where(np.arange(60) == 20, 0.8, likeness), THIRTY) == [40]  # a flash
    changes[22] = 11.0  # more than a third, within a tenth of a second
    assert shot_changes(changes, likeness, THIRTY) == [40]
    changes[40] = 14.0
    assert shot_changes(changes, likeness, THIRTY) == []
    assert shot_changes(np.full(60, 30.0), np.zeros(60), THIRTY) == []  # a fast turn


def test_the_dip_nearest_to_the_end_counts_at_its_deepest_place():
    moments = np.arange(11) / 10
    levels = np.array([-20, -20, -40, -50, -49, -20, -20, -20, -90, -99, -20.0])
    assert quiet_moment(levels, moments, 0.0) == pytest.approx(0.3)
    assert quiet_moment(levels, moments, 0.5) == pytest.approx(0.4)  # as quiet as the deepest, to the ear
    assert quiet_moment(levels, moments, 1.0) == pytest.approx(0.9)
    assert quiet_moment(levels, moments, 0.75) == pytest.approx(0.8)  # below -60 all is silence
    assert quiet_moment(np.full(11, -20.0) - np.arange(11), moments, 0.5) is None
    assert quiet_moment(np.full(11, -100.0), moments, 0.5) is None
    assert quiet_moment(np.zeros(0), np.zeros(0), 0.5) is None


# --- recordings ---


def view(seed, width=160, height=90):
    """A picture like no other: blocks of grey."""
    blocks = np.random.default_rng(seed).integers(30, 220, (10, 16), dtype=np.uint8)
    return np.kron(blocks, np.ones((height // 10 + 1, width // 16 + 1), np.uint8))[:height, : width * 2]


def make_shots(path, rate, seconds, *, shots=(), flashes=(), silences=(), sound="flac", start=0.0):
    """A recording with a slow pan, a new view from each of `shots` on, light in `flashes` and silence in `silences`.

    `shots` are numbers of pictures, `flashes` and `silences` pairs of them. `start` is the container's first time.
    """
    late = round(Fraction(str(start)) * 1_000_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.options = {"preset": "ultrafast", "crf": "16", "g": "120"}
        tone = container.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        packets = []
        for number in range(round(seconds * rate)):
            scene = view(sum(number >= shot for shot in shots))
            picture = np.roll(scene, number // 3, axis=1)[:90, :160].astype(np.int16)
            if any(begin <= number < end for begin, end in flashes):
                picture = picture * 3 // 4 + 70
            planes = np.full((135, 160), 128, np.uint8)
            planes[:90] = np.clip(picture, 16, 235)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number + round(late * rate / 1_000_000), 1 / rate
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if tone is not None:
            samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE)
            for begin, end in silences:
                samples[round(begin / rate * SOUND_RATE) : round(end / rate * SOUND_RATE)] = 0
            ready = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), format="s16", layout="mono")
            ready.sample_rate, ready.pts, ready.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
            resampler = av.AudioResampler(tone.codec_context.format or "s16", "mono", SOUND_RATE, frame_size=1024)
            for frame in [*resampler.resample(ready), *resampler.resample(None)]:
                # AAC begins with 1024 empty samples, which MPEG-TS can't hide.
                frame.pts = (frame.pts or 0) + late * SOUND_RATE // 1_000_000 + 1024 * (path.suffix == ".ts")
                packets += tone.encode(frame)
            packets += tone.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("suffix", "rate", "start"),
    [("mkv", NTSC_60, 0.0), ("mp4", FILM, 0.0), ("mkv", THIRTY, 0.0), ("ts", THIRTY, 1.4), ("mp4", NTSC_60, 0.0)],
)
def test_shot_changes_and_silences_are_found_to_the_picture(tmp_path, suffix, rate, start):
    def at(seconds):
        return round(seconds * rate)

    shots = [at(2.3), at(7.2), at(9.9)]
    silence = (at(5.0), at(5.6))
    file = make_shots(
        tmp_path / f"a.{suffix}",
        rate,
        12,
        shots=shots,
        flashes=[(at(3.0), at(3.05) + 1)],
        silences=[silence],
        sound="aac" if suffix in ("ts", "mp4") else "flac",
        start=start,
    )
    ends = [2.9, 4.5, 6.7, 9.2]
    found = find_snap_points(file, ends, progress=False)
    assert found.filter(kind="shot")["time"].to_list() == [float(shot / rate) for shot in shots]
    (quiet,) = found.filter(kind="quiet")["time"]
    # The first moment with silence for a tenth of a second on both sides. AAC lets the tone ring on for a little.
    first = math.ceil((silence[0] / rate + Fraction(1, 10)) * rate)
    assert first <= round(quiet * rate) <= first + (0 if suffix == "mkv" else 0.03 * rate + 1)
    assert quiet * rate == pytest.approx(round(quiet * rate), abs=1e-9)
    after = snap_spans(spans((2.9, 4.5), (6.7, 9.2)), found, duration=12.0)
    picked = [(round(cut.start * rate), round(cut.end * rate)) for cut in plan_cuts(after, probe(file))]
    assert [picked[0][0], *picked[1]] == shots
    assert picked[0][1] == round(quiet * rate)


def test_a_long_turn_a_flash_and_steady_sound_give_no_points(tmp_path):
    file = make_shots(tmp_path / "a.mkv", THIRTY, 6, flashes=[(60, 61), (90, 96)], shots=range(120, 150))
    assert find_snap_points(file, [2.0, 3.0, 4.6], progress=False).is_empty()


def test_without_sound_there_are_shots_alone_and_the_edges_are_no_trouble(tmp_path):
    file = make_shots(tmp_path / "a.mp4", THIRTY, 5, shots=[15, 140], sound=None)
    found = find_snap_points(file, [0.0, 5.0, 900.0], progress=False)
    assert found.rows() == [(0.5, "shot"), (140 / 30, "shot")]
    assert find_snap_points(file, [], progress=False).rows() == []


# --- the stage ---


@pytest.fixture
def project(tmp_path):
    """A recording of 12 s with its scores: high from 3 to 5 s."""
    made = Project(tmp_path / "project")
    made.videos.mkdir(parents=True)
    make_shots(made.videos / "a.mkv", THIRTY, 12, shots=[72, 170, 228, 300], silences=[(240, 255)])
    times = [number / 3 for number in range(36)]
    scores = pl.DataFrame(
        {"video": ["a"] * 36, "time": times, "score": [0.9 if 3 <= time < 5 else 0.1 for time in times]}
    )
    made.scores("first", "a").parent.mkdir(parents=True)
    scores.write_parquet(made.scores("first", "a"))
    return made


def timeline(project, say, **options):
    stages.timeline(project, window_seconds=0.5, threshold=0.5, progress=False, say=say, **options)
    return read_labels(project.reel("a", ".csv")).select("start", "end").rows()


def test_the_stage_snaps_what_it_picked_and_what_was_edited_by_hand(project):
    said = []
    ((start, end),) = timeline(project, said.append)
    assert (start, end) == (2.0, 6.0)
    assert timeline(project, said.append, snap=True) == [(2.4, pytest.approx(170 / 30, abs=1e-6))]
    assert said[-2:] == [
        "a: timeline already done.",
        "a: 2 of 2 ends moved to a shot change or a quiet moment; 0:00:03 in all now.",
    ]
    done = fingerprint(project.reel("a", ".csv"))
    timeline(project, said.append, snap=True)
    assert said[-2:] == ["a: timeline already done.", "a: snap already done."]
    assert fingerprint(project.reel("a", ".csv")) == done
    by_hand = pl.concat([read_labels(project.reel("a", ".csv")), spans((8.9, 10.3))])
    write_labels(by_hand, project.reel("a", ".csv"))
    assert timeline(project, said.append) == by_hand.select("start", "end").rows()
    edited = timeline(project, said.append, snap=True)
    assert edited[0] == by_hand.select("start", "end").row(0)
    assert edited[1] == (pytest.approx(8.4, abs=0.05), 10.0)
    assert said[-1] == "a: 2 of 4 ends moved to a shot change or a quiet moment; 0:00:05 in all now."
    # There is a shot change at 7.6 s: too far from where the start was, and near to where it is now.
    write_labels(pl.concat([read_labels(project.reel("a", ".csv")), spans((6.5, 7.9))]), project.reel("a", ".csv"))
    assert timeline(project, said.append, snap=True) == [edited[0], (6.5, 7.6), edited[1]]
    assert timeline(project, said.append, redo=True) == [(2.0, 6.0)]
    assert timeline(project, said.append, redo=True, snap=True)[0][0] == 2.4


def test_all_cuts_lie_on_the_shots_in_the_reel(project):
    timeline(project, lambda line: None, snap=True)
    (reel,) = stages.reel(project, progress=False, say=lambda line: None)
    assert probe(reel).duration == pytest.approx((170 - 72) / 30, abs=0.01)
    first = last = None
    with av.open(str(reel)) as container:
        for frame in container.decode(video=0):
            grey = frame.to_ndarray(format="gray").astype(float)
            first, last = (grey if first is None else first), grey
    inside = np.roll(view(1), 72 // 3, axis=1)[:90, :160]
    outside = np.roll(view(0), 71 // 3, axis=1)[:90, :160]
    assert np.abs(first - inside).mean() < 12 < np.abs(first - outside).mean()
    after = np.roll(view(2), 170 // 3, axis=1)[:90, :160]
    before = np.roll(view(1), 169 // 3, axis=1)[:90, :160]
    assert np.abs(last - before).mean() < 12 < np.abs(last - after).mean()


def test_without_the_recording_snapping_says_what_is_missing(project):
    project.video("a").unlink()
    with pytest.raises(HlkitError, match="no video 'a'"):
        timeline(project, lambda line: None, snap=True)


def test_pairs_of_a_snapped_file_stay_apart(project):
    write_labels(spans((2.2, 5.5), (5.5, 8.0), (8.2, 9.8)), project.reel("a", ".csv"))
    timeline(project, lambda line: None)
    write_labels(spans((2.2, 5.5), (5.5, 8.0), (8.2, 9.8)), project.reel("a", ".csv"))
    flat = [border for pair in timeline(project, lambda line: None, snap=True) for border in pair]
    assert all(before <= after for before, after in pairwise(flat))
