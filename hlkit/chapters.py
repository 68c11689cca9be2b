"""Chapters as YouTube takes them, read as spans.

Convention and source (support.google.com/youtube/answer/9884579): a line each in a description, `0:00 Title`, `m:ss` or
`h:mm:ss`, rising from 0:00. A chapter lasts until the next one begins, the last to the end of the video. Other lines of
the description are passed over; a bracket or a bullet may stand before the time, a dash behind it. Titles are no
classes: "Boss fight 2" is read as "Boss fight" (see `label_of`), and `map_labels` makes classes of them. Written by
`hlkit.exports`.
"""

from __future__ import annotations

import re

from hlkit.entries import Findings, Hints, label_of, need_video
from hlkit.project import format_time

_CHAPTER = re.compile(r"[\s\-*•(\[]*((?:\d{1,3}:)?\d{1,2}:\d\d)[)\]]?(?:\s*[-\u2013\u2014:|]\s*|\s+)(\S.*)")


def is_chapters(text: str) -> bool:
    """Whether a text has a line that can be a chapter."""
    return any(_CHAPTER.fullmatch(line.strip()) for line in text.splitlines())


def read_chapters(text: str, hints: Hints) -> Findings:
    """Read the chapters of the one video that the caller names; the last needs the video's length.

    Raises:
        HlkitError: when no video is named.
    """
    video, found = need_video(hints, "a list of chapters"), Findings("line")
    chapters = []
    for place, line in enumerate(text.splitlines(), start=1):
        if match := _CHAPTER.fullmatch(line.strip()):
            clock = match[1] if match[1].count(":") == 2 else f"0:{match[1]}"
            if (start := found.time(place, "time", clock)) is not None:
                chapters.append((place, start, match[2]))
    ends = [*(start for _, start, _ in chapters[1:]), hints.length(video)][: len(chapters)]
    for (place, start, title), end in zip(chapters, ends, strict=True):
        if end is None:
            found.fault(place, "end: the last chapter goes on to the end of the video, whose length is not known")
        elif end <= start:
            found.fault(
                place, f"time: {format_time(start)} is not before what follows; allowed are rising times in the video"
            )
        else:
            found.add(place, video, start, end, label_of(title))
    return found
