"""The widget in which a person draws a box on a picture of a recording: the part that counts, such as a face cam.

The page (`box_widget.js`) sends what the person did; Python keeps it and only then says that it is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from hlkit.project import HlkitError, plain_words
from hlkit.sampling import Box, check_box
from hlkit.widgets.pages import BOX_FILES, page_module

# As most models see it; what is inside is shown beside the picture in this size.
PREVIEW_PIXELS = 128


class BoxWidget(anywidget.AnyWidget):
    """Draws the box of one recording; it is on disk before the page shows it as saved.

    Args:
        title: what is shown, such as the recording's id and length.
        duration: its length in seconds.
        aspect: its width by height.
        picture: gives its picture at a time in seconds, as a JPEG of any shape.
        read: gives the box as it is on disk, None without one.
        keep: puts a box on disk for this recording, or with None takes it away; returns what was there.
        time: of the first picture, in seconds.
    """

    _esm = page_module(*BOX_FILES)
    _css = Path(__file__).with_name("span_widget.css")

    title = traitlets.Unicode().tag(sync=True)
    duration = traitlets.Float().tag(sync=True)
    aspect = traitlets.Float(16 / 9).tag(sync=True)
    size = traitlets.Int(PREVIEW_PIXELS).tag(sync=True)
    box = traitlets.List(traitlets.Float()).tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)
    picture_time = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        *,
        title: str,
        duration: float,
        aspect: float,
        picture: Callable[[float], bytes],
        read: Callable[[], Box | None],
        keep: Callable[[Box | None], Box | None],
        time: float = 0.0,
    ) -> None:
        self._picture, self._read, self._keep = picture, read, keep
        self._before: list[Box | None] = []
        super().__init__(title=title, duration=duration, aspect=aspect)
        self._show_box()
        self._show_picture(time)
        self.on_msg(self._receive)

    def _show_box(self) -> None:
        self.box = list(self._read() or ())

    def _show_picture(self, time: float) -> None:
        content = self._picture(time)
        with self.hold_sync():
            self.picture_time, self.picture = time, content

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        """Do what the page asks; whatever goes wrong is said there, not in the kernel's log."""
        number = content.get("number") if isinstance(content, dict) else None
        answer: dict[str, Any] = {"kind": "done", "number": number, "bad": False}
        try:
            answer["text"] = self._do(content)
            self._show_box()
        except (HlkitError, OSError) as error:
            answer |= {"text": plain_words(error) or str(error), "bad": True}
        except (KeyError, TypeError, ValueError) as error:
            answer |= {"text": f"The page sent what hlkit does not understand ({error!r}).", "bad": True}
        self.send(answer)

    def _do(self, content: Mapping[str, Any]) -> str | None:
        """One act; returns what to say about it, None for nothing."""
        match content:
            case {"kind": "box", "box": list(edges)}:
                box = check_box(edges)
                if box != self._read():
                    self._before.append(self._keep(box))
                return "Saved."
            case {"kind": "undo"}:
                if not self._before:
                    return "There is nothing to take back."
                self._keep(self._before[-1])
                self._before.pop()
                return "Taken back."
            case {"kind": "picture", "time": time}:
                self._show_picture(min(max(float(time), 0.0), self.duration))
                return None
            case other:
                raise ValueError(str(other)[:80])
