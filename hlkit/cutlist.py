"""The cut list: the highlights of one recording as whole pictures, with names and scores, for other programs to show.

Everything is counted in pictures of the recording's constant rate (`hlkit.cuts.reel_rate`), so that each format can
state the same times as exactly as it is able to.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import polars as pl

from hlkit.cuts import mean_score, plan_cuts, reel_rate
from hlkit.labels import DEFAULT_LABEL
from hlkit.layout import Look
from hlkit.parts import check_fade
from hlkit.project import HlkitError
from hlkit.sources import Source
from hlkit.video import VideoInfo, frame_count

# What would end a line of text, and what XML 1.0 (section 2.2) has no way to write.
_BREAKING = {"Cc", "Zl", "Zp", "Cs"}
_NOT_XML = "\ufffe\uffff"


@dataclass(frozen=True)
class Excerpt:
    """The pictures `[first, stop)` of a recording, under one line of text as `name`; `score` is 0 to 1, if known.

    Raises:
        HlkitError: unless 0 <= first < stop.
    """

    first: int
    stop: int
    name: str
    score: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.stop:
            raise HlkitError(f"An excerpt of the pictures {self.first} to {self.stop} can't be.")

    @property
    def count(self) -> int:
        """How many pictures it has."""
        return self.stop - self.first

    @property
    def caption(self) -> str:
        """Its name, and its score where that is known."""
        return self.name if self.score is None else f"{self.name}, score {self.score:.2f}"


@dataclass(frozen=True)
class CutList:
    """The excerpts of one recording, sorted and disjoint.

    `rate` is pictures a second, exact; `pictures` the recording's length; `source` where it came from, if known; `fade`
    how many pictures neighbours share in the reel.

    Raises:
        HlkitError: when there are no excerpts, they overlap or leave the recording, one is too short for the fade, or
            the recording's name can't stand in a line of text.
    """

    recording: Path
    title: str
    rate: Fraction
    pictures: int
    width: int
    height: int
    has_audio: bool
    excerpts: tuple[Excerpt, ...]
    source: Source | None = None
    fade: int = 0

    def __post_init__(self) -> None:
        if not self.excerpts:
            raise HlkitError(
                "There is nothing to export: no highlight was picked. Lower the threshold, or ask for more minutes."
            )
        borders = [border for excerpt in self.excerpts for border in (excerpt.first, excerpt.stop)]
        if borders != sorted(borders) or borders[-1] > self.pictures:
            raise HlkitError("The excerpts overlap, or leave the recording. Plan the cuts anew.")
        check_fade([excerpt.count for excerpt in self.excerpts], self.fade, self.rate)
        if one_line(name := self.recording.name) != name:
            raise HlkitError(
                f"The file name {name!r} holds a line break or another sign that no cut list can name. Rename it."
            )

    def in_reel(self) -> Iterator[tuple[int, Excerpt]]:
        """Each excerpt with the picture of the reel that it begins with."""
        begin = 0
        for excerpt in self.excerpts:
            yield begin, excerpt
            begin += excerpt.count - self.fade

    @property
    def reel_pictures(self) -> int:
        """How many pictures the reel has."""
        return sum(excerpt.count for excerpt in self.excerpts) - (len(self.excerpts) - 1) * self.fade


def make_cut_list(
    highlights: pl.DataFrame,
    info: VideoInfo,
    *,
    title: str = "",
    source: Source | None = None,
    scores: pl.DataFrame | None = None,
    fade_seconds: float = 0.0,
) -> CutList:
    """The cut list of the highlights: the same pictures that the reel shows (see `hlkit.cuts.plan_cuts`).

    Args:
        highlights: spans of one video: `start`, `end` in seconds; `label` and `score`, if there, are carried along.
        info: what the recording is.
        title: of the whole; the file's name unless given.
        source: where the recording came from.
        scores: the recording's score table; an excerpt's score is then the mean of its frames'.
        fade_seconds: of the reel (see `hlkit.layout.Look`).

    Returns:
        Excerpts named by label and number, such as "highlight 3"; a label of several lines becomes one.

    Raises:
        HlkitError: as `plan_cuts` and `CutList` do.
    """
    rate = reel_rate(info)
    excerpts = []
    for number, cut in enumerate(plan_cuts(highlights, info), start=1):
        name = f"{_label_between(highlights, cut.start, cut.end)} {number}"
        score = cut.score if scores is None else mean_score(scores, cut.start, cut.end)
        excerpts.append(Excerpt(round(cut.start * rate), round(cut.end * rate), name, score))
    return CutList(
        recording=Path(info.path).resolve(),
        title=one_line(title) or info.path.stem,
        rate=rate,
        pictures=frame_count(info.duration, rate),
        width=info.width,
        height=info.height,
        has_audio=info.has_audio,
        excerpts=tuple(excerpts),
        source=source,
        fade=Look(fade_seconds=fade_seconds).fade_pictures(rate),
    )


def one_line(text: str) -> str:
    """`text` without line breaks and control characters; white space around it and several spaces go too."""
    signs = (" " if unicodedata.category(sign) in _BREAKING or sign in _NOT_XML else sign for sign in text)
    return " ".join("".join(signs).split())


def _label_between(highlights: pl.DataFrame, start: float, end: float) -> str:
    if "label" not in highlights.columns:
        return DEFAULT_LABEL
    shown = highlights.filter((pl.col("start") < end) & (pl.col("end") > start)).sort("start")
    names = [one_line(label) for label in shown["label"].drop_nulls().unique(maintain_order=True)]
    return " + ".join(filter(None, names)) or DEFAULT_LABEL
