"""Known defects put into a recording: stretches that ffmpeg blurs and exposes wrongly by amounts that are written down.

They stand in for footage that nobody has sorted yet: something to learn from, to test on, and to see how much of a
defect a model bears. What is done to a picture is what happens in a camera, in its order:

- *Blur* first: a Gaussian whose sigma is a share of the picture's height, so that it looks the same at every size.
- *Exposure* then, in stops: a stop is twice the light. Light goes with the 2.2th power of a pixel's value, so values
  are multiplied by `2 ** (stops / 2.2)`; what passes white is lost, as in a camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError, atomic_path
from hlkit.video import frame_rate, probe, run_ffmpeg

EXPOSURES = ("good", "under", "over")
FOCUSES = ("sharp", "blurred")

# Half a stop is what cameras differ by; from a stop and a half on, anyone sees it.
STOPS = {"good": (-0.4, 0.4), "under": (-3.5, -1.5), "over": (1.5, 3.5)}
# Of the height: 0.05 % is half a pixel in 1080 lines, 0.6 % is six and a half.
BLURS = {"sharp": (0.0, 0.0005), "blurred": (0.006, 0.02)}

LIGHT_POWER = 2.2

_STRETCH = {"start": pl.Float64(), "end": pl.Float64(), "stops": pl.Float64(), "blur": pl.Float64()}
_CLASSES = {"exposure": pl.String(), "focus": pl.String()}
PLAN_SCHEMA = pl.Schema({**_STRETCH, **_CLASSES})
FILES_SCHEMA = pl.Schema({"path": pl.String(), **_STRETCH, **_CLASSES})


def plan_defects(
    length: float, *, stretch_seconds: float = 5.0, gap_seconds: float = 1.0, seed: int = 0
) -> pl.DataFrame:
    """Deal out exposures and blurs to the stretches of a recording: each pair of classes as often as any other.

    Args:
        length: of the recording, in seconds.
        stretch_seconds: length of a stretch, above 0.
        gap_seconds: left out between two, so that their pictures are no near twins; 0 or more.
        seed: of the amounts and of which stretch gets which.

    Returns:
        Columns of `PLAN_SCHEMA`, in order of time: `start` and `end` (seconds), `stops`, `blur` (sigma as a share of
        the height), and their classes: `exposure` (good, under, over) and `focus` (sharp, blurred).

    Raises:
        HlkitError: for a length out of range, or when the recording is shorter than a stretch.
    """
    if stretch_seconds <= 0 or gap_seconds < 0:
        raise HlkitError(f"Stretches of {stretch_seconds:g} s, {gap_seconds:g} s apart, can't be; give above 0 and 0.")
    count = int((length + gap_seconds) / (stretch_seconds + gap_seconds))
    if count < 1:
        raise HlkitError(f"The recording lasts {length:g} s, which holds no stretch of {stretch_seconds:g} s.")
    rng = np.random.default_rng(seed)
    pairs = [(exposure, focus) for focus in FOCUSES for exposure in EXPOSURES]
    dealt = rng.permutation(np.resize(np.arange(len(pairs)), count))
    rows = []
    for number, pair in enumerate(dealt):
        exposure, focus = pairs[pair]
        start = number * (stretch_seconds + gap_seconds)
        amounts = rng.uniform(*STOPS[exposure]), rng.uniform(*BLURS[focus])
        rows.append((start, start + stretch_seconds, *amounts, exposure, focus))
    return pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row")


def write_defects(
    video: Path,
    folder: Path,
    plan: pl.DataFrame,
    *,
    what: Literal["pictures", "clips"] = "pictures",
    fps: str | float = 3,
    progress: bool = True,
) -> pl.DataFrame:
    """Write the stretches of a plan with their defects: as JPEGs, or each as an MP4 without sound.

    Args:
        video: the recording.
        folder: gets `<stretch>-<picture>.jpg` or `<stretch>.mp4`, numbered from 0000; what is there stays.
        plan: as `plan_defects` gives it.
        what: pictures at `fps`, or clips at `fps`.
        fps: pictures a second.
        progress: show a progress bar.

    Returns:
        A row a file, in order: `path` (str), and the columns of `plan`.

    Raises:
        HlkitError: when a stretch lies outside the recording.
        FFmpegError: when ffmpeg fails.
    """
    info, folder = probe(video), Path(folder)
    rows = []
    for number, row in enumerate(
        tqdm(plan.rows(named=True), desc=what, unit="stretch", mininterval=0.5, disable=not progress)
    ):
        if not 0 <= row["start"] < row["end"] <= info.duration + 1:
            raise HlkitError(
                f"{video} lasts {info.duration:g} s; no stretch of it is {row['start']:g} to {row['end']:g}."
            )
        made = _write(video, folder, f"{number:04d}", row, what, str(frame_rate(fps)), info.height)
        rows += [(str(path), *(row[name] for name in PLAN_SCHEMA.names())) for path in made]
    return pl.DataFrame(rows, schema=FILES_SCHEMA, orient="row")


def _write(
    video: Path, folder: Path, name: str, row: dict[str, Any], what: str, fps: str, height: int
) -> Sequence[Path]:
    import ffmpeg

    seconds = row["end"] - row["start"]
    stream = ffmpeg.input(f"file:{Path(video).resolve()}", ss=f"{row['start']:.6f}", t=f"{seconds:.6f}")["V:0"]
    stream = with_defect(stream.filter("fps", fps=fps), stops=row["stops"], blur=row["blur"], height=height)
    if what == "clips":
        target = folder / f"{name}.mp4"
        options = {"c:v": "libx264", "preset": "veryfast", "crf": 18, "pix_fmt": "yuv420p", "map_metadata": -1}
        with atomic_path(target) as temporary:
            run_ffmpeg(stream.output(str(temporary), **options).overwrite_output(), progress=False)
        return [target]
    folder.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(stream.output(str(folder / f"{name}-%03d.jpg"), **{"q:v": 2}).overwrite_output(), progress=False)
    return sorted(folder.glob(f"{name}-*.jpg"))


def with_defect(stream: Any, *, stops: float = 0.0, blur: float = 0.0, height: int) -> Any:
    """An ffmpeg-python stream of pictures `height` pixels high, blurred and exposed as this module says."""
    if blur:
        stream = stream.filter("gblur", sigma=f"{blur * height:.4f}", steps=3)
    if stops:
        value = f"clip(val*{2 ** (stops / LIGHT_POWER):.5f},0,255)"
        stream = stream.filter("format", "rgb24").filter("lutrgb", r=value, g=value, b=value)
    return stream
