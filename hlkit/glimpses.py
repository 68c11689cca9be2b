"""The pictures of a stream on a grid of time: from the frame store, or decoded where its keyframes say it is worth it.

Decoding six hours takes minutes; keyframes alone take seconds, and a clip of some seconds holds one or more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.excerpts import Excerpts
from hlkit.fingerprints import SIDE, decode_pictures, stored_pictures, tile_prints, unit_prints
from hlkit.project import HlkitError
from hlkit.video import VideoInfo, frame_count

RATE = Fraction(3)
# Stored frames must be so many a second; of more, every second or third is taken.
LEAST_RATE, MOST_RATE = Fraction(2), Fraction(6)

# A shorter stream is decoded whole.
WHOLE_SECONDS = 1500.0
# Keyframes further apart than this leave short clips out.
MAX_KEYFRAME_SECONDS = 2.6
# A keyframe that is like some picture of the reel, and so many seconds on both sides of it, are decoded, the likest
# first, until that is this share of the stream, or so many times as long as the reel.
MIN_LIKENESS, AROUND_SECONDS, MOST_SHARE, REEL_TIMES = 0.4, 5.0, 0.2, 6
# Where the next stretch begins so soon, keyframes are so far apart that decoding on costs no more.
JOIN_SECONDS = 3


@dataclass(frozen=True)
class Glimpses:
    """Pictures at `i / rate` s: `pictures` uint8 (n, SIDE, SIDE), where `known` (n,) says so."""

    rate: Fraction
    pictures: np.ndarray
    known: np.ndarray

    @property
    def prints(self) -> np.ndarray:
        """The prints of `tile_prints`, zeros where no picture is known."""
        prints = np.zeros((len(self.pictures), tile_prints(self.pictures[:1]).shape[1]), dtype=np.float32)
        prints[self.known] = tile_prints(self.pictures[self.known])
        return prints


def whole_stream(info: VideoInfo, *, progress: bool = True) -> Glimpses:
    """All pictures of a stream, decoded."""
    pictures = decode_pictures(info.path, rate=RATE, desc="stream", progress=progress)
    return Glimpses(RATE, pictures, np.ones(len(pictures), dtype=bool))


def stored_frames(frames: pl.DataFrame, root: Path, *, progress: bool = True) -> Glimpses:
    """Those of the frame store. `frames` is the frames table of one video.

    Raises:
        HlkitError: when the table is of fewer than two pictures a second, of several videos, or empty.
    """
    later = frames.filter(pl.col("frame") > 0)
    if frames["video"].n_unique() != 1 or later.is_empty():
        raise HlkitError("The frames table has no frames of one video. Run `hlkit frames`, or leave the table out.")
    rate = Fraction(float(later["frame"][-1] / later["time"][-1])).limit_denominator(1001)
    if rate < LEAST_RATE:
        raise HlkitError(f"The frames are {rate} a second; to find a reel in them takes 2 or more. Leave them out.")
    every = max(1, int(rate / LEAST_RATE)) if rate > MOST_RATE else 1
    chosen = frames.filter(pl.col("frame") % every == 0)
    places = (chosen["frame"] // every).to_numpy()
    pictures = np.zeros((int(places.max()) + 1, SIDE, SIDE), dtype=np.uint8)
    known = np.zeros(len(pictures), dtype=bool)
    pictures[places] = stored_pictures(chosen, root, progress=progress)
    known[places] = True
    return Glimpses(rate / every, pictures, known)


def worthwhile_stream(stream: Excerpts, reel: np.ndarray, seconds: float, *, progress: bool = True) -> Glimpses:
    """Those that may be in a reel, found by the stream's keyframes; all, where the stream is short or has too few.

    Args:
        stream: the open stream.
        reel: pictures of the reel, uint8 (m, SIDE, SIDE), all of them: where a game turns fast, a keyframe is like the
            one that shows it and no other.
        seconds: how long the reel is.
        progress: show progress bars.
    """
    info = stream.info
    if info.duration < WHOLE_SECONDS:
        return whole_stream(info, progress=progress)
    times, pictures = stream.keyframes(progress=progress)
    if len(times) < 2 or np.quantile(np.diff(times), 0.9) > MAX_KEYFRAME_SECONDS:
        return whole_stream(info, progress=progress)
    prints = tile_prints(pictures)
    shared = prints.mean(axis=0)
    likeness = best_likeness(unit_prints(prints, shared), unit_prints(tile_prints(reel), shared))
    count = frame_count(info.duration, RATE)
    most = max(round(MOST_SHARE * count), round(REEL_TIMES * seconds * RATE))
    result = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    known = np.zeros(count, dtype=bool)
    for first, stop in tqdm(
        worth_decoding(times, likeness, count, most), "stream", unit="stretch", mininterval=0.5, disable=not progress
    ):
        found = stream.between(float(first / RATE), float(stop / RATE), rate=RATE)[: stop - first]
        result[first : first + len(found)] = found
        known[first : first + len(found)] = True
    return Glimpses(RATE, result, known)


def best_likeness(stream: np.ndarray, reel: np.ndarray, block: int = 1024) -> np.ndarray:
    """How like each print of a stream (n, d) is to the likest of a reel (m, d): (n,), -1 without a reel."""
    best = np.full(len(stream), -1.0, dtype=np.float32)
    for first in range(0, len(reel), block):
        best = np.maximum(best, (stream @ reel[first : first + block].T).max(axis=1))
    return best


def worth_decoding(times: np.ndarray, likeness: np.ndarray, count: int, most: int) -> list[tuple[int, int]]:
    """The steps `[first, stop)` of the grid around keyframes that are like something, disjoint and in order.

    Args:
        times: of the keyframes, s (n,).
        likeness: of each to the reel (n,).
        count: steps of the grid in the stream.
        most: how many of them to decode; the last stretch may exceed it.
    """
    wanted = np.zeros(count, dtype=bool)
    for number in np.argsort(-likeness, kind="stable"):
        if likeness[number] < MIN_LIKENESS or wanted.sum() > most:
            break
        first = max(0, int((float(times[number]) - AROUND_SECONDS) * RATE))
        wanted[first : int((float(times[number]) + AROUND_SECONDS) * RATE) + 1] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted.astype(np.int8), [0]])))
    stretches: list[tuple[int, int]] = []
    for first, stop in edges.reshape(-1, 2).tolist():
        if stretches and first - stretches[-1][1] <= JOIN_SECONDS * RATE:
            stretches[-1] = (stretches[-1][0], stop)
        else:
            stretches.append((first, stop))
    return stretches
