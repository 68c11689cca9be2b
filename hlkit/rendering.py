"""The ffmpeg graph of what is encoded of a reel: pictures of one or two cuts, arranged, drawn on, and faded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hlkit.cuts import Cut
from hlkit.layout import Layout
from hlkit.overlay import MARGIN, ScoreTexts, frame_rate_of, write_pictures, write_title
from hlkit.sampling import Box

# The ground behind a face cam is shrunk to so many pixels in height and enlarged again, which blurs it, and darkened.
GROUND_HEIGHT = 12
GROUND_LIGHT = 0.5


@dataclass(frozen=True)
class Drawing:
    """What all of a reel's encoded pictures share.

    `texts` are drawn on all of them, and a cut's title on its first `title_pictures`.
    """

    rate: Fraction
    layout: Layout
    face: Box | None
    texts: ScoreTexts | None
    title_pictures: int
    crf: int


@dataclass(frozen=True)
class Stretch:
    """Pictures of a cut, from its number `first` on, in a file.

    `seek` is where to seek to (None: the beginning), in seconds; `begin` the container's time with which the first
    picture begins. `title` is the cut's.
    """

    video: Path
    cut: Cut
    title: str
    first: int
    seek: float | None
    begin: float


def render(stretches: Sequence[Stretch], count: int, drawing: Drawing, sets: int | None, folder: Path) -> Any:
    """The ffmpeg-python node that writes `count` pictures to `cut.mp4`.

    Args:
        stretches: one, or two, of which the first passes over into the second.
        count: how many pictures.
        drawing: what is done to them.
        sets: the number of the parameter sets, where other pictures have theirs.
        folder: where the file goes, and what is laid over its pictures.
    """
    pictures = _drawn(stretches[0], drawing, folder / "first")
    if len(stretches) > 1:
        pictures = _passing_over(pictures, _drawn(stretches[1], drawing, folder / "second"), count, drawing, folder)
    # "veryfast" encodes several times as fast as the default, at the same crf with slightly larger files.
    video: dict[str, Any] = {"c:v": "libx264", "preset": "veryfast", "crf": drawing.crf, "frames:v": count, "an": None}
    if sets is not None:
        video["x264-params"] = f"sps-id={sets}:stitchable=1"
    return pictures.output(f"file:{folder / 'cut.mp4'}", **video)


def _drawn(stretch: Stretch, drawing: Drawing, name: Path) -> Any:
    """A stretch's pictures as the reel shows them, the first at time 0; `name` begins the names of its files."""
    import ffmpeg

    # Timestamps stay the container's own: versions of ffmpeg differ in what they take for its time 0.
    options: dict[str, Any] = {"copyts": None}
    # Accurate seeking would throw away the picture that began before the cut and is still on screen there.
    options |= {} if stretch.seek is None else {"noaccurate_seek": None, "ss": f"{stretch.seek:.6f}"}
    source = ffmpeg.input(f"file:{stretch.video}", **options)
    # round=near: each picture is the one on screen in the middle of its time, so that rounded timestamps do no harm.
    pictures = source["V:0"].filter("setpts", f"round(PTS-{stretch.begin:.9f}/TB)")
    pictures = pictures.filter("fps", fps=str(drawing.rate), round="near", start_time=0)
    # The last picture of some recordings has no length of its own.
    pictures = pictures.filter("tpad", stop_mode="clone", stop=2)
    pictures = pictures.filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0).filter("scale", out_range="tv")
    pictures = _arranged(pictures.filter("format", "yuv420p"), drawing)
    margin = round(drawing.layout.base * MARGIN) // 2 * 2
    top = drawing.layout.panel + margin
    if drawing.texts is not None:
        pictures, height = _with_scores(pictures, stretch, drawing, drawing.texts, name, margin, top)
        top += height + margin
    titled = drawing.title_pictures - stretch.first
    if stretch.title and titled > 0:
        room = drawing.layout.width - 2 * margin
        width, height = write_title(file := name.with_suffix(".title.rgba"), stretch.title, drawing.layout.base, room)
        title = _raw(file, "rgba", width, height, drawing.rate)
        pictures = pictures.overlay(title, x=margin, y=top, enable=f"lt(n,{titled})")
    return pictures


def _raw(file: Path, pixels: str, width: int, height: int, rate: Fraction) -> Any:
    import ffmpeg

    size = {"pix_fmt": pixels, "s": f"{width}x{height}", "framerate": str(rate)}
    return ffmpeg.input(f"file:{file}", format="rawvideo", **size)


def _with_scores(
    pictures: Any, stretch: Stretch, drawing: Drawing, texts: ScoreTexts, name: Path, margin: int, top: int
) -> tuple[Any, int]:
    """The pictures with their scores, and the height of these in pixels."""
    begin, shown = texts.grid(stretch.cut.start + float(stretch.first / drawing.rate), stretch.cut.end)
    width, height = write_pictures(file := name.with_suffix(".score.rgba"), shown, drawing.layout.base)
    # The file's own clock ticks once a text, too coarse for the time of its first.
    score = _raw(file, "rgba", width, height, frame_rate_of(texts)).filter("settb", "AVTB")
    score = score.filter("setpts", f"round(PTS+({begin:.6f})/TB)")
    return pictures.overlay(score, x=margin, y=top), height


def _arranged(pictures: Any, drawing: Drawing) -> Any:
    """The game, and the face cam, where the layout puts them."""
    import ffmpeg

    layout = drawing.layout
    if layout.shape == "source":
        return pictures
    # Square pixels: shapes are what a viewer sees.
    pictures = pictures.filter("scale", "round(iw*sar/2)*2", "ih").filter("setsar", 1)
    if layout.shape == "16:9":
        middle = pictures.filter("crop", f"min(iw,{layout.width})", f"min(ih,{layout.height})")
        return middle.filter("pad", layout.width, layout.height, "(ow-iw)/2", "(oh-ih)/2")
    if drawing.face is None:
        return _filling(pictures, layout.width, layout.height)
    parts = pictures.split()
    x0, y0, x1, y1 = drawing.face
    face = parts[0].filter("crop", f"iw*{x1 - x0:.6f}", f"ih*{y1 - y0:.6f}", f"iw*{x0:.6f}", f"ih*{y0:.6f}")
    if layout.face == (layout.width, layout.panel):
        panel = face.filter("scale", *layout.face, flags="lanczos").filter("setsar", 1)
    else:
        panel = _on_blurred_ground(face, layout)
    return ffmpeg.filter([panel, _filling(parts[1], layout.width, layout.height - layout.panel)], "vstack")


def _filling(pictures: Any, width: int, height: int) -> Any:
    """Cropped to the middle and scaled so that they fill so many pixels."""
    middle = pictures.filter("crop", f"min(iw,ih*{width}/{height})", f"min(ih,iw*{height}/{width})")
    return middle.filter("scale", width, height, flags="lanczos").filter("setsar", 1)


def _on_blurred_ground(face: Any, layout: Layout) -> Any:
    parts = face.split()
    ground = _filling(parts[0], round(GROUND_HEIGHT * layout.width / layout.panel / 2) * 2, GROUND_HEIGHT)
    ground = ground.filter("scale", layout.width, layout.panel, flags="bicubic").filter("setsar", 1)
    colour = f"128+(val-128)*{GROUND_LIGHT}"
    ground = ground.filter("lutyuv", y=f"16+(val-16)*{GROUND_LIGHT}", u=colour, v=colour)
    front = parts[1].filter("scale", *layout.face, flags="lanczos").filter("setsar", 1)
    return ground.overlay(front, x="(W-w)/2", y="(H-h)/2")


def _passing_over(before: Any, after: Any, count: int, drawing: Drawing, folder: Path) -> Any:
    """The pictures of one stretch, passing over into those of another: of `count`, the first shows more of the first.

    The shares come from a file: `fade` counts differently in different versions of ffmpeg.
    """
    import ffmpeg

    shares = np.rint(np.arange(1, count + 1) / (count + 1) * 255).astype(np.uint8)
    file = folder / "shares.gray"
    file.write_bytes(np.repeat(shares, 4).tobytes())
    mask = _raw(file, "gray", 2, 2, drawing.rate).filter("scale", drawing.layout.width, drawing.layout.height)
    after = ffmpeg.filter([after.filter("format", "yuva420p"), mask.filter("format", "gray")], "alphamerge")
    return before.overlay(after)
