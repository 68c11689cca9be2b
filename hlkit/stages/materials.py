"""What a project's videos offer the sequence model, worked out once and kept: `signals/<id>/`, and `.cache/` for what
belongs to one model.

The files' names tell what they were made from, so a changed recording or model makes them anew, and everything after
them (sequence models, thresholds, windows) never decodes a video again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.frames import read_index
from hlkit.project import HlkitError, Project, atomic_path, fingerprint
from hlkit.records import first_faulty_row
from hlkit.stages import tables, views

if TYPE_CHECKING:
    from hlkit.features import Material
    from hlkit.models import Model
    from hlkit.sound import Heard


def stored_material(project: Project, video: str, *, checkpoint: Path | None = None, progress: bool = True) -> Material:
    """What the stored frames and the recording of a video hold.

    Args:
        project: must hold frames of the video. Without the recording its sound is taken from an earlier run, if any.
        video: its id.
        checkpoint: the picture model whose features are wanted; None for no picture features.
        progress: show a progress bar.
    """
    from hlkit.features import Material, stored_pictures, watch

    index = project.index(video)
    table = read_index(project.frames / video)
    frames = table.select("video", "frame", "time")
    made = fingerprint(index)
    motion_file = _motion_file(project, video)
    if checkpoint is None:
        pictures = stored_pictures(table, project.frames)
        motion = _kept(motion_file, lambda: watch(pictures, len(table), progress=progress)[0], rows=len(table), axes=2)
        picture = None
    else:
        picture_file = project.root / ".cache" / video / f"picture-{fingerprint(checkpoint)}-{made}.npy"
        if not (motion_file.is_file() and picture_file.is_file()):
            motion, picture = watch(
                stored_pictures(table, project.frames), len(table), model=_model(checkpoint), progress=progress
            )
            assert picture is not None
            _save(motion_file, motion)
            _save(picture_file, picture)
        motion, picture = (_load(file, rows=len(table), axes=2) for file in (motion_file, picture_file))
    fps = views.same_frame_settings(project, [video]).fps
    sound = _sound(project, video, fps, int(frames["frame"][-1]) + 1, progress=progress)
    if sound is not None and len(sound) > len(frames):  # some pictures could not be had
        sound = sound[frames["frame"].to_numpy()]
    return Material(frames, sound, motion, picture, tables.chat_of(project, video))


def kept_levels(project: Project, video: str) -> pl.DataFrame:
    """How loud a video is and how much moves in it, as far as `stored_material` has kept that; makes nothing.

    Args:
        project: must hold frames of the video.
        video: its id.

    Returns:
        `time` (s) of each stored frame and, where they are kept, `loudness` (f32, dB, the mean over the bands of sound)
        and `motion` (f32, without a unit).
    """
    table = read_index(project.frames / video).select("frame", "time")
    count, levels = int(table["frame"][-1]) + 1, table.select("time")
    sound = _sound_file(project, video, views.same_frame_settings(project, [video]).fps, count)
    if sound is not None and sound.is_file():
        heard = _load(sound, rows=count, axes=3)[table["frame"].to_numpy()]
        levels = levels.with_columns(pl.Series("loudness", heard.mean(axis=(1, 2), dtype=np.float32)))
    motion = _motion_file(project, video)
    if motion.is_file():
        moved = _load(motion, rows=len(table), axes=2)
        levels = levels.with_columns(pl.Series("motion", moved.mean(axis=1, dtype=np.float32)))
    return levels


def streamed_material(
    project: Project,
    video: str,
    *,
    settings: views.FrameSettings,
    wanted: range,
    checkpoint: Path | None,
    progress: bool = True,
) -> Material:
    """What the frames `wanted` of a recording hold, decoded once and not kept; see `stored_material`."""
    from hlkit.features import Material, watch
    from hlkit.frames import stream_pictures
    from hlkit.sound import log_mel
    from hlkit.video import frame_rate, probe

    rate, path = frame_rate(settings.fps), project.video(video)
    # The frame before the first tells how much the first one moved.
    before = wanted.start > 0
    pictures = stream_pictures(
        path,
        fps=rate,
        size=settings.size,
        box=settings.part,
        start=float((wanted.start - before) / rate),
        end=min(probe(path).duration, float(wanted.stop / rate)),
    )
    model = None if checkpoint is None else _model(checkpoint)
    motion, picture = watch(pictures, len(wanted) + before, model=model, progress=progress)
    times = [float(number / rate) for number in wanted]
    frames = pl.DataFrame({"video": [video] * len(wanted), "frame": wanted, "time": times})
    heard = None
    if probe(path).has_audio:
        heard = log_mel(path, fps=settings.fps, count=wanted.stop, progress=progress)[wanted.start :]
    seen = None if picture is None else picture[before:]
    return Material(frames, heard, motion[before:], seen, tables.chat_of(project, video))


def with_sound(
    project: Project, frames: pl.DataFrame, *, fps: str, heard: Heard, progress: bool = True
) -> pl.DataFrame:
    """Add `sound` (an array of f32): what is heard beside each frame, see `hlkit.sound.second_levels`.

    Args:
        project: must hold frames of the videos. Without a recording its sound is taken from an earlier run, if any.
        frames: the whole frame tables of one or more videos.
        fps: their frames per second.
        heard: what of the sound.
        progress: show a progress bar.

    Returns:
        The rows, a video behind the other; NaN where a video's sound is not known.
    """
    from hlkit.sound import LEVELS, second_levels

    parts = []
    for rows in frames.partition_by("video", maintain_order=True):
        numbers = rows["frame"].to_numpy()
        spectrum = _sound(project, rows["video"][0], fps, int(numbers.max()) + 1, progress=progress)
        levels = np.full((len(rows), LEVELS[heard]), np.nan, dtype=np.float32)
        if spectrum is not None:
            levels = second_levels(spectrum, fps=fps, heard=heard)[numbers]
        parts.append(rows.with_columns(pl.Series("sound", levels, dtype=pl.Array(pl.Float32, LEVELS[heard]))))
    return pl.concat(parts)


def _model(checkpoint: Path) -> Model:
    from hlkit.training import load_model

    return load_model(checkpoint)[0]


def _sound(project: Project, video: str, fps: str, count: int, *, progress: bool) -> np.ndarray | None:
    """The log-mel spectrogram of a video, None where it has no sound or neither recording nor spectrogram is here."""
    from hlkit.sound import log_mel
    from hlkit.video import probe

    file = _sound_file(project, video, fps, count)
    if file is None or video not in project.video_ids():
        return None if file is None else _load(file, rows=count, axes=3)
    path = project.video(video)
    if not probe(path).has_audio:
        return None
    return _kept(file, lambda: log_mel(path, fps=fps, count=count, progress=progress), rows=count, axes=3)


def _sound_file(project: Project, video: str, fps: str, count: int) -> Path | None:
    """Where a video's sound is kept or will be; None where neither the recording nor an earlier run's sound is here."""
    name = f"sound-{fps.replace('/', '_')}-{count}"
    if video in project.video_ids():
        return project.signals(video) / f"{name}-{fingerprint(project.video(video))}.npy"
    return max(project.signals(video).glob(f"{name}-*.npy"), default=None)


def _motion_file(project: Project, video: str) -> Path:
    return project.signals(video) / f"motion-{fingerprint(project.index(video))}.npy"


def _kept(file: Path, make: Callable[[], np.ndarray], *, rows: int, axes: int) -> np.ndarray:
    if not file.is_file():
        _save(file, make())
    return _load(file, rows=rows, axes=axes)


def _save(file: Path, table: np.ndarray) -> None:
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, table, allow_pickle=False)


def _load(file: Path, *, rows: int, axes: int) -> np.ndarray:
    """A kept table of floats, of `rows` rows and `axes` axes, all of it numbers."""
    try:
        table = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise HlkitError(f"{file} is damaged ({error}). Delete it, and it is made again.") from error
    if table.shape[:1] != (rows,) or table.ndim != axes or not np.issubdtype(table.dtype, np.floating):
        raise HlkitError(
            f"{file} is damaged (it holds {table.dtype} {table.shape}; allowed are floats of {axes} axes and {rows} "
            "rows). Delete it, and it is made again."
        )
    if (faulty := first_faulty_row(table)) is not None:
        raise HlkitError(f"{file} is damaged (row {faulty} has no number). Delete it, and it is made again.")
    return table
