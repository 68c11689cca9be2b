"""Which stretches of a reel run along a stream: two rows of prints are laid over each other at every offset.

All times are counted in steps here. The stream's prints lie on a grid, a few a second; the reel's lie `FINER` times as
dense, so that one of them is within half a fine step of each of the stream's, whatever the offset. Where reel step `i`
shows stream step `j`, the *offset* is `FINER * j - i`; it stays the same along a clip that runs at the stream's speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FINER = 4

# So many pictures of the stream in a row decide where to look: two seconds at three a second. One alone may look alike.
WINDOW = 6
# Windows of the same moment, encoded anew and with a title, have a mean likeness above this, nearly all others below.
MIN_WINDOW_LIKENESS = 0.4
# Each block of the stream offers its best place for each step of the reel.
BLOCK = 512
MAX_PER_STEP = 3
MAX_TRACKS = 600
# Offsets this close are one clip whose clock drifts (23.976 for 24 pictures a second) or lies between two steps.
DRIFT = 1
# A track is followed this far beyond the windows that spoke for it, in steps of the stream, and on in strides as long
# as its pictures are alike: a still picture, which could be from anywhere, belongs to the movement beside it.
REACH, STRIDE, TAIL = 9, 30, 4

# Likeness of a picture that speaks neither for nor against a clip, and what a change from clip to clip costs: as much
# as four like pictures gain.
NEUTRAL = 0.35
SWITCH = 1.2


@dataclass(frozen=True)
class Track:
    """A stretch of the reel, steps `[first, stop)` of the stream's rate, that may show the stream at an offset."""

    offset: int
    first: int
    stop: int


@dataclass(frozen=True)
class Run:
    """A stretch of the reel, coarse steps `[first, stop)`, and the offset (fine) at its first and last picture."""

    first: int
    stop: int
    begin_offset: int
    end_offset: int


def find_windows(stream: np.ndarray, reel: np.ndarray) -> np.ndarray:
    """Where windows of the reel lie in the stream.

    Args:
        stream: prints on the coarse grid, f32 (n, d).
        reel: prints on the fine grid, f32 (m, d).

    Returns:
        i64 (hits, 2): offset and reel step (fine) of each window that is like one of the stream.
    """
    count = len(reel) // FINER
    best: list[tuple[np.ndarray, np.ndarray]] = []
    if count < WINDOW or len(stream) < WINDOW:
        return np.zeros((0, 2), dtype=np.int64)
    phases = [np.ascontiguousarray(reel[phase::FINER][:count]) for phase in range(FINER)]
    rows = count - WINDOW + 1
    for first in range(0, len(stream) - WINDOW + 1, BLOCK):
        block = np.ascontiguousarray(stream[first : first + BLOCK + WINDOW - 1].T)
        score, offset = np.full(rows, -1.0, dtype=np.float32), np.zeros(rows, dtype=np.int64)
        for phase, part in enumerate(phases):
            for top in range(0, rows, 1024):
                likeness = part[top : top + 1024 + WINDOW - 1] @ block
                height, width = min(1024, rows - top), block.shape[1] - WINDOW + 1
                sums = likeness[:height, :width].copy()
                for step in range(1, WINDOW):
                    sums += likeness[step : step + height, step : step + width]
                column = sums.argmax(axis=1)
                value = sums[np.arange(height), column] / WINDOW
                here = slice(top, top + height)
                better = value > score[here]
                score[here][better] = value[better]
                steps = FINER * (first + column) - (FINER * np.arange(top, top + height) + phase)
                offset[here][better] = steps[better]
        best.append((score, offset))
    scores, offsets = np.array([each for each, _ in best]), np.array([each for _, each in best])
    order = np.argsort(-scores, axis=0)[:MAX_PER_STEP]
    scores, offsets = np.take_along_axis(scores, order, 0), np.take_along_axis(offsets, order, 0)
    places = np.broadcast_to(np.arange(rows), scores.shape)
    chosen = scores >= MIN_WINDOW_LIKENESS
    return np.column_stack([offsets[chosen], places[chosen]])


def tracks_of(windows: np.ndarray, count: int) -> list[Track]:
    """The windows of one offset joined to tracks, the most often seen first; `count` is the reel's length in steps."""
    tracks, support = [], []
    for offset in np.unique(windows[:, 0]):
        places = np.unique(windows[windows[:, 0] == offset, 1])
        for part in np.split(places, np.flatnonzero(np.diff(places) > 2 * REACH) + 1):
            tracks.append(Track(int(offset), max(0, int(part[0]) - REACH), min(count, int(part[-1]) + WINDOW + REACH)))
            support.append(len(part))
    order = np.argsort(-np.array(support), kind="stable")[:MAX_TRACKS]
    return [tracks[number] for number in order]


def likeness_along(track: Track, stream: np.ndarray, reel: np.ndarray) -> np.ndarray:
    """How like each of the track's pictures are, f32 (stop - first,): of the nearest reel pictures the most like one.

    -1 where the track leaves the stream or the reel.
    """
    # The reel step of coarse step m that lies on the stream's grid.
    fine = FINER * np.arange(track.first, track.stop) + (-track.offset) % FINER
    place = (fine + track.offset) // FINER
    inside = (place >= 0) & (place < len(stream)) & (fine < len(reel))
    result = np.full(track.stop - track.first, -1.0, dtype=np.float32)
    for shift in range(-DRIFT, DRIFT + 1):
        beside = np.clip(fine[inside] + shift, 0, len(reel) - 1)
        result[inside] = np.maximum(result[inside], (reel[beside] * stream[place[inside]]).sum(axis=1))
    return result


def followed(track: Track, stream: np.ndarray, reel: np.ndarray, count: int) -> Track:
    """The track as far as its pictures stay alike, in a reel of `count` steps."""
    first, stop = track.first, track.stop
    while first > 0 and _alike(Track(track.offset, first, min(stop, first + TAIL)), stream, reel):
        first = max(0, first - STRIDE)
    while stop < count and _alike(Track(track.offset, max(first, stop - TAIL), stop), stream, reel):
        stop = min(count, stop + STRIDE)
    return Track(track.offset, first, stop)


def _alike(end: Track, stream: np.ndarray, reel: np.ndarray) -> bool:
    return bool(likeness_along(end, stream, reel).mean() > NEUTRAL)


def best_path(tracks: list[Track], likeness: list[np.ndarray], count: int) -> list[int]:
    """For each coarse step of the reel the number of the track that it runs along, -1 for none (Viterbi)."""
    offsets = np.array([track.offset for track in tracks])
    gain = np.full((count, len(tracks) + 1), -np.inf)
    gain[:, -1] = 0.0
    for number, (track, values) in enumerate(zip(tracks, likeness, strict=True)):
        gain[track.first : track.stop, number] = values - NEUTRAL
    cost = np.full((len(tracks) + 1, len(tracks) + 1), SWITCH)
    if tracks:
        cost[:-1, :-1] = np.where(np.abs(offsets[:, None] - offsets[None, :]) <= 2 * DRIFT, SWITCH / 8, SWITCH)
    np.fill_diagonal(cost, 0.0)
    total, came = gain[0].copy() if count else np.zeros(0), np.zeros((count, len(tracks) + 1), dtype=np.int32)
    total[:-1] -= SWITCH
    for step in range(1, count):
        alive = np.flatnonzero(np.isfinite(total))
        ways = total[alive, None] - cost[alive]
        chosen = ways.argmax(axis=0)
        came[step] = alive[chosen]
        total = ways[chosen, np.arange(len(chosen))] + gain[step]
    path = [int(total.argmax())] if count else []
    for step in range(count - 1, 0, -1):
        path.append(int(came[step][path[-1]]))
    return [-1 if number == len(tracks) else number for number in reversed(path)]


def trace(stream: np.ndarray, reel: np.ndarray) -> list[Run]:
    """The stretches of a reel that run along the stream, by their place in the reel.

    Args:
        stream: prints on the coarse grid, f32 (n, d), of length 1; zeros where there is no picture.
        reel: prints on the fine grid, f32 (m, d).
    """
    count = len(reel) // FINER
    tracks = tracks_of(find_windows(stream, reel), count)
    tracks = [followed(track, stream, reel, count) for track in tracks]
    likeness = [likeness_along(track, stream, reel) for track in tracks]
    return list(_runs(best_path(tracks, likeness, count), tracks))


def _runs(path: list[int], tracks: list[Track]) -> Iterator[Run]:
    first = 0
    while first < len(path):
        stop = first
        while stop < len(path) and path[stop] >= 0 and _continues(path, tracks, first, stop):
            stop += 1
        if stop > first:
            yield Run(first, stop, tracks[path[first]].offset, tracks[path[stop - 1]].offset)
        first = max(stop, first + 1)


def _continues(path: list[int], tracks: list[Track], first: int, step: int) -> bool:
    if step == first:
        return True
    if path[step - 1] < 0:
        return False
    return abs(tracks[path[step]].offset - tracks[path[step - 1]].offset) <= 2 * DRIFT
