"""A Twitch channel: its newest videos, and the clips that its viewers made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from hlkit.sources import Source
from hlkit.twitchdl import patiently, run_for_json

LISTING = {"id": pl.String, "title": pl.String, "length": pl.Float64, "published": pl.String, "link": pl.String}

# A clip is made some time after what it shows, while the stream or its last minutes run.
CLIP_DELAY = timedelta(minutes=10)
MAX_CLIPS = 100


def list_channel(name: str, *, limit: int) -> pl.DataFrame:
    """The newest `limit` VODs of a Twitch channel, newest first, without one that still runs.

    Returns:
        `id` str, `title` str, `length` f64 s, `published` str (ISO 8601, UTC), `link` str.

    Raises:
        HlkitError: when there is no such channel.
    """
    words = ["videos", name, "--limit", str(limit), "--sort", "time", "--skip-live", "--json"]
    videos = patiently(lambda: run_for_json(words), f"the channel {name}")["videos"]
    rows = [
        {
            "id": str(video["id"]),
            "title": video.get("title") or "",
            "length": float(video.get("lengthSeconds") or 0),
            "published": video.get("publishedAt") or video.get("createdAt") or "",
            "link": Source("vod", str(video["id"])).link,
        }
        for video in videos[:limit]
    ]
    return pl.DataFrame(rows, schema=LISTING)


def fetch_clips(channel: str, started: str, length: float) -> list[dict[str, Any]]:
    """The clips that viewers made during a stream, out of the channel's 100 most seen, as `read_clips` gives them.

    Args:
        channel: the login name.
        started: when the stream began, ISO 8601.
        length: of the stream, in seconds.
    """
    age = datetime.now(UTC) - _parse_time(started)
    words = ["clips", channel, "--limit", str(MAX_CLIPS), "--period", clips_period(age), "--json"]
    return read_clips(patiently(lambda: run_for_json(words), f"{channel}'s clips"), started, length)


def clips_period(age: timedelta) -> str:
    """The shortest of twitch-dl's periods that reaches back to a stream of that age."""
    periods = {"last_day": 1, "last_week": 7, "last_month": 30}
    return next((name for name, days in periods.items() if age < timedelta(days=days)), "all_time")


def read_clips(clips: Sequence[Mapping[str, Any]], started: str, length: float) -> list[dict[str, Any]]:
    """Those of a channel's clips that were made during a stream.

    Each has `link`, `title`, `views`, `length` (s) and `made`: seconds into the stream when somebody made it, which is
    up to some minutes after what it shows. Twitch does not tell twitch-dl where in the stream a clip lies.
    """
    found = []
    for clip in clips:
        made = _parse_time(clip["createdAt"]) - _parse_time(started)
        if timedelta(0) <= made <= timedelta(seconds=length) + CLIP_DELAY:
            about = {"link": clip["url"], "title": clip["title"], "views": clip["viewCount"]}
            found.append(about | {"length": float(clip["durationSeconds"]), "made": made.total_seconds()})
    return sorted(found, key=lambda clip: clip["made"])


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
