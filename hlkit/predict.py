"""Scores: what a model thinks of a recording, or of its stored frames, as a table over time.

Pictures stream through the network once, in order; a clip model keeps the features of a few frames only. So memory does
not grow with the recording, and the score of a frame is the same whichever part of the recording was asked for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hlkit.clips import find_runs, window_places
from hlkit.dataset import FrameDataset
from hlkit.device import autocast, pick_device
from hlkit.frames import stream_pictures
from hlkit.models import Model, ModelConfig, RNNClassifier
from hlkit.project import HlkitError, HlkitWarning, format_time
from hlkit.records import first_faulty_row
from hlkit.sampling import WHOLE_PICTURE, Accelerator, PicturePart, as_learned, box_of
from hlkit.sound import LEVELS, Heard, log_mel, second_levels
from hlkit.video import frame_count, frame_rate, probe


def predict(
    model: Model,
    config: ModelConfig,
    video: Path,
    *,
    video_id: str,
    start: float = 0.0,
    end: float | None = None,
    duration: float | None = None,
    box: PicturePart | None = None,
    batch_size: int = 64,
    device: str | torch.device = "auto",
    accelerator: Accelerator = "auto",
    progress: bool = True,
) -> pl.DataFrame:
    """Score a recording straight from ffmpeg, with no files between.

    For a model that hears, sound that a recording has not counts as the mean of what was learned from (HlkitWarning).

    Args:
        model, config: as `load_model` returns them.
        video: the recording.
        video_id: goes into the column `video`.
        start: score from this time on, seconds from the start of the recording.
        end: up to this time, not included; the end of the recording unless given.
        duration: in place of `end`: this many seconds from `start`.
        box: the part of this recording's picture, where it is another one than the model learned from.
        batch_size: pictures that the network sees at once.
        device: "auto", "cpu" or "cuda", for the network, which stays there, in evaluation mode.
        accelerator: "auto", "cpu" or "cuda", for decoding.
        progress: show a progress bar.

    Returns:
        `video` str, `time` f64 (seconds from the start of the recording, every `i / fps` in `[start, end)`) and `score`
        f32, the probability of class 1 from 0 to 1; with more than two classes `score_<class>` for each but the first.

    Raises:
        HlkitError: when the stretch is empty or outside of the recording, the recording cannot be read, or the model
            needs a box and there is none.
    """
    learned = config.box
    if isinstance(learned, str) and box is None:
        raise HlkitError(
            "The model learned from a part of the picture that each recording has elsewhere. Say where it is here: a "
            "box (--box X0,Y0,X1,Y1)."
        )
    part = learned if box is None else box if learned is None else as_learned(box_of(box), learned)
    length, rate = probe(video).duration, config.frame_rate
    wanted = plan_frames(config, length, start=start, end=end, duration=duration)
    # Context on either side, so that a clip at a border of the stretch is the clip that the whole recording has there.
    before, after = _reach(config)
    whole = frame_count(length, rate)
    read = range(max(0, wanted.start - before), min(whole, wanted.stop + after))
    sound = None
    if config.sound != "none":
        # The second around a frame reaches half a second past it.
        count = min(whole, read.stop + math.ceil(rate / 2))
        sound = heard_beside(video, fps=config.fps, count=count, heard=config.sound, progress=progress)[read.start :]
    pictures = stream_pictures(
        video,
        fps=rate,
        size=config.size,
        box=None if part == WHOLE_PICTURE or isinstance(part, str) else part,
        start=float(read.start / rate),
        end=min(length, float(read.stop / rate)),
        accelerator=accelerator,
        batch_size=batch_size,
    )
    run = np.zeros(len(read), dtype=np.int64)
    with closing(pictures), _progress(len(read), video_id, progress) as bar:
        batches = (torch.from_numpy(batch).permute(0, 3, 1, 2) for batch in pictures)
        scores = _score(model, config, batches, run, sound, batch_size=batch_size, device=device, bar=bar)
    times = [float(frame / rate) for frame in wanted]
    table = pl.DataFrame({"video": [video_id] * len(times), "time": times})
    return score_table(table, scores[wanted.start - read.start :][: len(wanted)], config.classes)


def predict_frames(
    model: Model,
    config: ModelConfig,
    frames: pl.DataFrame,
    root: Path,
    *,
    batch_size: int = 64,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> pl.DataFrame:
    """Score stored frames. Clips stop at videos and gaps, as in `ClipDataset`, but not at the parts of a split.

    Args:
        model, config: as `load_model` returns them.
        frames: a frame table; several videos are allowed. For a model that hears with `sound`, as `fit` takes it.
        root: the folder of frame stores.
        batch_size, device, progress: as for `predict`.

    Returns:
        The table that `predict` returns, sorted by video and time.

    Raises:
        HlkitError: for an empty table, a damaged shard, or a model that hears and a table without `sound`.
    """
    if config.sound != "none" and frames.schema.get("sound") != pl.Array(pl.Float32, LEVELS[config.sound]):
        raise HlkitError(
            f"The model hears the sound's {config.sound}, and the frame table has no column 'sound' of it."
        )
    frames = frames.drop("part", strict=False).sort("video", "time")
    pictures = FrameDataset(frames, root, size=config.size, cache="none")
    starts = range(0, len(frames), batch_size)
    with _progress(len(frames), "scoring", progress) as bar:
        batches = (pictures.pictures(range(len(frames))[start : start + batch_size]) for start in starts)
        sound = None if config.sound == "none" else frames["sound"].to_numpy()
        scores = _score(model, config, batches, find_runs(frames), sound, batch_size=batch_size, device=device, bar=bar)
    return score_table(frames, scores, config.classes)


def heard_beside(video: Path, *, fps: str, count: int, heard: Heard, progress: bool = True) -> np.ndarray:
    """What is heard beside the first frames of a recording: float32 (count, `LEVELS[heard]`), see `second_levels`.

    NaN throughout, with an HlkitWarning, where the recording has no sound.
    """
    # From time 0, however late the stretch that is scored: a decoder that begins in the middle gives other samples.
    # AAC's noise substitution draws random numbers, in order (levels differ by 0.2 dB; without it they are the same);
    # MP3 in AVI, Opus, and clocks that drift come out milliseconds off (0.5 to 3.5 dB). A score is not to depend on
    # what else was asked for.
    if not probe(video).has_audio:
        reason = f"{Path(video).name} has no sound, which the model hears; it counts as the mean of what it learned."
        warnings.warn(reason, HlkitWarning, stacklevel=2)
        return np.full((count, LEVELS[heard]), np.nan, dtype=np.float32)
    return second_levels(log_mel(video, fps=fps, count=count, progress=progress), fps=fps, heard=heard)


def at_rate(config: ModelConfig, fps: str | float | Fraction) -> ModelConfig:
    """A model's settings for scoring `fps` frames a second.

    Raises:
        HlkitError: for a model of clips, which learned how much changes from one frame to the next.
    """
    if config.kind != "frame" and frame_rate(fps) != config.frame_rate:
        raise HlkitError(
            f"A model of clips needs its own rate, {config.fps} frames a second, not fps={fps}. Leave that out."
        )
    return replace(config, fps=str(frame_rate(fps)))


def plan_frames(
    config: ModelConfig, length: float, *, start: float = 0.0, end: float | None = None, duration: float | None = None
) -> range:
    """The numbers `i` of the frames with `start <= i / fps < end` in a recording of `length` seconds.

    Raises:
        HlkitError: when there are none, or both `end` and `duration` are given.
    """
    if end is not None and duration is not None:
        raise HlkitError(f"end={end:g} and duration={duration:g} are both given; give one of them.")
    stop = length if end is None and duration is None else end if end is not None else start + (duration or 0.0)
    frames = range(frame_count(max(0.0, start), config.frame_rate), frame_count(min(stop, length), config.frame_rate))
    if start < 0 or not frames:
        raise HlkitError(
            f"No frame lies from {format_time(start, decimals=1)} to {format_time(stop, decimals=1)} in a recording "
            f"of {format_time(length, decimals=1)} at {config.fps} frames a second. Give a stretch inside it."
        )
    return frames


def _progress(total: int, desc: str, progress: bool) -> tqdm[Any]:
    return tqdm(total=total, desc=desc, unit="frame", mininterval=0.5, disable=not progress)


def _reach(config: ModelConfig) -> tuple[int, int]:
    """How many frames before and after its own the score of a frame depends on."""
    before = config.num_frames_per_clip // 2
    return (before, config.num_frames_per_clip - 1 - before) if config.kind == "clip" else (0, 0)


def _score(
    model: Model,
    config: ModelConfig,
    batches: Iterable[Tensor],
    run: np.ndarray,
    sound: np.ndarray | None,
    *,
    batch_size: int,
    device: str | torch.device,
    bar: tqdm[Any],
) -> np.ndarray:
    """Probabilities, float32 (frames, classes), of pictures that come in batches, uint8 (n, 3, H, W), in order of time.

    What is heard beside them comes at once, float32 (frames, W).

    A clip model sees each picture once; the features of the frames that later clips still need are all that is kept.
    """
    device = pick_device(device)
    model.to(device).eval()
    clips = isinstance(model, RNNClassifier)
    windows = window_places(run, config.num_frames_per_clip if clips else 1)  # (frames, T)
    scores = np.empty((len(run), len(config.classes)), dtype=np.float32)
    kept, kept_from, done, seen = torch.empty(0, device=device), 0, 0, 0
    with torch.inference_mode(), autocast(device):
        for batch in batches:
            new = _in_equal_batches(model.features, batch.to(device), batch_size).float()
            levels = None if sound is None else torch.tensor(sound[seen : seen + len(batch)], device=device)
            new, seen = model.join(new, levels), seen + len(batch)
            kept = torch.cat([kept, new]) if len(kept) else new
            ready = int(np.searchsorted(windows[:, -1], kept_from + len(kept)))
            chosen = kept[torch.from_numpy(windows[done:ready] - kept_from).to(device)]  # (n, T, F)
            logits = _in_equal_batches(model.classify, chosen if clips else chosen[:, 0], batch_size)
            scores[done:ready] = logits.float().softmax(1).cpu().numpy()
            done = ready
            needed_from = int(windows[done, 0]) if done < len(run) else kept_from + len(kept)
            kept, kept_from = kept[needed_from - kept_from :], needed_from
            bar.update(len(batch))
    return scores


def _in_equal_batches(network: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int) -> Tensor:
    """Apply `network` to batches of one size, the last one filled up with zeros.

    PyTorch picks its kernels by the batch's size and they round differently, so else the last digits of a score would
    depend on where the stretch that was asked for begins.
    """
    outputs = []
    for batch in inputs.split(batch_size):
        padding = batch.new_zeros((batch_size - len(batch), *batch.shape[1:]))
        outputs.append(network(torch.cat([batch, padding]) if len(padding) else batch)[: len(batch)])
    return torch.cat(outputs)


def score_table(frames: pl.DataFrame, probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """Probabilities `(n, classes)` as a score table with the `video` and `time` of `frames`; see `predict`.

    Raises:
        HlkitError: when one is no number.
    """
    table, values = frames.select("video", "time"), probabilities.astype(np.float32)
    if (faulty := first_faulty_row(values)) is not None:
        raise HlkitError(
            f"The model gives no number for the frame at {format_time(frames['time'][faulty], decimals=1)}. It is "
            "damaged: train again (`hlkit train --redo`), or pull it again."
        )
    if len(classes) == 2:
        return table.with_columns(pl.Series("score", values[:, 1]))
    names = [f"score_{name}" for name in classes]
    return table.with_columns(pl.Series(name, values[:, index]) for index, name in enumerate(names) if index)
