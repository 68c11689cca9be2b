from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from recordings import SOUND_RATE, make_numbered

from hlkit import signals
from hlkit.project import HlkitError, HlkitWarning
from hlkit.signals import loudness, picture_change


def tone(level: float, seconds: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Three seconds: a sine of -20 dBFS amplitude, silence, a sine of -6.02 dBFS amplitude."""
    path = tmp_path_factory.mktemp("steps") / "steps.mp4"
    sound = np.concatenate([tone(0.1, 1), np.zeros(SOUND_RATE), tone(0.5, 1)])
    make_numbered(path, seconds=3, sound=sound)
    return path


def test_known_levels(steps):
    table = loudness(steps, [0.25, 1.25, 2.25], window_seconds=0.5, progress=False)
    assert table.schema == {"time": pl.Float64, "loudness": pl.Float32}
    assert table["time"].to_list() == [0.25, 1.25, 2.25]
    # A sine's RMS lies 3.01 dB under its amplitude.
    assert table["loudness"].to_list() == pytest.approx([-23.01, -100, -9.03], abs=0.1)


def test_times_in_any_order_windows_overlapping_and_beyond_the_end(steps):
    times = np.array([2.2, 0.1, 0.2, 2.2, 99.0, 2.75])
    table = loudness(steps, times, window_seconds=0.5, progress=False)
    quarter_silent = -9.03 + 10 * np.log10(0.5)
    assert table["loudness"].to_list() == pytest.approx([-9.03, -23.01, -23.01, -9.03, -100, quarter_silent], abs=0.15)


def test_a_change_of_level_is_found_to_the_sample_grid(steps):
    times = np.arange(1.9, 2.1, 0.001)
    levels = loudness(steps, times, window_seconds=0.001, progress=False)["loudness"].to_numpy()
    onset = times[np.argmax(levels > -30)]
    assert onset == pytest.approx(2.0, abs=0.002)


# In MPEG-TS the encoder's first 1024 samples, of silence, are part of the sound.
@pytest.mark.parametrize(("suffix", "onset"), [("mp4", 1.0), ("mkv", 1.0), ("ts", 1.0 + 1024 / SOUND_RATE)])
def test_time_0_is_the_containers_even_when_the_pictures_start_late(suffix, onset, tmp_path):
    path = tmp_path / f"late.{suffix}"
    make_numbered(path, seconds=2, start=0.4, sound=np.concatenate([np.zeros(SOUND_RATE), tone(0.5, 1)]))
    times = np.arange(0.8, 1.2, 0.001)
    levels = loudness(path, times, window_seconds=0.001, progress=False)["loudness"].to_numpy()
    assert times[np.argmax(levels > -30)] == pytest.approx(onset, abs=0.003)


def test_no_sound_is_null_and_said(tmp_path):
    make_numbered(tmp_path / "mute.mp4", seconds=1)
    with pytest.warns(HlkitWarning, match=r"mute\.mp4 has no sound"):
        table = loudness(tmp_path / "mute.mp4", [0.0, 0.5], progress=False)
    assert table.schema == {"time": pl.Float64, "loudness": pl.Float32}
    assert table["loudness"].to_list() == [None, None]


def test_no_times_give_no_rows(steps):
    assert loudness(steps, [], progress=False).shape == (0, 2)


@pytest.mark.parametrize(("times", "window"), [([-1.0], 1), ([float("nan")], 1), ([0.0], 0), ([0.0], -1)])
def test_impossible_times_and_windows(steps, times, window):
    with pytest.raises(HlkitError, match="Give"):
        loudness(steps, times, window_seconds=window, progress=False)


def test_a_missing_recording(tmp_path):
    with pytest.raises(HlkitError, match="There is no video file"):
        loudness(tmp_path / "none.mp4", [0.0], progress=False)


@given(
    st.lists(st.integers(1, 40), max_size=6),
    st.lists(st.tuples(st.integers(0, 150), st.integers(1, 60)), min_size=1, max_size=12),
)
def test_window_sums_equal_the_plain_sums(lengths, windows):
    dice = np.random.default_rng(len(lengths))
    blocks = [dice.normal(size=length).astype(np.float32) for length in lengths]
    begins = np.array([begin for begin, _ in windows])
    ends = np.array([begin + length for begin, length in windows])
    samples = np.concatenate([*blocks, np.zeros(300)])
    plain = [np.square(samples[begin:end], dtype=np.float64).sum() for begin, end in zip(begins, ends, strict=True)]
    assert signals._window_sums(iter(blocks), begins, ends) == pytest.approx(plain)


# --- picture change ---


def store(root, video: str, pictures: list[np.ndarray]) -> pl.DataFrame:
    """Plain JPEG files, each a shard of one frame, 3 a second."""
    rows = []
    (root / video).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=95)
        (root / video / f"{number}.jpg").write_bytes(buffer.getvalue())
        rows.append((video, number, number / 3, f"{number}.jpg", 0, len(buffer.getvalue())))
    return pl.DataFrame(rows, schema=["video", "frame", "time", "shard", "offset", "size"], orient="row")


def flat(level: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_picture_change_is_the_mean_difference_to_the_picture_before(tmp_path):
    half = flat(10)
    half[:8] = 110
    table = pl.concat([store(tmp_path, "b", [flat(200), flat(190)]), store(tmp_path, "a", [flat(10), flat(60), half])])
    change = picture_change(table.sample(fraction=1, shuffle=True, seed=0), tmp_path, progress=False)
    assert change.schema == {"video": pl.String, "time": pl.Float64, "picture_change": pl.Float32}
    assert change["video"].to_list() == ["a", "a", "a", "b", "b"]
    assert change["time"].to_list() == [0, 1 / 3, 2 / 3, 0, 1 / 3]
    assert change["picture_change"].to_list() == pytest.approx([0, 50, 50, 0, 10], abs=1)


def test_pictures_of_two_sizes_are_refused(tmp_path):
    table = store(tmp_path, "a", [flat(1, 16), flat(1, 24)])
    with pytest.raises(HlkitError, match="Frames of a differ in size"):
        picture_change(table, tmp_path, progress=False)


def test_a_picture_that_can_not_be_decoded_is_named(tmp_path):
    table = store(tmp_path, "a", [flat(1), flat(2)])
    path = tmp_path / "a/1.jpg"
    path.write_bytes(path.read_bytes()[:200].ljust(path.stat().st_size, b"\x00"))
    with pytest.raises(HlkitError, match=r"a/1\.jpg at byte 0 can't be decoded"):
        picture_change(table, tmp_path, progress=False)
