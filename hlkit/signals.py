"""Signals besides the model's score, as tables by time: loudness, change of the picture, how busy the chat is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError, HlkitWarning
from hlkit.shards import FrameReader
from hlkit.sound import FLOOR_DB, SAMPLE_RATE, read_sound
from hlkit.video import probe


def loudness(
    video: Path,
    times: Sequence[float] | np.ndarray | pl.Series,
    *,
    window_seconds: float = 1 / 3,
    progress: bool = True,
) -> pl.DataFrame:
    """How loud the first sound track is after each of `times`.

    The sound is mixed to one channel. 0 dBFS is the RMS of a square wave at full scale, so a full-scale sine has -3.01;
    silence, and a time before the sound begins or after it ends, has -100. Memory does not grow with the recording.

    Args:
        video: a recording.
        times: seconds from the start of the recording, 0 or more, in any order.
        window_seconds: the RMS is taken over `[time, time + window_seconds)`.
        progress: show a progress bar in seconds of sound.

    Returns:
        A row for each time, in the order given: `time` f64, s; `loudness` f32, dBFS, -100 to about 0, or null in every
        row when the recording has no sound (HlkitWarning).

    Raises:
        HlkitError: for a window or a time that can't be, or a recording that can't be read.
    """
    seconds = np.asarray(times, dtype=np.float64).reshape(-1)
    if not window_seconds > 0:
        raise HlkitError(f"The loudness window is {window_seconds} s. Give a number above 0.")
    if not np.all(np.isfinite(seconds) & (seconds >= 0)):
        raise HlkitError("A time for the loudness is negative or no number. Give seconds from the start, 0 or more.")
    table = pl.DataFrame({"time": seconds})
    if not probe(video).has_audio:
        warnings.warn(f"{Path(video).name} has no sound, so it has no loudness.", HlkitWarning, stacklevel=2)
        return table.with_columns(pl.lit(None, dtype=pl.Float32).alias("loudness"))
    begins = np.rint(seconds * SAMPLE_RATE).astype(np.int64)
    ends = np.maximum(np.rint((seconds + window_seconds) * SAMPLE_RATE).astype(np.int64), begins + 1)
    power = _window_sums(
        read_sound(video, int(ends.max(initial=0)), desc="loudness", progress=progress), begins, ends
    ) / (ends - begins)
    floor = 10 ** (FLOOR_DB / 10)
    return table.with_columns(pl.Series("loudness", 10 * np.log10(np.maximum(power, floor)), dtype=pl.Float32))


def _window_sums(blocks: Iterator[np.ndarray], begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The sum of squares over each `[begin, end)`, f64 (n,), from one pass over the samples; windows may overlap."""
    if not len(begins):
        return np.zeros(0)
    edges = np.unique(np.concatenate([begins, ends]))
    # Sums between neighbouring edges, not differences of a running sum, which would drown a quiet end in a loud start.
    between = np.zeros(len(edges))
    position = 0
    for block in blocks:
        first, last = np.searchsorted(edges, [position, position + len(block)], side="right")
        cuts = np.concatenate([[0], edges[first:last] - position]).astype(np.int64)
        cuts = cuts[cuts < len(block)]
        sums = np.add.reduceat(np.square(block, dtype=np.float64), cuts)
        stretches = np.arange(first - 1, first - 1 + len(sums))
        between[stretches[stretches >= 0]] += sums[stretches >= 0]
        position += len(block)
    # reduceat sums from each index to the next one, so every second sum is a window.
    indices = np.column_stack([np.searchsorted(edges, begins), np.searchsorted(edges, ends)]).ravel()
    return np.add.reduceat(between, indices)[::2]


def chat_activity(
    chat: pl.DataFrame,
    times: Sequence[float] | np.ndarray | pl.Series,
    *,
    window_seconds: float = 5.0,
    delay_seconds: float = 0.0,
) -> pl.DataFrame:
    """How busy the chat is around each of `times`.

    Args:
        chat: `time` (s), `author` (null where unknown) and optionally `emotes` (emotes in the message), a row a
            message, in any order.
        times: seconds from the start of the recording, in any order.
        window_seconds: messages count in `[t + delay - w/2, t + delay + w/2)`.
        delay_seconds: by how much the chat lags behind the game.

    Returns:
        A row for each time, in the order given: `time` f64, s; `chat_rate` f32, messages a second; `chatters` f32,
        different authors in the window; `emote_share` f32, the share of messages with an emote, 0 to 1, 0 for none.

    Raises:
        HlkitError: for a window that is not positive.
    """
    if not window_seconds > 0:
        raise HlkitError(f"The chat's window is {window_seconds} s. Give a number above 0.")
    seconds = np.asarray(times, dtype=np.float64).reshape(-1)
    chat = chat.sort("time")
    said = chat["time"].to_numpy()
    first = np.searchsorted(said, seconds + (delay_seconds - window_seconds / 2))
    stop = np.searchsorted(said, seconds + (delay_seconds + window_seconds / 2))
    authors = chat["author"].rank("dense").fill_null(0).to_numpy()
    chatters = [len(np.unique(authors[begin:end])) for begin, end in zip(first, stop, strict=True)]
    has_emote = (chat["emotes"] > 0).to_numpy() if "emotes" in chat.columns else np.zeros(len(chat), dtype=bool)
    emotes = np.concatenate([[0], np.cumsum(has_emote)])
    share = (emotes[stop] - emotes[first]) / np.maximum(stop - first, 1)
    columns = {"chat_rate": (stop - first) / window_seconds, "chatters": chatters, "emote_share": share}
    return pl.DataFrame(
        {"time": seconds} | {name: pl.Series(column, dtype=pl.Float32) for name, column in columns.items()}
    )


def picture_change(frames: pl.DataFrame, root: Path, *, progress: bool = True) -> pl.DataFrame:
    """How much each stored frame differs from the one before it in the same video.

    Args:
        frames: a frames table (`video`, `time`, `shard`, `offset`, `size`), of one or more videos.
        root: the folder that holds one frame store a video.
        progress: show a progress bar in frames.

    Returns:
        A row for each frame, by video and time: `video` str; `time` f64, s; `picture_change` f32, the mean absolute
        difference of the grey levels, 0 to 255, and 0 for a video's first frame.

    Raises:
        HlkitError: for a damaged shard, or two sizes of picture in one video.
    """
    table = frames.sort("video", "time", maintain_order=True)
    reader = FrameReader(root)
    changes = np.zeros(len(table), dtype=np.float32)
    previous, previous_video = np.zeros((0, 0), dtype=np.int16), None
    rows = table.select("video", "shard", "offset", "size").iter_rows()
    for number, row in enumerate(tqdm(rows, "picture change", len(table), mininterval=0.5, disable=not progress)):
        grey = _grey(reader.read(*row), row)
        if row[0] == previous_video:
            if grey.shape != previous.shape:
                raise HlkitError(f"Frames of {row[0]} differ in size. Extract them anew: `hlkit frames --redo`.")
            changes[number] = np.abs(grey - previous).mean()
        previous, previous_video = grey, row[0]
    return table.select("video", "time").with_columns(pl.Series("picture_change", changes))


def _grey(jpeg: bytes, row: tuple[Any, ...]) -> np.ndarray:
    """Grey levels of a JPEG, int16 (height, width); draft mode takes them from its brightness plane directly."""
    from PIL import Image

    try:
        picture = Image.open(BytesIO(jpeg))
        picture.draft("L", None)
        return np.asarray(picture.convert("L"), dtype=np.int16)
    except OSError as error:
        raise HlkitError(f"A frame in {row[0]}/{row[1]} at byte {row[2]} can't be decoded ({error}).") from error
