from __future__ import annotations

import numpy as np
import pytest
from recordings import SOUND_RATE, make_numbered

from hlkit.sound import BANDS, FLOOR_DB, SAMPLE_RATE, log_mel, read_sound, slices_per_frame


def tone(hertz: float, level: float, seconds: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A second each of 400 Hz at -20 dBFS amplitude, silence, and 4 kHz at -6.02 dBFS."""
    path = tmp_path_factory.mktemp("tones") / "tones.mp4"
    sound = np.concatenate([tone(400, 0.1, 1), np.zeros(SOUND_RATE), tone(4000, 0.5, 1)])
    make_numbered(path, seconds=3, sound=sound)
    return path


def centre(band: int) -> float:
    """The frequency of a band's peak by the formula of the mel scale."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (50, 8000))
    return 700 * (10 ** ((low + (high - low) * (band + 1) / (BANDS + 1)) / 2595) - 1)


def test_a_tone_is_in_the_band_of_its_pitch_at_its_level(tones):
    spectrum = log_mel(tones, fps=3, count=9, progress=False)
    assert (spectrum.shape, spectrum.dtype) == ((9, 12, BANDS), np.float16)
    for frame, hertz, level in ((1, 400, -20), (7, 4000, -6.02)):
        loudest = int(spectrum[frame].astype(np.float32).mean(0).argmax())
        assert abs(centre(loudest) - hertz) <= min(abs(centre(loudest + step) - hertz) for step in (-1, 1))
        # A sine of amplitude 1 has the power 1/4 in the peak of its spectrum, spread over a Hann window's three bins.
        assert spectrum[frame, 6, loudest] == pytest.approx(level - 6, abs=3)
    assert spectrum[4].max() < -70


def test_the_slices_of_a_frame_lie_in_its_time(tones):
    # The sound stops at 1.0 s, where frame 3 begins, and a window reaches 32 ms to either side.
    heard = log_mel(tones, fps=3, count=9, progress=False).astype(np.float32).max(axis=2) > -50  # (frames, slices)
    assert heard[:2].all()
    assert not heard[3, 2:].any()
    assert not heard[4:5].any()
    assert heard[6:8, 2:-2].all()


def test_more_frames_than_sound_are_silence_and_a_prefix_is_the_same(tones):
    whole = log_mel(tones, fps=3, count=60, progress=False)
    assert (whole[12:] == FLOOR_DB).all()
    np.testing.assert_array_equal(log_mel(tones, fps=3, count=7, progress=False)[:6], whole[:6])


@pytest.mark.parametrize(("fps", "slices"), [("3", 12), ("30000/1001", 1), ("60", 1), ("1", 36), ("1/2", 72)])
def test_slices_follow_the_frame_rate(fps, slices):
    assert slices_per_frame(fps) == slices


def test_samples_are_counted_from_time_0(tones):
    samples = np.concatenate(list(read_sound(tones, 2 * SAMPLE_RATE, desc="test", progress=False)))
    assert len(samples) == 2 * SAMPLE_RATE
    rms = np.sqrt(np.mean(samples.reshape(-1, 1600) ** 2, axis=1))
    assert rms[1:9] == pytest.approx(0.1 / np.sqrt(2), rel=0.02)
    assert rms[11:].max() < 1e-3
