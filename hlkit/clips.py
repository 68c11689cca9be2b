"""Which frames make a clip: the one rule that `ClipDataset`, training and scoring share. Numbers only, no pictures."""

from __future__ import annotations

import numpy as np
import polars as pl

# A gap is a step in time above this many frame steps: one frame is missing, and rounding alone cannot be the reason.
GAP_STEPS = 1.5


def clip_windows(frames: pl.DataFrame, num_frames_per_clip: int) -> np.ndarray:
    """For each row of a frame table, the rows of the clip around it.

    Frame i stands at position T // 2. A clip stays within one run of consecutive frames (see `find_runs`); places
    beyond an end of the run repeat its end.

    Args:
        frames: columns `video`, `frame`, `time` (seconds), optionally `part`; in any order.
        num_frames_per_clip: T, 1 or more.

    Returns:
        int64 (rows, T) of row numbers.

    Example: three consecutive frames and T = 4 give `[[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 2]]`.
    """
    order = frames.with_row_index("row").sort("video", "time")["row"].to_numpy().astype(np.int64)
    places = window_places(find_runs(frames[order]), num_frames_per_clip)
    windows = np.empty_like(places)
    windows[order] = order[places]
    return windows


def window_places(run: np.ndarray, num_frames_per_clip: int) -> np.ndarray:
    """The clips of frames whose run numbers (rows,) never decrease: int64 (rows, T) of positions, kept in their run."""
    first = np.searchsorted(run, run, side="left")
    last = np.searchsorted(run, run, side="right") - 1
    offsets = np.arange(num_frames_per_clip) - num_frames_per_clip // 2
    return np.clip(np.arange(len(run))[:, None] + offsets, first[:, None], last[:, None])


def find_runs(frames: pl.DataFrame) -> np.ndarray:
    """Number the runs of consecutive frames in a table sorted by video and time: int64 (rows,), from 0.

    A new run begins with a new video, a new `part` (where the table has that column), a frame number that is not the
    next one, and a step in time above 1.5 frame steps.
    """
    frame_steps, time_steps = pl.col("frame").diff(), pl.col("time").diff()
    step = pl.when(frame_steps > 0).then(time_steps / frame_steps).median()
    is_new = (frame_steps != 1) | (time_steps > GAP_STEPS * step)
    if "part" in frames.columns:
        is_new |= pl.col("part") != pl.col("part").shift()
    # A video's first frame has no step; it begins a run.
    return frames.select(is_new.over("video").fill_null(True).cum_sum() - 1).to_series().to_numpy().astype(np.int64)
