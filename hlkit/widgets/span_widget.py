"""The widget in which a person marks: labeller, reviewer and timeline explorer from one set of traits.

`queue` makes it a labeller (chunks of the video) or a reviewer (spans that a model asks about), `timeline` an explorer;
any may come together. The page (`span_*.js`) sends what the person did, Python does it and sends the new state, so
there is one implementation of every rule and two tabs show the same.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import polars as pl
import traitlets

from hlkit.labels import BACKGROUND, DEFAULT_LABEL
from hlkit.project import HlkitError, HlkitWarning, format_time, plain_words
from hlkit.timeline import Level, PickRules, find_threshold, pick_highlights
from hlkit.widgets.journal import Journal
from hlkit.widgets.pages import SPAN_FILES, page_module
from hlkit.widgets.pictures import CELLS, COLUMNS, Pictures

SCORE_COLUMNS = ("score", "intensity")


@dataclass(frozen=True)
class Recording:
    """What is shown of a video: its length in seconds, its frame rate, its width by height, and its address.

    With `url=""` the browser can't have it, and the stored frames are shown.
    """

    title: str
    duration: float
    fps: float = 30.0
    aspect: float = 16 / 9
    url: str = ""


class SpanWidget(anywidget.AnyWidget):
    """Marks spans of one recording; every mark is on disk before the page shows it as saved.

    Args:
        recording: what is shown.
        journal: keeps the marks.
        pictures: the stored frames, None without any.
        classes: the classes that can be marked, in the order of the keys 1 to 9, without `background`.
        queue: stretches to decide one by one: `start`, `end` (seconds) and optionally `reason` (str).
        whole: a stretch of the queue is decided when all of it is marked (chunks). Else it is asked about: a highlight
            that touches it, or a change of one, decides it, and what is left of it is background.
        timeline: `video`, `time`, `intensity` and any of `score` and other signals, of this video alone.
        target_seconds: how long the highlights should be together at first; None begins with half of the top.
        origin: of the marks made here.
        keep: called with `threshold` or `target_seconds` when the person wants the highlights as they are picked;
            returns what to say. Without it there is no such button.

    Attributes:
        threshold: the intensity above which `picked` was picked.
        picked: the highlights at that threshold, as a list of `[start, end]`.
    """

    _esm = page_module(*SPAN_FILES)
    _css = Path(__file__).with_name("span_widget.css")

    title = traitlets.Unicode().tag(sync=True)
    video_url = traitlets.Unicode().tag(sync=True)
    duration = traitlets.Float().tag(sync=True)
    fps = traitlets.Float(30.0).tag(sync=True)
    aspect = traitlets.Float(16 / 9).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    picture_times = traitlets.Bytes(b"").tag(sync=True)
    cells = traitlets.List(traitlets.Int()).tag(sync=True)
    queue = traitlets.List().tag(sync=True)
    decided_share = traitlets.Float(1.0).tag(sync=True)
    curves = traitlets.List().tag(sync=True)
    curve_data = traitlets.Bytes(b"").tag(sync=True)
    can_keep = traitlets.Bool(False).tag(sync=True)
    spans = traitlets.List().tag(sync=True)
    picked = traitlets.List().tag(sync=True)
    threshold = traitlets.Float(None, allow_none=True).tag(sync=True)
    target_seconds = traitlets.Float(None, allow_none=True).tag(sync=True)
    summary = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        recording: Recording,
        journal: Journal,
        *,
        pictures: Pictures | None = None,
        classes: Sequence[str] = (DEFAULT_LABEL,),
        queue: pl.DataFrame | None = None,
        whole: bool = True,
        timeline: pl.DataFrame | None = None,
        target_seconds: float | None = None,
        origin: str = "hand",
        keep: Callable[..., str] | None = None,
    ) -> None:
        self._journal, self._pictures, self._keep, self._origin = journal, pictures, keep, origin
        self._durations = {journal.video: recording.duration}
        self._timeline = timeline
        # A chunk is decided by what is said of all of it, a stretch that is asked about by one answer.
        self._asked = [] if whole or queue is None else queue.select("start", "end").rows()
        super().__init__(
            title=recording.title,
            video_url=recording.url,
            duration=recording.duration,
            fps=recording.fps,
            aspect=recording.aspect,
            classes=[name for name in classes if name != BACKGROUND],
            queue=_queue_rows(queue),
            decided_share=0.99 if whole else 0.5,
            can_keep=keep is not None,
        )
        if pictures is not None:
            self.picture_times = _floats(pictures.times)
            self.cells = [*pictures.cell, CELLS, COLUMNS]
        if timeline is not None:
            self._show_curves(timeline, target_seconds)
        self._show_spans()
        self.on_msg(self._receive)

    def _show_curves(self, timeline: pl.DataFrame, target_seconds: float | None) -> None:
        table = timeline.sort("time")
        names = [name for name in table.columns if name not in ("video", "time") and table[name].dtype.is_numeric()]
        values = {name: table[name].cast(pl.Float64).fill_null(math.nan).to_numpy() for name in names}
        self.curves = [_curve(name, values[name]) for name in sorted(names, key=_place)]
        order = [curve["name"] for curve in self.curves]
        self.curve_data = _floats(np.concatenate([table["time"].to_numpy(), *(values[name] for name in order)]))
        highest = float(np.nanmax(values["intensity"], initial=0.0))
        self._pick({"target_seconds": target_seconds} if target_seconds else {"threshold": highest / 2 or 0.5})

    def _show_spans(self) -> None:
        marks = sorted(self._journal.marks.values(), key=lambda mark: (mark.start, mark.end))
        self.spans = [[mark.id, mark.start, mark.end, mark.label, mark.origin] for mark in marks]

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        """Do what the page asks; whatever goes wrong is said there, not in the kernel's log."""
        number = content.get("number") if isinstance(content, dict) else None
        answer: dict[str, Any] = {"kind": "done", "number": number, "bad": False}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HlkitWarning)
            try:
                answer["text"] = self._do(content)
            except (HlkitError, OSError) as error:
                answer |= {"text": plain_words(error) or str(error), "bad": True}
            except (KeyError, TypeError, ValueError) as error:
                answer |= {"text": f"The page sent what hlkit does not understand ({error!r}).", "bad": True}
        if said := [str(warning.message) for warning in caught if issubclass(warning.category, HlkitWarning)]:
            answer["text"] = " ".join([answer["text"] or "", *said]).strip()
        self._show_spans()
        self.send(answer)

    def _do(self, content: Mapping[str, Any]) -> str | None:
        """One act; returns what to say about it, None for nothing."""
        journal = self._journal
        match content:
            case {"kind": "mark", "start": start, "end": end, "label": str(label)}:
                journal.mark(float(start), float(end), self._class(label), origin=self._origin, asked=self._asked)
            case {"kind": "fill", "start": start, "end": end, "label": str(label)}:
                journal.fill(float(start), float(end), self._class(label), origin=self._origin)
            case {"kind": "move", "id": str(id), "start": start, "end": end}:
                journal.move(id, float(start), float(end), origin=self._origin, asked=self._asked)
            case {"kind": "relabel", "id": str(id), "label": str(label)}:
                journal.relabel(id, self._class(label), origin=self._origin)
            case {"kind": "remove", "id": str(id)}:
                journal.remove(id)
            case {"kind": "undo"}:
                return "Taken back." if journal.undo() else "There is nothing to take back."
            case {"kind": "redo"}:
                return "Done again." if journal.redo() else "There is nothing to do again."
            case {"kind": "sync"}:
                return "Another tab has changed the labels; this is how they are now." if journal.sync() else None
            case {"kind": "sheet", "level": int(level), "sheet": int(sheet)} if self._pictures is not None:
                self.send({"kind": "sheet", "level": level, "sheet": sheet}, [self._pictures.sheet(level, sheet)])
                return None
            case {"kind": "pick"}:
                self._pick(content)
                return None
            case {"kind": "keep"} if self._keep is not None:
                chosen = {"target_seconds": self.target_seconds} if self.target_seconds else {}
                return self._keep(**(chosen or {"threshold": self.threshold}))
            case other:
                raise ValueError(str(other)[:80])
        return "Saved."

    def _class(self, label: str) -> str:
        if label not in (BACKGROUND, *self.classes):
            raise HlkitError(f"'{label}' is no class here; allowed are {', '.join([BACKGROUND, *self.classes])}.")
        return label

    def _pick(self, content: Mapping[str, Any]) -> None:
        """Pick by a threshold or a wanted length, and say what that comes to."""
        if self._timeline is None:
            raise HlkitError("There are no scores here to pick from.")
        target = content.get("target_seconds")
        if target is None:
            level = Level(float(content["threshold"]), PickRules.release)
        else:
            level = find_threshold(self._timeline, float(target), durations=self._durations)
        spans = pick_highlights(
            self._timeline, threshold=level.threshold, release=level.release, durations=self._durations
        )
        seconds = float((spans["end"] - spans["start"]).sum())
        count = f"{len(spans)} highlight{'s' * (len(spans) != 1)}"
        with self.hold_trait_notifications():
            self.threshold = level.threshold if math.isfinite(level.threshold) else None
            self.target_seconds = None if target is None else float(target)
            self.picked = [list(row) for row in spans.select("start", "end").rows()]
            self.summary = f"{count}, {_minutes(seconds)}"


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return format_time(whole) if whole >= 3600 else f"{whole // 60}:{whole % 60:02d} minutes"


def _place(name: str) -> int:
    return SCORE_COLUMNS.index(name) if name in SCORE_COLUMNS else len(SCORE_COLUMNS)


def _curve(name: str, values: np.ndarray) -> dict[str, Any]:
    """How a curve is drawn: score and intensity on an axis from 0 to 1, another signal between its own extremes."""
    if name in SCORE_COLUMNS:
        return {"name": name, "low": 0.0, "high": 1.0}
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return {"name": name.replace("_", " "), "low": low, "high": high if high > low else low + 1.0}


def _queue_rows(queue: pl.DataFrame | None) -> list[list[Any]]:
    if queue is None:
        return []
    reason = pl.col("reason") if "reason" in queue.columns else pl.lit("")
    return [list(row) for row in queue.select("start", "end", reason).rows()]


def _floats(values: np.ndarray) -> bytes:
    """Little-endian 32-bit floats, as the page reads them."""
    return np.ascontiguousarray(values, dtype="<f4").tobytes()
