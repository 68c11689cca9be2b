"""Which stretches of a stream a highlight video shows: labels for nothing, from reels that are already published.

The reel may be of another size, encoder and frame rate, with titles over the picture, music over the sound,
cross-fades, its clips in another order and with clips from elsewhere between them. A stretch is found by its pictures;
sound confirms it and tells repeated stretches apart, but finds none by itself, since a streamer's music may be the
reel's music too.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from hlkit.borders import Clip, refine
from hlkit.evidence import REPEAT_LIKENESS, REPEAT_MOVEMENT, VOTES_RATIO, Evidence, best_elsewhere, movement
from hlkit.excerpts import Excerpts, open_excerpts
from hlkit.fingerprints import SIDE, decode_pictures, relief, tile_prints, unit_prints
from hlkit.glimpses import Glimpses, stored_frames, worthwhile_stream
from hlkit.labels import DEFAULT_LABEL, SPAN_SCHEMA
from hlkit.landmarks import LANDMARKS, agreements, landmarks, votes
from hlkit.project import HlkitError, HlkitWarning, format_time
from hlkit.threads import beside
from hlkit.tracing import FINER, trace
from hlkit.video import probe

MATCH_SCHEMA = pl.Schema(
    dict(SPAN_SCHEMA)
    | {"reel_start": pl.Float64, "reel_end": pl.Float64, "confidence": pl.Float64, "reason": pl.String}
)
# Borders are found to one picture of the reel; more than this many a second make them no better.
REEL_RATE = Fraction(30)
# Shorter stretches can't be told from chance.
SHORTEST_SECONDS = 1.0
# Two clips that run on at the same offset are one, over which the editor laid something for a moment.
SAME_OFFSET_SECONDS, SAME_CLIP_SECONDS = 0.15, 2.0
# From so many pictures the mean picture of a stream is taken.
MEAN_PICTURES = 2000
EMPTY = np.zeros((0, SIDE, SIDE), dtype=np.uint8)
NOTHING = np.zeros(0, dtype=LANDMARKS)

_log = logging.getLogger(__name__)


def match_reel(
    stream: Path,
    reel: Path,
    *,
    video: str | None = None,
    frames: pl.DataFrame | None = None,
    root: Path | None = None,
    progress: bool = True,
) -> pl.DataFrame:
    """The stretches of a stream that a highlight video shows.

    Clips that run at another speed, are mirrored, or cut to another shape are not found; nor are those of less than
    some three seconds, or of a picture that stands still, unless their sound is the stream's. A stretch that the stream
    shows twice is left out (HlkitWarning), since nobody can say which one was meant.

    Args:
        stream: the recording of the stream.
        reel: the highlight video.
        video: the id for the column `video`; the stream's file name without its ending unless given.
        frames: a frames table of the stream (whole pictures, two a second or more), which saves decoding it.
        root: the folder that holds its frame store.
        progress: show progress bars.

    Returns:
        Columns of `SPAN_SCHEMA`, by start: `start` and `end` are seconds of the stream; a stretch that the reel shows
        twice has two rows. And `reel_start`, `reel_end`, s, where the reel shows it; `confidence`, 0 to 1; `reason`,
        what speaks for it.

    Raises:
        HlkitError: when one of them can't be read, both are the same file, or `frames` are fewer than two a second or
            of several videos.
    """
    return match_reels(stream, [reel], video=video, frames=frames, root=root, progress=progress)[0]


def match_reels(
    stream: Path,
    reels: Sequence[Path],
    *,
    video: str | None = None,
    frames: pl.DataFrame | None = None,
    root: Path | None = None,
    progress: bool = True,
) -> list[pl.DataFrame]:
    """What `match_reel` gives, for each of several reels or clips of one stream, which is read once.

    Arguments, columns and errors as for `match_reel`.
    """
    info = probe(stream)
    for reel in reels:
        if Path(stream).resolve() == Path(reel).resolve():
            raise HlkitError(f"{stream} is both the stream and the reel. Give the video that was cut from the stream.")
        # Later, an error would wait until all of the stream's sound was heard.
        probe(reel)
    # Most of the sound is heard by one core while the other looks at keyframes.
    with open_excerpts(info) as excerpts:
        sounds = beside(lambda: landmarks(stream, progress=progress))
        shown = [_read(reel, progress) for reel in reels]
        if frames is None or root is None:
            seconds = sum(float(len(pictures) / rate) for pictures, rate in shown)
            every = np.concatenate([EMPTY, *(pictures for pictures, _ in shown)])
            glimpses = worthwhile_stream(excerpts, every, seconds, progress=progress)
        else:
            glimpses = stored_frames(frames, root, progress=progress)
        found: list[pl.DataFrame] = []
        for reel, (pictures, rate) in zip(reels, shown, strict=True):
            if not glimpses.known.any() or not len(pictures):
                found.append(pl.DataFrame(schema=MATCH_SCHEMA))
                continue
            sight = _sight(glimpses, pictures[_places(len(pictures), rate, glimpses.rate * FINER)])
            clips = _seen(excerpts, sight, glimpses, pictures, rate)
            heard = _heard(sounds, reel, clips, progress)
            found.append(_judged(clips, sight, glimpses, heard, video or Path(stream).stem))
    return found


def _read(reel: Path, progress: bool) -> tuple[np.ndarray, Fraction]:
    rate = min(probe(reel).fps, REEL_RATE)
    return decode_pictures(reel, rate=rate, desc="reel", progress=progress), rate


def _heard(sounds: Future[np.ndarray], reel: Path, clips: list[Clip], progress: bool) -> np.ndarray:
    """Where the reel sounds like the stream, as `agreements` gives it."""
    if not clips:
        return agreements(NOTHING, NOTHING)
    return agreements(sounds.result(), landmarks(reel, desc="reel's sound", progress=progress))


def _places(count: int, rate: Fraction, wanted: Fraction) -> np.ndarray:
    """Of `count` pictures at `rate`, the numbers of those on screen at `i / wanted` s."""
    total = math.ceil(count * wanted / rate)
    return np.array([int(step * rate / wanted) for step in range(total)], dtype=np.int64)


@dataclass(frozen=True)
class _Sight:
    """The prints of the stream on its grid and of the reel's `steps` (pictures) on one four times as fine."""

    stream: np.ndarray
    reel: np.ndarray
    steps: np.ndarray


def _sight(glimpses: Glimpses, steps: np.ndarray) -> _Sight:
    prints = glimpses.prints
    shared = prints[glimpses.known].mean(axis=0)
    stream = unit_prints(prints, shared)
    stream[~glimpses.known] = 0.0
    return _Sight(stream, unit_prints(tile_prints(steps), shared), steps)


def _seen(stream: Excerpts, sight: _Sight, glimpses: Glimpses, shown: np.ndarray, rate: Fraction) -> list[Clip]:
    """The clips that look like the stream, by their place in the reel, with exact ends."""
    second = float(glimpses.rate)
    fine = second * FINER
    coarse = [
        Clip(run.first / second, run.stop / second, run.begin_offset / fine, run.end_offset / fine)
        for run in trace(sight.stream, sight.reel)
    ]
    chosen = np.flatnonzero(glimpses.known)
    chosen = chosen[:: max(1, len(chosen) // MEAN_PICTURES)]
    mean = relief(glimpses.pictures[chosen], SIDE).mean(axis=0)
    return joined(refine(coarse, stream, shown, rate, mean))


def joined(clips: list[Clip]) -> list[Clip]:
    """Clips that run on at the same offset as one."""
    result: list[Clip] = []
    for clip in clips:
        last = result[-1] if result else None
        if (
            last is not None
            and abs(clip.begin_offset - last.end_offset) <= SAME_OFFSET_SECONDS
            and clip.start - last.end <= SAME_CLIP_SECONDS
        ):
            ends = min(last.clear_ends, clip.clear_ends)
            result[-1] = Clip(last.start, max(last.end, clip.end), last.begin_offset, clip.end_offset, ends)
        else:
            result.append(clip)
    return result


def _weigh(clip: Clip, sight: _Sight, glimpses: Glimpses, heard: np.ndarray) -> Evidence:
    rate = float(glimpses.rate)
    numbers = np.arange(math.ceil(clip.start * rate), max(math.ceil(clip.start * rate) + 1, int(clip.end * rate)))
    share = (numbers / rate - clip.start) / (clip.end - clip.start)
    offsets = np.rint((clip.begin_offset + share * (clip.end_offset - clip.begin_offset)) * rate * FINER)
    # The fine step at which the reel shows a picture of the stream's grid, and the number of that picture.
    fine = (FINER * numbers + (-offsets) % FINER).astype(np.int64)
    places = ((fine + offsets) // FINER).astype(np.int64)
    inside = (fine < len(sight.reel)) & (places >= 0) & (places < len(sight.stream))
    fine, places = fine[inside], places[inside]
    if not len(fine):
        return Evidence(0.0, 0.0, 0.0, 0, 0, clip.clear_ends, False)
    likeness = float((sight.reel[fine] * sight.stream[places]).sum(axis=1).mean())
    alike, moved = movement(glimpses.pictures, sight.steps, fine, places, glimpses.known)
    offset = (clip.begin_offset + clip.end_offset) / 2
    mine, chance = votes(heard, clip.start, clip.end, offset)
    other, other_likeness = best_elsewhere(sight.stream, sight.reel[fine], places - places[0], int(places[0]))
    elsewhere = False
    if other_likeness >= REPEAT_LIKENESS * likeness:
        shift = other - int(places[0])
        other_alike, _ = movement(glimpses.pictures, sight.steps, fine, places + shift, glimpses.known)
        others, _ = votes(heard, clip.start, clip.end, offset + shift / rate)
        elsewhere = other_alike >= REPEAT_MOVEMENT * alike and mine < VOTES_RATIO * max(others, 2)
    return Evidence(likeness, alike, moved, mine, chance, clip.clear_ends, elsewhere)


def _judged(clips: list[Clip], sight: _Sight, glimpses: Glimpses, heard: np.ndarray, video: str) -> pl.DataFrame:
    """The clips that are true, as a table; a warning for those that could be from several places."""
    rows, repeated = [], []
    for clip in clips:
        start, end = clip.start + clip.begin_offset, clip.end + clip.end_offset
        evidence = _weigh(clip, sight, glimpses, heard)
        _log.debug("%s at %.2f: %s, %s", clip, start, evidence.verdict, evidence)
        if evidence.verdict == "repeated":
            repeated.append(format_time(clip.start))
        if evidence.verdict == "sure" and end - start >= SHORTEST_SECONDS:
            rows.append((video, start, end, DEFAULT_LABEL, clip.start, clip.end, evidence.confidence, evidence.reason))
    if repeated:
        many = f"What the reel shows at {', '.join(repeated)} is in the stream more than once"
        warnings.warn(f"{many}, so it is left out. Mark it by hand.", HlkitWarning, stacklevel=4)
    return pl.DataFrame(rows, schema=MATCH_SCHEMA, orient="row").sort("start", "reel_start")
