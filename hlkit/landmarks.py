"""Sound as landmarks: pairs of peaks of the spectrogram, which music or talk over it hides in part but does not move.

After A. Wang, "An industrial-strength audio search algorithm" (ISMIR 2003): a landmark is the pitch of one peak, the
pitch of a later one and the time between them; where two recordings hold the same sound, many landmarks agree in one
offset of their times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hlkit.sound import FLOOR_DB, SAMPLE_RATE, WINDOW_SAMPLES, read_sound
from hlkit.video import probe

# A slice every 32 ms: offsets are told to half of that.
HOP_SAMPLES = 512
SLICE_SECONDS = HOP_SAMPLES / SAMPLE_RATE
# Below lie hum and the beat of music, above little sound; in bins of 15.6 Hz.
LOWEST_BIN, BINS = 16, 400
# A peak is the loudest within so many bins and slices on each side, and this far above the floor.
PEAK_BINS, PEAK_SLICES = 10, 5
PEAK_ABOVE_DB = 20.0
# Each peak is paired with the next few, up to two seconds later.
FAN, MAX_GAP = 6, 62
MAX_PEAKS_PER_SLICE = 5
SLICES_PER_BLOCK = 1875
# A key that a long stream holds more often than this is a tone that always sounds, and tells nothing.
MAX_SAME_KEYS = 200
# Landmarks within so many slices agree: rounding of two clocks, and a little drift.
SAME_SLICES = 2
# Editors shift sound against the picture by some pictures; other offsets are looked at up to the second number.
ASYNC_SECONDS, AROUND_SECONDS = 0.3, 6.0

LANDMARKS = np.dtype([("key", np.uint32), ("slice", np.int32)])


def landmarks(video: Path, *, desc: str = "sound", progress: bool = True) -> np.ndarray:
    """The landmarks of a recording, by key: `LANDMARKS` (n,), `slice` counted from time 0; none without sound."""
    info = probe(video)
    if not info.has_audio:
        return np.zeros(0, dtype=LANDMARKS)
    times, bins = [], []
    for first, spectrum in _spectra(
        read_sound(video, round(info.duration * SAMPLE_RATE), desc=desc, progress=progress)
    ):
        slices, pitches = peaks(spectrum)
        times.append(slices + first)
        bins.append(pitches)
    return pair(np.concatenate([*times, np.zeros(0, np.int64)]), np.concatenate([*bins, np.zeros(0, np.int64)]))


def _spectra(blocks: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Spectrograms in decibels, f32 (slices, BINS), of a minute each, with the number of their first slice."""
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    minute = SLICES_PER_BLOCK * HOP_SAMPLES
    kept, first = np.zeros(0, dtype=np.float32), 0
    for minute_of_sound in _gathered(blocks, minute):
        kept = np.concatenate([kept, minute_of_sound])
        count = (len(kept) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        if count < 1:
            continue
        views = np.lib.stride_tricks.sliding_window_view(kept, WINDOW_SAMPLES)[: count * HOP_SAMPLES : HOP_SAMPLES]
        lines = np.fft.rfft(views * window, axis=1)[:, LOWEST_BIN : LOWEST_BIN + BINS]
        power = np.abs(lines / window.sum()) ** 2
        yield first, (10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))).astype(np.float32)
        kept, first = kept[count * HOP_SAMPLES :], first + count


def _gathered(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The blocks joined to ones of at least `samples`, and what is left in the end."""
    parts: list[np.ndarray] = []
    for block in blocks:
        parts.append(block)
        if sum(map(len, parts)) >= samples:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def peaks(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slices and bins of the peaks of a spectrogram in decibels (slices, bins), by slice and bin."""
    highest = _running_max(_running_max(spectrum, PEAK_SLICES, 0), PEAK_BINS, 1)
    slices, bins = np.nonzero((spectrum == highest) & (spectrum > FLOOR_DB + PEAK_ABOVE_DB))
    # Of many in a slice, a burst of noise, the loudest.
    order = np.lexsort((-spectrum[slices, bins], slices))
    slices, bins = slices[order], bins[order]
    begins = np.searchsorted(slices, slices)
    kept = np.arange(len(slices)) - begins < MAX_PEAKS_PER_SLICE
    slices, bins = slices[kept], bins[kept]
    order = np.lexsort((bins, slices))
    return slices[order], bins[order]


def _running_max(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """The maximum within `reach` on both sides, along an axis; by doubling, so that wide ones cost little more."""
    width, side = 1, [(0, 0), (0, 0)]
    side[axis] = (reach, reach)
    padded = np.pad(values, side, constant_values=-np.inf)

    def cut(first: int, stop: int | None) -> tuple[slice, ...]:
        return tuple(slice(first, stop) if each == axis else slice(None) for each in range(2))

    while width * 2 <= 2 * reach + 1:
        padded = np.maximum(padded[cut(0, -width)], padded[cut(width, None)])
        width *= 2
    rest = 2 * reach + 1 - width
    return np.maximum(padded[cut(0, -rest)], padded[cut(rest, None)]) if rest else padded


def pair(slices: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Peaks, by slice, paired to landmarks: `LANDMARKS` (n,) by key."""
    parts = []
    for step in range(1, FAN + 1):
        gap = slices[step:] - slices[:-step]
        near = (gap >= 1) & (gap <= MAX_GAP)
        first, second = bins[:-step][near].astype(np.uint32), bins[step:][near].astype(np.uint32)
        part = np.zeros(int(near.sum()), dtype=LANDMARKS)
        part["key"] = (first << 16) | (second << 7) | gap[near].astype(np.uint32)
        part["slice"] = slices[:-step][near]
        parts.append(part)
    found = np.concatenate(parts) if parts else np.zeros(0, dtype=LANDMARKS)
    return found[np.argsort(found["key"], kind="stable")]


def agreements(stream: np.ndarray, reel: np.ndarray) -> np.ndarray:
    """Every two landmarks that are the same: i64 (n, 2), the offset (stream less reel) and the reel's slice."""
    low = np.searchsorted(stream["key"], reel["key"])
    count = np.searchsorted(stream["key"], reel["key"], side="right") - low
    rows = np.flatnonzero((count > 0) & (count <= MAX_SAME_KEYS))
    reel_rows = np.repeat(rows, count[rows])
    within = np.arange(len(reel_rows)) - np.repeat(np.cumsum(count[rows]) - count[rows], count[rows])
    slices = stream["slice"][low[reel_rows] + within].astype(np.int64)
    places = reel["slice"][reel_rows].astype(np.int64)
    return np.column_stack([slices - places, places])


def votes(agreeing: np.ndarray, start: float, end: float, offset: float) -> tuple[int, int]:
    """How many landmarks of a stretch of the reel agree in an offset, and in the best of other offsets nearby.

    The second number is what one sound, heard again and again, gives by chance.

    Args:
        agreeing: rows of `agreements`.
        start, end: of the stretch in the reel, s.
        offset: the stream's time less the reel's, s, by the pictures; sound may be off by `ASYNC_SECONDS`.
    """
    places = agreeing[:, 1] * SLICE_SECONDS
    inside = agreeing[(places >= start) & (places < end), 0] - round(offset / SLICE_SECONDS)
    reach, around = round(ASYNC_SECONDS / SLICE_SECONDS), round(AROUND_SECONDS / SLICE_SECONDS)
    counts = np.bincount(inside[np.abs(inside) <= around] + around, minlength=2 * around + 1)
    sums = np.convolve(counts, np.ones(2 * SAME_SLICES + 1, dtype=np.int64), "same")
    near = slice(around - reach, around + reach + 1)
    mine = int(sums[near].max())
    sums[around - reach - 2 * SAME_SLICES : around + reach + 2 * SAME_SLICES + 1] = 0
    return mine, int(sums.max())
