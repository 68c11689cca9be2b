"""What speaks for a stretch of a reel being a stretch of the stream: that it moves alike, sounds alike, and is alone.

Pictures that are alike do not suffice: a waiting screen tells no time, and games begin with the same view each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hlkit.fingerprints import PRINT_SIDE, relief
from hlkit.tracing import FINER, WINDOW

# Change from picture to picture that is the encoder's: one grey level squared for each value of a print.
NOISE_ENERGY = 4.0 * PRINT_SIDE**2
# Two changes of the picture correlate by about 0.1 by chance, and by 0.45 or more in all but stills of true clips.
MIN_MOVEMENT = 0.3
# Of pictures that move alike, as many as `SURE_MOVED` (weighted, about 3 a second) leave no doubt. Games that begin
# with the same view and the same first steps reached 6.6; but there the stream changes its view too, and a reel does
# not leave them by a cut, as it leaves its clips. So with one such end fewer suffice; by chance they
# have one up to 4.3.
SURE_MOVED, SHORT_MOVED, LEAST_MOVED = 9.0, 5.0, 2.0
# Landmarks that agree, at least so many and so many times what other offsets have.
MIN_VOTES, VOTES_RATIO = 6, 3
# Another place of the stream that is as like, up to this share, makes a stretch a repeated one.
REPEAT_LIKENESS, REPEAT_MOVEMENT = 0.92, 0.85
# Places so close are the same one, in steps of the stream.
SAME_PLACE = 4
MAX_ROWS = 90

Verdict = Literal["sure", "still", "unlike", "doubtful", "repeated"]


@dataclass(frozen=True)
class Evidence:
    """What was found for one stretch.

    `likeness` of its pictures (-1 to 1); `movement`: how alike they change (-1 to 1); `moved`: how many pictures speak
    for it so; `votes` of sound for its offset, and `chance_votes` for the best of others nearby; `clear_ends`: at how
    many of its two ends the reel plainly leaves the stream while that goes on; `elsewhere`: whether another stretch of
    the stream is as like, in pictures and in sound.
    """

    likeness: float
    movement: float
    moved: float
    votes: int
    chance_votes: int
    clear_ends: int
    elsewhere: bool

    @property
    def heard(self) -> bool:
        """Whether the sound says so too."""
        return self.votes >= max(MIN_VOTES, VOTES_RATIO * self.chance_votes)

    @property
    def verdict(self) -> Verdict:
        """Whether it is a true stretch of the stream, or why it is not taken for one."""
        if self.heard and not self.elsewhere:
            return "sure"
        if self.moved < LEAST_MOVED:
            return "still"
        if self.movement < MIN_MOVEMENT:
            return "unlike"
        if self.elsewhere:
            return "repeated"
        if self.moved < SHORT_MOVED or (self.moved < SURE_MOVED and not self.clear_ends):
            return "doubtful"
        return "sure"

    @property
    def confidence(self) -> float:
        """0 to 1: how near both kinds of evidence are to what leaves no doubt."""
        seen = min(1.0, max(0.0, self.moved) / SURE_MOVED) * min(1.0, max(0.0, self.movement) / 0.6)
        sounds = min(1.0, self.votes / (2 * MIN_VOTES)) if self.heard else 0.0
        return round(1 - (1 - 0.9 * seen) * (1 - 0.9 * sounds), 3)

    @property
    def reason(self) -> str:
        """In words, for a table."""
        seen = f"pictures alike by {self.likeness:.2f}, moving alike by {self.movement:.2f}"
        return f"{seen}; {self.votes} sounds agree" if self.votes else f"{seen}; the sound says nothing"


def movement(
    stream: np.ndarray, reel: np.ndarray, steps: np.ndarray, places: np.ndarray, known: np.ndarray
) -> tuple[float, float]:
    """How alike the pictures change from one step of the stream to the next, where they change at all.

    Args:
        stream: pictures on the coarse grid, uint8 (n, SIDE, SIDE).
        reel: pictures on the fine grid, uint8 (m, SIDE, SIDE).
        steps: (k,) of the fine grid.
        places: (k,) of the coarse grid, shown there.
        known: bool (n,), which pictures of the stream are there.

    Returns:
        The mean correlation of the changes, -1 to 1, weighted by how much changes; 0 where nothing does. And the sum of
        it, about one for each picture that changes alike.
    """
    usable = (places >= 1) & (places < len(stream)) & (steps >= FINER) & (steps < len(reel))
    usable[usable] = known[places[usable]] & known[places[usable] - 1]
    steps, places = steps[usable], places[usable]
    if not len(steps):
        return 0.0, 0.0
    change = _flat(stream[places]) - _flat(stream[places - 1])
    energy = (change**2).sum(axis=1)
    likeness, least = np.full(len(steps), -1.0), np.zeros(len(steps))
    for shift in (0, -1, 1):
        at = np.clip(steps + shift, FINER, len(reel) - 1)
        other = _flat(reel[at]) - _flat(reel[at - FINER])
        other_energy = (other**2).sum(axis=1)
        value = (change * other).sum(axis=1) / np.sqrt(energy * other_energy + 1.0)
        likeness = np.maximum(likeness, value)
        least = np.maximum(least, np.minimum(energy, other_energy))
    weights = least / (least + NOISE_ENERGY)
    total = float((weights * likeness).sum())
    return total / max(float(weights.sum()), 1e-6), total


def _flat(pictures: np.ndarray) -> np.ndarray:
    return relief(pictures).reshape(len(pictures), -1)


def best_elsewhere(stream: np.ndarray, rows: np.ndarray, numbers: np.ndarray, place: int) -> tuple[int, float]:
    """The likeliest other place of a stretch in the stream, and its mean likeness.

    Args:
        stream: prints on the coarse grid, (n, d).
        rows: prints of the stretch, (k, d).
        numbers: (k,) coarse steps of these, from its beginning.
        place: where the stretch begins in the stream; so near, and where less than a window is shown, nothing counts.
    """
    if len(rows) > MAX_ROWS:
        chosen = np.linspace(0, len(rows) - 1, MAX_ROWS).astype(np.int64)
        rows, numbers = rows[chosen], numbers[chosen]
    reach = int(numbers[-1]) + 1
    totals = np.zeros(len(stream) + reach)  # index: place + reach
    counts = np.zeros(len(stream) + reach)
    for row, number in zip(rows, numbers, strict=True):
        first = reach - int(number)
        totals[first : first + len(stream)] += stream @ row
        counts[first : first + len(stream)] += 1
    mean = np.where(counts >= min(WINDOW, len(rows)), totals / np.maximum(counts, 1), -1.0)
    # A stretch that leaves the stream by half can't be where the reel's clip is from.
    mean[counts < len(rows) / 2] = -1.0
    mean[max(0, place + reach - SAME_PLACE) : place + reach + SAME_PLACE + 1] = -1.0
    best = int(mean.argmax())
    return best - reach, float(mean[best])
