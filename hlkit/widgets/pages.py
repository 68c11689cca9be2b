"""The page's side of the widgets: JavaScript files, put one behind another.

A widget's page is one module of JavaScript (anywidget's `_esm`). So that it can be read in parts and what the widgets
share is written once, it stands in several files. Joined they are that one module, without a build step: what one file
names at its top level is known in all of them, and none imports another. `page.js` comes first, the exported view last.
"""

from __future__ import annotations

from pathlib import Path

SPAN_FILES = (
    "page.js",
    "span_numbers.js",
    "span_pictures.js",
    "span_player.js",
    "span_marking.js",
    "span_timeline.js",
    "span_sheet.js",
    "span_lanes.js",
    "span_overlay.js",
    "span_explorer.js",
    "span_widget.js",
)
BOX_FILES = ("page.js", "box_widget.js")


def page_module(*names: str) -> str:
    """The JavaScript module that these files of this folder are together, in their order."""
    folder = Path(__file__).parent
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
