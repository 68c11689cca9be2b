"""The contact sheet: pictures in a grid with a line under each, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hlkit.charts import plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6


def picture_gallery(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    title: str = "",
    columns: int = COLUMNS,
    shape: float | None = None,
) -> Figure:
    """Draw pictures in rows, each with its caption above.

    Args:
        pictures: uint8 (H, W, 3), of any sizes.
        captions: one for each.
        title: of the whole.
        columns: pictures in a row, at most.
        shape: width by height of what they show, where they are stored in another (frames are squares).
    """
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(pictures)))
    lines = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(1.8 * columns, 0.4 + (0.25 + 1.8 / max(shape or 1, 1)) * lines), layout="constrained")
    figure.suptitle(plain_text(title), fontweight="bold")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, picture, caption in zip(axes, pictures, captions, strict=False):
        draw_picture(axis, picture, shape)
        axis.set_title(plain_text(caption), fontsize="small")
    return figure


def draw_picture(axis: Axes, picture: np.ndarray, shape: float | None) -> None:
    """A picture in the shape of what it shows, width by height; None leaves it as it is stored."""
    axis.imshow(picture, extent=None if shape is None else (0, shape, 0, 1))
