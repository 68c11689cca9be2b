"""Known changes over time, made of a recording's own pictures: clips of which no single picture tells the class.

They stand in for labelled clips that nobody has: something to see by whether a model makes use of time at all. A still
picture of the recording is seen through a window, in some light. A window's place across and down, its width and the
light each have a course; in a clip one of them runs its course, forwards or backwards, and the others stand still
somewhere on theirs, by chance. So a picture by itself looks the same in every class, and what it shows says nothing
either, for stills are dealt out by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.frames import stream_pictures
from hlkit.project import HlkitError, atomic_path
from hlkit.video import frame_count, frame_rate, probe

# What runs its course, and in which direction: forwards is right, down, away and brighter.
COURSES = {
    "left": ("x", -1),
    "right": ("x", 1),
    "up": ("y", -1),
    "down": ("y", 1),
    "closer": ("width", -1),
    "away": ("width", 1),
    "darker": ("light", -1),
    "brighter": ("light", 1),
}
CHANGES = tuple(COURSES)

# The window's width as a share of the picture's, and what values are multiplied by (two stops less, one more).
WIDTHS = (0.3, 0.85)
LIGHTS = (0.53, 1.37)

# Of the clips, in lines; stills are read twice as large, since a window shows a part of them.
HEIGHT = 128

_PARTS = ("x", "y", "width", "light")
PLAN_SCHEMA = pl.Schema(
    {"time": pl.Float64(), "label": pl.String()}
    | {f"{part}_{edge}": pl.Float64() for part in _PARTS for edge in ("from", "to")}
)


def plan_changes(length: float, *, changes: Sequence[str], count: int, seed: int = 0) -> pl.DataFrame:
    """Deal out changes to stills of a recording, each as often as any other.

    Args:
        length: of the recording, in seconds.
        changes: names out of `CHANGES`, two or more.
        count: clips, at least one a change.
        seed: of which still gets which change, and where on their courses the other parts stand.

    Returns:
        Columns of `PLAN_SCHEMA`, a row a clip, in order of time: the still's `time` (seconds), the change (`label`),
        and for each part from where to where on its course (0 to 1) it goes.

    Raises:
        HlkitError: for changes that there are not, or too few clips.
    """
    if unknown := [name for name in changes if name not in COURSES]:
        raise HlkitError(f"There is no change {', '.join(unknown)}. There are {', '.join(CHANGES)}.")
    if len(set(changes)) < 2 or len(set(changes)) != len(changes) or count < len(changes) or length <= 0:
        raise HlkitError(
            f"{count} clips of {len(changes)} changes can't be; give two changes or more, and as many clips."
        )
    if seed < 0:
        raise HlkitError(f"seed={seed} is not allowed; give 0 or more.")
    rng = np.random.default_rng(seed)
    dealt = rng.permutation(np.resize(np.arange(len(changes)), count))
    rows = []
    for number, name in enumerate(changes[int(which)] for which in dealt):
        moving, direction = COURSES[name]
        still = rng.random(len(_PARTS))
        courses = [
            (0.0, 1.0)[::direction] if part == moving else (at, at) for part, at in zip(_PARTS, still, strict=True)
        ]
        rows.append(((number + 0.5) * length / count, name, *(edge for course in courses for edge in course)))
    return pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row")


def clip_pictures(seconds: float, fps: str | float = 8) -> int:
    """How many pictures a clip has.

    Raises:
        HlkitError: for less than two, in which nothing changes, or a length that is none.
    """
    if not 0 < seconds < math.inf:
        raise HlkitError(f"A clip of {seconds:g} s can't be. Give seconds above 0, such as 2.5.")
    count = frame_count(seconds, fps)
    if count < 2:
        raise HlkitError(f"{seconds:g} s at {fps} pictures a second are {count}; nothing changes in less than two.")
    return count


def write_changes(
    video: Path,
    folder: Path,
    plan: pl.DataFrame,
    *,
    name: str = "clip",
    seconds: float = 2.5,
    fps: str | float = 8,
    progress: bool = True,
) -> pl.DataFrame:
    """Write the clips of a plan, each as an MP4 without sound.

    Args:
        video: the recording.
        folder: gets `<name>-0000.mp4` and so on; what is there stays.
        plan: as `plan_changes` gives it.
        name: what the clips' names begin with.
        seconds: length of a clip.
        fps: pictures a second.
        progress: show a progress bar.

    Returns:
        `path` and `label` (str), a row a clip, in order.

    Raises:
        HlkitError: when the recording can't be read at one of the times, or a clip would have less than two pictures.
    """
    count, info, rate = clip_pictures(seconds, fps), probe(video), frame_rate(fps)
    # Both even, as H.264 wants them.
    size = (round(HEIGHT * info.width / info.height / 2) * 2, HEIGHT)
    rows = []
    with tqdm(total=len(plan), desc="clips", unit="clip", mininterval=0.5, disable=not progress) as bar:
        for number, row in enumerate(plan.rows(named=True)):
            target = Path(folder) / f"{name}-{number:04d}.mp4"
            with atomic_path(target) as temporary:
                _write(temporary, _pictures(_still(video, row["time"]), row, count, size), rate, size)
            rows.append((str(target), row["label"]))
            bar.update()
    return pl.DataFrame(rows, schema={"path": pl.String, "label": pl.String}, orient="row")


def _still(video: Path, time: float) -> np.ndarray:
    with closing(stream_pictures(video, fps=1, size=2 * HEIGHT, start=time, batch_size=1)) as batches:
        return next(batches)[0]


def _pictures(still: np.ndarray, row: dict[str, Any], count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The pictures of a clip, uint8 (height, width, 3)."""
    from PIL import Image

    image, side = Image.fromarray(still), len(still)
    for step in range(count):
        share = step / (count - 1)
        at = {part: row[f"{part}_from"] + share * (row[f"{part}_to"] - row[f"{part}_from"]) for part in _PARTS}
        width = WIDTHS[0] + at["width"] * (WIDTHS[1] - WIDTHS[0])
        x, y = at["x"] * (1 - width), at["y"] * (1 - width)
        box = (x * side, y * side, (x + width) * side, (y + width) * side)
        light = LIGHTS[0] + at["light"] * (LIGHTS[1] - LIGHTS[0])
        shown = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box), dtype=np.float32)
        yield (shown * light).clip(0, 255).astype(np.uint8)


def _write(target: Path, pictures: Iterator[np.ndarray], rate: Fraction, size: tuple[int, int]) -> None:
    import av

    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "18"}
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
