"""Where one rendition shows what another shows: their clocks are laid over each other by pictures, to the frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from hlkit.cuts import Cut, Piece
from hlkit.project import HlkitError, format_time
from hlkit.sampling import SEEK_MARGINS
from hlkit.video import open_container, origin_of

# The clocks of two renditions are looked for so far apart; more would fetch more.
SEARCH_SECONDS = 2.0
# So much from a cut's start is compared: long enough to hold a movement, short beside a segment.
COMPARE_SECONDS = 2.0
# Small enough that the renditions' sharpness does not count, large enough that a movement does.
COMPARE_SIZE = (32, 18)
# Grey levels of 255: a small rendition's own loss stays below, two different scenes lie above.
MAX_DIFFERENCE = 20.0
# Offsets that fit as well as the best to within this much can't be told apart (a still picture).
SAME_SHARE, SAME_LEVELS = 1.02, 0.05

_log = logging.getLogger(__name__)


def align(video: Path, pieces: Sequence[Piece], cuts: Sequence[Cut]) -> list[Piece]:
    """The pieces with the offsets at which they show what `video` shows at the beginning of each cut, to the frame.

    Where many offsets fit alike (a still picture), the one nearest to what the other cuts say is taken.

    Raises:
        HlkitError: when a piece does not show what the video shows.
    """
    fits = []
    for piece, cut in zip(pieces, cuts, strict=True):
        local = _pictures(video, cut.start, min(cut.end, cut.start + COMPARE_SECONDS))
        begin = cut.start - piece.offset
        distant = _pictures(piece.info.path, begin - SEARCH_SECONDS, begin + COMPARE_SECONDS + SEARCH_SECONDS)
        shifts, differences = compare(*local, *distant)
        if not len(shifts) or differences.min() > MAX_DIFFERENCE:
            reason = f"The source does not show at {format_time(cut.start)} what {video.name} shows there"
            raise HlkitError(f"{reason}. Was it downloaded from somewhere else? Cut from the local recording.")
        fits.append(shifts[differences <= differences.min() * SAME_SHARE + SAME_LEVELS] + piece.offset)
    sure = [float(fit[0]) for fit in fits if len(fit) == 1]
    usual = median(sure) if sure else 0.0
    # `fit` is how far the piece's clock is ahead of what the playlist states.
    shifts = [float(fit[np.abs(fit - usual).argmin()]) for fit in fits]
    _log.info("the source's clock is ahead by %s s", shifts)
    return [replace(piece, offset=piece.offset - shift) for piece, shift in zip(pieces, shifts, strict=True)]


def compare(
    times: np.ndarray, pictures: np.ndarray, other_times: np.ndarray, other_pictures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How well two stretches fit at each shift that puts the first picture of one on a picture of the other.

    Args:
        times: when each of `pictures` comes on screen, in seconds, ascending, (N,).
        pictures: grey, 0 to 255, (N, height, width).
        other_times: the same of the other, (M,).
        other_pictures: of the same size, (M, height, width).

    Returns:
        Shifts in seconds, to be added to `times`, (K,), K <= M: those that leave every picture something to be compared
        with; and the mean absolute difference at each, in grey levels, (K,).
    """
    if not len(times) or not len(other_times):
        return np.empty(0), np.empty(0)
    shifts = other_times - times[0]
    # A rounding must not put a picture before the one it belongs to.
    shifts = shifts[times[-1] + shifts <= other_times[-1] + 1e-3]
    shown = np.searchsorted(other_times, times[None, :] + shifts[:, None] + 1e-3, side="right") - 1  # (K, N)
    flat, other = pictures.reshape(len(times), -1), other_pictures.reshape(len(other_times), -1)
    differences = [np.abs(other[row].astype(np.float32) - flat).mean() for row in shown]
    return shifts, np.array(differences, dtype=np.float64)


def _pictures(video: Path, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Times (N,) and small grey pictures (N, height, width) of what comes on screen in `[start, end)`."""
    found = list(_decode(video, start, end))
    times = np.array([time for time, _ in found])
    return times, np.array([picture for _, picture in found])


def _decode(video: Path, start: float, end: float) -> Iterator[tuple[float, np.ndarray]]:
    width, height = COMPARE_SIZE
    with open_container(video) as (container, stream):
        origin = origin_of(container)
        slack = 0.5 / float(stream.average_rate or 30)
        if (seek := start - SEEK_MARGINS[1]) > 0:
            container.seek(round((origin + seek) * 1_000_000))
        for frame in container.decode(stream):
            if frame.time is None or (time_ := frame.time - origin) < start - slack:
                continue
            if time_ >= end - slack:
                return
            yield time_, frame.reformat(width, height, format="gray", interpolation="AREA").to_ndarray()
