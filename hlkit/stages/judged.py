"""What of a run's scores of a labelled video is judged, and the simple signals that they are judged beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from hlkit.events import row_seconds
from hlkit.frames import read_index
from hlkit.labels import BACKGROUND, DEFAULT_LABEL, covered, label_frames, read_labels
from hlkit.project import Project, format_time
from hlkit.stages import runs, tables
from hlkit.stages.sequences import learned_chat_delay
from hlkit.video import probe

# Less than this may be missing of a video that is judged as a whole.
PART_SECONDS = 2.0


def judged_frames(project: Project, video: str, frames: pl.DataFrame) -> pl.DataFrame:
    """Frames of one labelled video with `label` (i8): 1 in a highlight, 0 in none, -1 where nobody looked.

    Args:
        project: must hold labels of the video.
        video: its id.
        frames: any table with `video` and `time` (seconds), of this video.
    """
    marks = tables.marks_of(project, video)
    assert marks is not None
    kind = pl.when(pl.col("label") == BACKGROUND).then(pl.col("label")).otherwise(pl.lit(DEFAULT_LABEL))
    return label_frames(frames, marks.with_columns(label=kind), rest="auto")


def judged_part(project: Project, video: str, frames: pl.DataFrame) -> str:
    """How much of a video is judged by labelled frames that don't cover it: "0:01:00 of 0:01:30", empty if they do.

    Args:
        project, video: as for `judged_frames`.
        frames: as `judged_frames` gives them.
    """
    whole = tables.length(project, video)
    judged = float(row_seconds(frames)[frames["label"].to_numpy() >= 0].sum())
    return f"{format_time(judged)} of {format_time(whole)}" if judged < whole - PART_SECONDS else ""


def lacking(frames: pl.DataFrame) -> str:
    """Why nothing can be judged on these frames: they lack highlights, or anything else; empty where they have both.

    Args:
        frames: as `judged_frames` gives them.
    """
    truth = frames["label"].filter(frames["label"] >= 0)
    if (truth > 0).any() and (truth == 0).any():
        return ""
    if truth.is_empty():
        return "nobody looked at what is scored of it"
    return f"all that is labelled and scored of it is {'highlights' if (truth > 0).any() else 'background'}"


@dataclass(frozen=True)
class Judged:
    """A run's scores of one labelled video, and what they are judged beside."""

    project: Project
    run: str
    video: str
    labels: pl.DataFrame
    window_seconds: float

    @property
    def title(self) -> str:
        """Whose scores, of what, and whether the model had learned from it."""
        learned = self.video in runs.learned_from(self.project, self.run)
        part = f", {self.part}" if self.part else ""
        return f"Scorecard of '{self.run}' on {self.video} ({'' if learned else 'not '}learned from{part})"

    @property
    def part(self) -> str:
        """How much of the video is judged, if not all: what is not scored is not, nor what nobody looked at."""
        return judged_part(self.project, self.video, self.frames)

    @property
    def unseen(self) -> bool:
        """Whether there is time in the video that nobody looked at."""
        return tables.unseen_seconds(self.project, self.video) >= PART_SECONDS

    @cached_property
    def frames(self) -> pl.DataFrame:
        """The score table with `label`, as `judged_frames` gives it."""
        frames = tables.read_scores(self.project, self.video, run=self.run)
        return judged_frames(self.project, self.video, frames)

    @cached_property
    def picked(self) -> pl.DataFrame | None:
        """The highlights that notebook 07 picked; None before it was run."""
        table = self.project.reel(self.video, ".csv")
        return read_labels(table, video=self.video) if table.is_file() else None

    def available(self) -> list[str]:
        """Which of recording, frames and chat the simple signals can be taken from."""
        has = {
            "recording": self.video in self.project.video_ids(),
            "frames": self.project.index(self.video).is_file(),
            "chat": self.project.chat(self.video).is_file(),
        }
        return [name for name, there in has.items() if there]

    def signals(self) -> dict[str, np.ndarray]:
        """The run's score and the simple signals at the same times: of recording, frames and chat, what there is."""
        from hlkit.signals import chat_activity, loudness, picture_change

        project, video, frames, has = self.project, self.video, self.frames, self.available()
        signals = {"hlkit": frames["score"].to_numpy()}
        if "recording" in has and probe(project.video(video)).has_audio:
            signals["loudness"] = loudness(project.video(video), frames["time"], progress=False)["loudness"].to_numpy()
        if "frames" in has:
            change = picture_change(read_index(project.frames / video), project.frames, progress=False)
            joined = frames.join(change, on=["video", "time"], how="left", maintain_order="left")
            signals["picture change"] = joined["picture_change"].cast(pl.Float64).to_numpy()
        if (chat := tables.chat_of(project, video)) is not None:
            delay = learned_chat_delay(project, self.run)
            signals["chat rate"] = chat_activity(chat, frames["time"], delay_seconds=delay)["chat_rate"].to_numpy()
        return signals

    def verdict(self) -> list[str]:
        """How long the picked highlights are and how many labelled ones are in them; nothing before any were picked."""
        from hlkit.metrics import events_hit

        if self.picked is None:
            return []
        hit = events_hit(self.picked, self.labels)
        seconds = float((self.picked["end"] - self.picked["start"]).sum())
        shown = covered(self.frames, self.picked) & (self.frames["label"].to_numpy() >= 0)
        looked = format_time(float(row_seconds(self.frames)[shown].sum()))
        aside = f"; {looked} of that is judged" if self.part else ""
        length = format_time(tables.length(self.project, self.video))
        return [
            f"What was picked lasts {format_time(seconds)} of {length}{aside}.",
            f"Highlights found: {hit.hit} of {hit.total} (at least half of each is in what was picked).",
        ]
