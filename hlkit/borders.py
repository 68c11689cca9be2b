"""Where exactly a clip begins and ends in a reel: near its ends its pictures are compared with the stream's one by one.

A reel's picture is taken for a share of the stream's own picture at that time, plus others: the share is 1 inside a
clip, 0 beyond a cut, and falls in a straight line through a cross-fade or a fade to black. So an end is found by laying
such a line through the shares, and a clip reaches as far as anything of it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hlkit.excerpts import Excerpts
from hlkit.fingerprints import SIDE, TILE, TILE_NOISE, relief

# What is compared around an end: a coarse end may be wrong by a second or two where the picture turns fast.
OUTSIDE_SECONDS, INSIDE_SECONDS = 3.0, 2.5
# From the coarse offset the exact one is at most so far away, in seconds.
OFFSET_REACH = 0.2
# Longer fades are rare in highlight videos, and could be mistaken for a slow change of the picture.
LONGEST_FADE = 1.5
# A rate above this shows no border more exactly, and costs decoding.
HIGHEST_RATE = 60
# Mean likenesses this close are the same.
SAME_LIKENESS = 0.003
# A fade must explain the shares better than a cut by this share of what the cut leaves unexplained.
FADE_GAIN = 0.3
# An editor's cut or short fade takes the shares down by so much (of 1), between so many pictures before and after it.
CLEAR_DROP, BESIDE, CLEAR_FADE = 0.6, 8, 0.8
# Two pictures in a row that are less alike than this are of two views, where most are more alike than the second
# number; looked for so many pictures around an end, among so many.
NEW_VIEW, SAME_VIEW, CUT_REACH, AROUND = 0.3, 0.6, 4, 20


@dataclass(frozen=True)
class Clip:
    """A stretch of a reel, `[start, end)` s, and what to add to a time there to get the stream's, at both ends.

    `clear_ends` counts those of its ends at which the reel plainly leaves the stream, by a cut or a short fade, while
    the stream goes on.
    """

    start: float
    end: float
    begin_offset: float
    end_offset: float
    clear_ends: int = 0


@dataclass(frozen=True)
class End:
    """Where a clip ends: after `stop` pictures, the last `fade` of which are mixed; by how much the shares `drop`."""

    stop: int
    fade: int
    drop: float


@dataclass(frozen=True)
class _Side:
    """What was decoded near one end: the reel's pictures `numbers`, and the stream's at that time, as reliefs.

    `offset` is the exact one; None where the pictures there don't tell it.
    """

    offset: float | None
    numbers: np.ndarray  # (n,)
    reel: np.ndarray  # (n, d)
    stream: np.ndarray  # (n, d)


def refine(
    clips: Sequence[Clip], stream: Excerpts, reel: np.ndarray, reel_rate: Fraction, shared: np.ndarray
) -> list[Clip]:
    """The clips with their exact ends.

    Args:
        clips: of one reel, by start, not overlapping; ends right to some two seconds, offsets to a tenth.
        stream: what they were cut from, open.
        reel: the reel's pictures, uint8 (n, SIDE, SIDE), `reel_rate` a second.
        reel_rate: exact.
        shared: the relief that all pictures of the stream share, (tiles, pixels) at SIDE.
    """
    sides = [
        (_look(clip, stream, reel, reel_rate, shared, at_end=False), _look(clip, stream, reel, reel_rate, shared))
        for clip in clips
    ]
    result = []
    for number, clip in enumerate(clips):
        before, after = sides[number]
        begin_offset, end_offset = _offsets(clip, before.offset, after.offset)
        left = sides[number - 1][1] if number else None
        right = sides[number + 1][0] if number + 1 < len(clips) else None
        first = clips[number - 1].end - INSIDE_SECONDS / 2 if number else 0.0
        last = clips[number + 1].start + INSIDE_SECONDS / 2 if number + 1 < len(clips) else len(reel) / reel_rate
        start, clear_start = _border(before, left, reel_rate, clip.start, forwards=False)
        end, clear_end = _border(after, right, reel_rate, clip.end, forwards=True)
        clear_end = clear_end or end >= (len(reel) - 2) / reel_rate
        start, end = max(start, float(first), -begin_offset), min(end, float(last), stream.info.duration - end_offset)
        if end > start:
            result.append(Clip(start, end, begin_offset, end_offset, clear_start + clear_end))
    return result


def _offsets(clip: Clip, begin: float | None, end: float | None) -> tuple[float, float]:
    """The offsets at both ends: where one end stands still, the other one's tells it."""
    drift = clip.end_offset - clip.begin_offset if abs(clip.end_offset - clip.begin_offset) > OFFSET_REACH else 0.0
    if begin is None and end is None:
        return clip.begin_offset, clip.end_offset
    if begin is None:
        return (end or 0.0) - drift, end or 0.0
    return begin, begin + drift if end is None else end


def _look(
    clip: Clip,
    stream: Excerpts,
    reel: np.ndarray,
    reel_rate: Fraction,
    shared: np.ndarray,
    *,
    at_end: bool = True,
) -> _Side:
    """The pictures near one end of a clip, and the exact offset there."""
    middle = (clip.start + clip.end) / 2
    if at_end:
        low, high, offset = max(middle, clip.end - INSIDE_SECONDS), clip.end + OUTSIDE_SECONDS, clip.end_offset
    else:
        low, high, offset = clip.start - OUTSIDE_SECONDS, min(middle, clip.start + INSIDE_SECONDS), clip.begin_offset
    numbers = np.arange(max(0, int(low * reel_rate)), min(len(reel), int(high * reel_rate) + 1))
    rate = min(stream.info.fps, Fraction(HIGHEST_RATE))
    begin = max(0.0, float(numbers[0] / reel_rate) + offset - 2 * OFFSET_REACH) if len(numbers) else 0.0
    end = float((numbers[-1] + 1) / reel_rate) + offset + 2 * OFFSET_REACH if len(numbers) else 0.0
    pictures = stream.between(begin, end, rate=rate)
    shown = _reliefs(reel[numbers], shared)
    if not len(pictures) or not len(numbers):
        return _Side(None, numbers[:0], shown[:0], shown[:0])
    source = _reliefs(pictures, shared)
    inside = (numbers / float(reel_rate) < clip.end) & (numbers / float(reel_rate) >= clip.start)
    times = numbers / float(reel_rate) + offset - begin
    shift = _exact_shift(times[inside], shown[inside], source, float(rate))
    places = (times + (shift or 0.0)) * float(rate)
    return _Side(None if shift is None else offset + shift, numbers, shown, _most_alike(shown, source, places))


def _exact_shift(times: np.ndarray, shown: np.ndarray, source: np.ndarray, rate: float) -> float | None:
    """By how many seconds to move `times` so that the pictures are most alike; None where nothing moves to tell it."""
    if not len(times):
        return None
    reach = round(OFFSET_REACH * rate * 2)
    shifts = np.arange(-reach, reach + 1) / (2 * rate)
    scores = np.zeros(len(shifts))
    for number, shift in enumerate(shifts):
        places = np.clip(((times + shift) * rate).astype(np.int64), 0, len(source) - 1)
        scores[number] = _likeness(shown, source[places]).mean()
    best = shifts[scores >= scores.max() - SAME_LIKENESS]
    return float(best.mean()) if np.ptp(best) < OFFSET_REACH else None


def _most_alike(shown: np.ndarray, source: np.ndarray, places: np.ndarray) -> np.ndarray:
    """For each reel picture the stream's picture at its place or one or two beside it, whichever is most alike."""
    best, likeness = np.zeros_like(shown), np.full(len(shown), -np.inf)
    for step in (0, -1, 1, -2, 2):
        whole = np.floor(places).astype(np.int64) + step
        there = (whole >= 0) & (whole < len(source))
        candidate = source[np.clip(whole, 0, len(source) - 1)]
        score = np.where(there, _likeness(shown, candidate), -np.inf)
        better = score > likeness
        best[better], likeness[better] = candidate[better], score[better]
    return best


def _likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return (one * other).sum(axis=1) / np.maximum(scale, 1e-6)


def _reliefs(pictures: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """(n, d): reliefs at full size without what is shared."""
    return (relief(pictures, SIDE) - shared).reshape(len(pictures), -1)


def _border(side: _Side, other: _Side | None, rate: Fraction, coarse: float, *, forwards: bool) -> tuple[float, bool]:
    """The reel's time at which the clip ends (`forwards`) or begins, and whether it plainly does."""
    if not len(side.numbers):
        return coarse, False
    shares, weights = _shares(side, other)
    numbers = side.numbers
    if not forwards:
        shares, weights, numbers = shares[::-1], weights[::-1], numbers[::-1]
    end = fit_end(shares, weights, round(LONGEST_FADE * rate))
    # `end.stop` pictures, counted from inside, belong to the clip.
    border = numbers[0] + end.stop if forwards else numbers[0] - end.stop + 1
    clear = end.drop >= CLEAR_DROP and end.fade <= CLEAR_FADE * rate
    return float(border / rate), clear and not _stream_cuts(side, end, forwards=forwards)


def _stream_cuts(side: _Side, end: End, *, forwards: bool) -> bool:
    """Whether the stream itself changes its view there: as where a game begins, alike in another stream too."""
    place = end.stop if forwards else len(side.numbers) - end.stop
    likeness = _likeness(side.stream[1:], side.stream[:-1])
    near = likeness[max(0, place - CUT_REACH - end.fade) : place + CUT_REACH + end.fade]
    around = likeness[max(0, place - AROUND) : place + AROUND]
    # Where it turns fast, all pictures are unlike the ones before them.
    return len(near) > 0 and float(near.min()) < NEW_VIEW and float(np.median(around)) > SAME_VIEW


def _shares(side: _Side, other: _Side | None) -> tuple[np.ndarray, np.ndarray]:
    """The share of the clip's own picture in each of the reel's, beside the neighbour's where it is known; weights.

    The median over the tiles: a title, or a weapon that another clip shows too, spoils or feigns a few of them.
    """
    own, shown = _tiles(side.stream), _tiles(side.reel)
    beside = np.zeros_like(own)
    if other is not None and len(other.numbers):
        _, here, there = np.intersect1d(side.numbers, other.numbers, return_indices=True)
        beside[here] = _tiles(other.stream)[there]
    aa, bb, ab = (own**2).sum(2), (beside**2).sum(2), (own * beside).sum(2)
    ra, rb = (shown * own).sum(2), (shown * beside).sum(2)
    # A little damping keeps pictures that are alike from being told apart by noise.
    damping = 0.02 * (aa + bb) + TILE**2 * TILE_NOISE**2
    aa, bb = aa + damping, bb + damping
    share = (ra * bb - rb * ab) / np.maximum(aa * bb - ab**2, 1e-6)
    energy = aa - damping
    weight = energy / (energy + np.median(energy) + 1e-3)
    return _weighted_median(share, weight), weight.mean(axis=1)


def _tiles(reliefs: np.ndarray) -> np.ndarray:
    return reliefs.reshape(len(reliefs), -1, TILE**2)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each row, (n,) from (n, k)."""
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(weights, order, 1).cumsum(axis=1)
    middle = (ranked < ranked[:, -1:] / 2).sum(axis=1)
    return np.take_along_axis(values, order, 1)[np.arange(len(values)), np.minimum(middle, values.shape[1] - 1)]


def fit_end(shares: np.ndarray, weights: np.ndarray, longest: int) -> End:
    """How many pictures, counted from the inside, hold anything of the clip.

    A line that is high first, falls over 0 to `longest` pictures and is 0 then is laid through the shares.

    Args:
        shares: (n,) of the clip in each picture, from the inside to the outside.
        weights: (n,) how far each share can be trusted.
        longest: pictures of the longest fade.

    Example: shares 1, 1, 1, 0.02, 0 stop at 3; shares 1, 1, 0.75, 0.5, 0.25, 0, 0 at 5, with a fade of 3.
    """
    count = len(shares)
    level = np.median(shares[: max(1, count // 4)])
    values = np.clip(shares / max(level, 0.2), -0.3, 1.3)
    steps = np.arange(count)
    best: dict[int, tuple[float, int]] = {}
    for fade in range(0, min(longest, count - 1) + 1, 2 if longest > 30 else 1):
        full = np.arange(0, count - fade + 1)
        lines = np.clip(1 - (steps - full[:, None] + 1) / (fade + 1), 0.0, 1.0)
        costs = (weights * np.abs(values - lines)).sum(axis=1)
        chosen = int(costs.argmin())
        best[fade] = (float(costs[chosen]), chosen + fade)
    fade = min(best, key=lambda each: best[each][0])
    if best[fade][0] >= (1 - FADE_GAIN) * best[0][0]:
        fade = 0
    stop = best[fade][1]
    inside, outside = values[max(0, stop - fade - BESIDE) : stop - fade], values[stop : stop + BESIDE]
    return End(stop, fade, float(np.median(inside) - np.median(outside)) if len(inside) and len(outside) else 0.0)
