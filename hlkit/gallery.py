"""The contact sheet: pictures in a grid with a line under each, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hlkit.charts import plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6


def picture_gallery(
    pictures: Sequence[np.ndarray], captions: Sequence[str], *, title: str = "", columns: int = COLUMNS
) -> Figure:
    """Draw pictures in rows, each with its caption above.

    Args:
        pictures: uint8 (H, W, 3), of any sizes.
        captions: one for each.
        title: of the whole.
        columns: pictures in a row, at most.
    """
    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(pictures)))
    lines = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(1.8 * columns, 0.4 + 2.05 * lines), layout="constrained")
    figure.suptitle(plain_text(title), fontweight="bold")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, picture, caption in zip(axes, pictures, captions, strict=False):
        axis.imshow(picture)
        axis.set_title(plain_text(caption), fontsize="small")
    return figure
