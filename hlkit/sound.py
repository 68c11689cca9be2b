"""The sound of a recording: its samples in order of time, and what they hold of each pitch at each frame.

The log-mel spectrogram is that of speech and sound recognition: the power of short windows (Hann, 64 ms), summed in
bands of equal width on O'Shaughnessy's mel scale (`mel = 2595 log10(1 + hertz / 700)`), in decibels.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from hlkit.video import frame_rate, open_ffmpeg

# Speech and game sound lie below 8 kHz; more samples would cost time and change little.
SAMPLE_RATE = 16_000
BLOCK_SAMPLES = SAMPLE_RATE * 4
# Quieter than any recording's noise, and finite where the sound is digital silence.
FLOOR_DB = -100.0
# Sound that is this far from its timestamp is moved there: less than one picture, more than timestamps jitter.
GAP_SECONDS = 0.02

BANDS = 40
LOWEST_HERTZ, HIGHEST_HERTZ = 50, SAMPLE_RATE / 2
WINDOW_SAMPLES = 1024
# A shot or a cry is told from others within some 30 ms; at 3 frames a second this is 12 slices a frame.
SLICES_PER_SECOND = 36
FRAMES_PER_BLOCK = 512

Heard = Literal["none", "power", "spectrum"]
"""What a network is told of the sound beside a picture: nothing, how loud it is, or how loud each pitch is."""
LEVELS: dict[Heard, int] = {"none": 0, "power": 1, "spectrum": BANDS}
# Softer than anything that is heard in a game: digital silence is to be no outlier among its levels.
SOFTEST_DB = -80.0


def read_sound(video: Path, samples: int, *, desc: str, progress: bool = True) -> Iterator[np.ndarray]:
    """The first `samples` samples of the first sound track, counted from time 0, mixed to one channel.

    Gaps and a late start are filled with silence, so that a sample's number tells its time. The recording must have
    sound.

    Yields:
        Blocks of f32 (n,), -1 to 1, at `SAMPLE_RATE`; fewer samples than wanted when the sound ends before.
    """
    import ffmpeg

    sound: Any = ffmpeg.input(f"file:{Path(video).resolve()}")["a:0"]
    sound = sound.filter("aresample", **{"async": 1, "min_hard_comp": GAP_SECONDS, "first_pts": 0})
    output = sound.output("pipe:", format="f32le", acodec="pcm_f32le", ac=1, ar=SAMPLE_RATE)
    total = round(samples / SAMPLE_RATE, 1)
    bar = tqdm(total=total, desc=desc, unit="s", mininterval=0.5, disable=not progress)
    with bar, open_ffmpeg(output) as process:
        assert process.stdout is not None
        position = 0
        while position < samples and (data := process.stdout.read(4 * min(BLOCK_SAMPLES, samples - position))):
            block = np.frombuffer(data[: len(data) // 4 * 4], dtype="<f4")
            position += len(block)
            bar.update(round(len(block) / SAMPLE_RATE, 1))
            yield block


def slices_per_frame(fps: str | float | Fraction) -> int:
    """How many slices of sound belong to one frame: about 36 a second, 1 at least."""
    return max(1, round(SLICES_PER_SECOND / frame_rate(fps)))


def is_silent(spectrum: np.ndarray) -> bool:
    """Whether a spectrogram from `log_mel` is of a track that was muted: all of it lies within a decibel."""
    return bool(np.ptp(spectrum) < 1.0)


def log_mel(video: Path, *, fps: str | float | Fraction, count: int, progress: bool = True) -> np.ndarray:
    """The log-mel spectrogram of a recording with sound, cut at frame times.

    Args:
        video: the recording.
        fps: frames per second, an exact fraction as text or number.
        count: frames wanted, from time 0.
        progress: show a progress bar in seconds of sound.

    Returns:
        float16 (count, slices, 40), dB from -100: the slices of frame `i` are spread evenly over `[i, i + 1) / fps`,
        and the bands go from 50 to 8000 Hz. Silence where the sound has ended.
    """
    slices = slices_per_frame(fps)
    spread = frame_rate(fps) * slices
    spectrum = np.full((count * slices, BANDS), FLOOR_DB, dtype=np.float16)
    # Slice k is centred at (k + 1/2) / spread seconds.
    centres = np.rint((np.arange(count * slices) + 0.5) * (SAMPLE_RATE / float(spread))).astype(np.int64)
    samples = int(centres[-1]) + WINDOW_SAMPLES // 2 if count else 0
    # The kept samples begin at `first`; half a window of silence stands before time 0.
    kept, first, done = np.zeros(WINDOW_SAMPLES // 2, dtype=np.float32), -(WINDOW_SAMPLES // 2), 0
    silence = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    for block in chain(read_sound(video, samples, desc="sound", progress=progress), [silence]):
        kept = np.concatenate([kept, block])
        ready = int(np.searchsorted(centres, first + len(kept) - WINDOW_SAMPLES // 2, side="right"))
        for start in range(done, ready, FRAMES_PER_BLOCK):
            chosen = centres[start : min(ready, start + FRAMES_PER_BLOCK)] - first
            spectrum[start : start + len(chosen)] = _bands(kept, chosen)
        done = ready
        begin = (int(centres[done]) if done < len(centres) else first + len(kept)) - WINDOW_SAMPLES // 2
        kept, first = kept[max(0, begin - first) :], max(first, begin)
    return spectrum.reshape(count, slices, BANDS)


def second_levels(spectrum: np.ndarray, *, fps: str | float | Fraction, heard: Heard) -> np.ndarray:
    """The mean power of the second around each frame, `[i / fps - 1/2, i / fps + 1/2)`, as far as there is sound.

    Args:
        spectrum: dB (frames, slices, 40), from `log_mel` at `fps`, from frame 0 on.
        fps: its frames per second.
        heard: "power" for that of all bands together, "spectrum" for that of each.

    Returns:
        float32 (frames, 1 or 40, see `LEVELS`), dB, -80 to about 0.
    """
    count, slices, bands = spectrum.shape
    reach = max(1, round(float(frame_rate(fps)) * slices / 2))
    levels = np.empty((count, 1 if heard == "power" else bands), dtype=np.float32)
    flat = spectrum.reshape(-1, bands)
    for start in range(0, count, FRAMES_PER_BLOCK):
        centres = np.arange(start, min(start + FRAMES_PER_BLOCK, count)) * slices
        begins, ends = (centres - reach).clip(min=0), (centres + reach).clip(max=len(flat))
        power = 10 ** (flat[begins[0] : ends[-1]].astype(np.float64) / 10)
        power = power.sum(axis=1, keepdims=True) if heard == "power" else power
        sums = np.concatenate([np.zeros((1, power.shape[1])), power.cumsum(axis=0)])
        means = (sums[ends - begins[0]] - sums[begins - begins[0]]) / (ends - begins)[:, None]
        levels[start : start + len(centres)] = 10 * np.log10(means.clip(min=10 ** (SOFTEST_DB / 10)))
    return levels


def _bands(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Decibels in each band of the windows around some samples: float (windows, bands)."""
    places = centres[:, None] + np.arange(-(WINDOW_SAMPLES // 2), WINDOW_SAMPLES // 2)
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    # Over the window's sum a full-scale sine has a peak of 1/2, whatever the window.
    power = np.abs(np.fft.rfft(samples[places] * window, axis=1) / window.sum()) ** 2
    return 10 * np.log10(np.maximum(power @ _mel_filters().T, 10 ** (FLOOR_DB / 10)))


def _mel_filters() -> np.ndarray:
    """Triangles over the FFT's frequencies, float (bands, WINDOW_SAMPLES // 2 + 1), each reaching to its neighbours."""
    hertz = np.fft.rfftfreq(WINDOW_SAMPLES, 1 / SAMPLE_RATE)
    low, high = (2595 * np.log10(1 + bound / 700) for bound in (LOWEST_HERTZ, HIGHEST_HERTZ))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)
