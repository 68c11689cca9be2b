"""How good a run is on labelled videos: its scorecard, as tables, in words and on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.events import row_seconds
from hlkit.frames import read_index
from hlkit.labels import TIME_TOLERANCE, covered, read_labels
from hlkit.project import HlkitError, Project, atomic_path, fingerprint, format_time
from hlkit.stages import tables
from hlkit.stages.common import Say, already_done, current_run, window_of
from hlkit.stages.sequences import learned_chat_delay
from hlkit.video import probe

if TYPE_CHECKING:
    from hlkit.page import Block, Table

# Less than this may be missing of a video that is scored as a whole.
PART_SECONDS = 2.0

SUFFIXES = (".csv", "-events.csv", "-report.html", "-report.png")

# What the columns of the tables are called on the page.
CARD_NAMES = {
    "name": "",
    "ap": "AP",
    "ap_smoothed": "AP, smoothed",
    "low": "its 95 %: from",
    "high": "to",
    "auroc": "AUROC",
    "reel_precision": "precision of the top",
    "reel_events": "highlights in the top",
}
EVENT_NAMES = {
    "name": "",
    "seconds": "seconds",
    "frame_f1": "F1 of frames",
    "precision_30": "precision, tIoU 0.3",
    "recall_30": "recall",
    "f1_30": "F1",
    "precision_50": "precision, tIoU 0.5",
    "recall_50": "recall",
    "f1_50": "F1",
    "spot_precision": "precision, 5 s",
    "spot_recall": "recall",
    "spot_f1": "F1",
    "events_found": "found",
    "hit_at_k": "hit@5",
}


def score(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    redo: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Judge a run on the labelled videos that it has scored, beside loudness, picture change, chat and chance.

    Writes into `scores/<run>`: `<id>.csv` (`hlkit.metrics.scorecard`), `<id>-events.csv` (`hlkit.metrics.event_card`)
    and the one-page report, `<id>-report.html` and `<id>-report.png`.

    Args:
        project: must hold the run's scores, and labels of the videos.
        videos: those that the run has scored, unless named; what has no labels is passed over.
        run: whose scores; the project's last run.
        redo: judge again.
        say: takes the lines for the user.

    Returns:
        The table of `hlkit.metrics.scorecard` for each video, with `video` first.

    Raises:
        HlkitError: when no scored video has labels.
    """
    from hlkit.metrics import CARD_SCHEMA, EVENT_CARD_SCHEMA, event_card, macro_average, scorecard

    run = current_run(project, run)
    chosen = tables.scored_videos(project, run, videos)
    labels = {video: spans for video in chosen if (spans := tables.labels_of(project, video)) is not None}
    if not labels:
        raise HlkitError(f"None of {', '.join(chosen)} has labels to judge by. Label one (notebook 04, `hlkit label`).")
    window, results = window_of(project, None), []
    for video, spans in labels.items():
        spans = _scored_part(spans, tables.read_scores(project, video, run=run))
        judged = Judged(project, run, video, spans, window)
        scores = project.scores(run, video)
        targets = [scores.with_name(f"{video}{suffix}") for suffix in SUFFIXES]
        made_from = {"scores": fingerprint(scores), "labels": spans.write_csv(), "window": window}
        made_from["columns"] = [*CARD_SCHEMA.names(), *EVENT_CARD_SCHEMA.names()]
        made_from["picked"] = None if judged.picked is None else judged.picked.write_csv()
        made_from["signals"] = judged.available()
        made_from["card"] = fingerprint(tables.checkpoint(project, run).with_name("card.md"))
        if not already_done(project, "score", f"{run}-{video}", made_from, redo, say):
            signals = judged.signals()
            card = scorecard(judged.frames, signals, window_seconds=window, true=spans)
            events = event_card(judged.frames, signals, spans, window_seconds=window)
            for table, target in zip((card, events), targets, strict=False):
                with atomic_path(target) as temporary:
                    table.write_csv(temporary)
            _write_page(judged, card, events, signals)
            project.mark_done("score", f"{run}-{video}", made_from, targets)
        card = pl.read_csv(targets[0], schema_overrides=CARD_SCHEMA)
        if (unseen := tables.unseen_seconds(project, video)) >= PART_SECONDS:
            say(f"{video}: nobody looked at {format_time(unseen)} of it, and all of that counts as background here.")
        lines = [
            f"{judged.title}: average precision; the best-scored seconds, as many as are labelled:",
            *_rows(card, window),
        ]
        say("\n  ".join(["\n".join(lines), *judged.verdict(), f"The whole report: {targets[2]}"]))
        results.append(card.select(pl.lit(video).alias("video"), pl.all()))
    cards = pl.concat(results)
    if len(results) > 1:
        say("\n".join([f"Mean over {len(results)} videos:", *_rows(macro_average(cards).drop("videos"), window)]))
    return cards


def _scored_part(spans: pl.DataFrame, frames: pl.DataFrame) -> pl.DataFrame:
    """The labels as far as frames of the video are scored: what nobody scored can be neither found nor missed."""
    times, ends = np.sort(frames["time"].to_numpy()), frames["time"].to_numpy() + row_seconds(frames)
    clipped = spans.with_columns(
        pl.col("start").clip(lower_bound=times[0]), pl.col("end").clip(upper_bound=ends.max())
    ).filter(pl.col("start") < pl.col("end"))
    first, last = (np.searchsorted(times, clipped[edge].to_numpy() - TIME_TOLERANCE) for edge in ("start", "end"))
    return clipped.filter(pl.Series(first < last))


def report_pages(project: Project, *, run: str | None = None) -> list[Path]:
    """The reports that `score` has written for a run, as pictures."""
    return sorted(project.scores(current_run(project, run), "any").parent.glob("*-report.png"))


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
        learned = self.video in tables.learned_from(self.project, self.run)
        length, scored = tables.length(self.project, self.video), float(row_seconds(self.frames).sum())
        part = f", {format_time(scored)} of {format_time(length)}" if scored < length - PART_SECONDS else ""
        return f"Scorecard of '{self.run}' on {self.video} ({'' if learned else 'not '}learned from{part})"

    @cached_property
    def frames(self) -> pl.DataFrame:
        """The score table with `label`, 1 in a labelled span."""
        frames = tables.read_scores(self.project, self.video, run=self.run)
        return frames.with_columns(pl.Series("label", covered(frames, self.labels), dtype=pl.Int8))

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
        return [
            f"What was picked lasts {format_time(seconds)} of {format_time(tables.length(self.project, self.video))}.",
            f"Highlights found: {hit.hit} of {hit.total} (at least half of each is in what was picked).",
        ]


def _rows(table: pl.DataFrame, window_seconds: float) -> list[str]:
    """The scorecard's head and a line for each signal."""
    head = f"  {'':<16}{'frames':>8}{f'over {window_seconds:g} s':>12}   {'95 % interval':<16}{'AUROC':>8}"
    lines = [f"{head}{'precision':>12}{'events':>9}"]
    for name, ap, smoothed, low, high, area, precision, events in table.iter_rows():
        shown = "     (none)   it lacks a value in some frames, so it can't be ranked"
        if ap is not None:
            shown = f"{ap:>8.3f}{smoothed:>12.3f}   {f'{low:.3f} to {high:.3f}':<16}{area:>8.3f}"
            shown += f"{precision:>12.3f}{events:>8.0%}"
        lines.append(f"  {name:<16}{shown}")
    return lines


def _write_page(judged: Judged, card: pl.DataFrame, events: pl.DataFrame, signals: dict[str, np.ndarray]) -> None:
    """The report: tables, precision over recall, timeline, worst mistakes, what was learned from and how."""
    from hlkit.charts import timeline_chart
    from hlkit.curves import precision_recall_chart
    from hlkit.page import Heading, Paragraph, picture_of, read_markdown, write_page
    from hlkit.timeline import add_intensity

    curve = add_intensity(judged.frames, window_seconds=judged.window_seconds)
    curves = precision_recall_chart(judged.frames["label"], signals, title="Precision over recall, frame by frame")
    timeline = timeline_chart(curve, highlights=judged.picked, labels=judged.labels, title=judged.video)
    model_card = tables.checkpoint(judged.project, judged.run).with_name("card.md")
    blocks = [
        Heading(judged.title, 1),
        *([Paragraph(" ".join(judged.verdict()))] if judged.picked is not None else []),
        Heading("Frames"),
        _table(card, CARD_NAMES),
        Paragraph(
            "AP, average precision, is 1 for a perfect order of the frames and the base rate, in the last row, for a "
            f"blind one. All other columns are of signals smoothed over {judged.window_seconds:g} s. The top are the "
            "best-scored seconds, as many as are labelled: how much of them is highlight, and how many highlights are "
            "among them by at least half. A signal that lacks a value in some frames can't be ranked, and has dashes."
        ),
        Heading("Highlights"),
        _table(events, EVENT_NAMES),
        Paragraph(
            "What each signal picks for a reel as long as all labelled highlights. A pick and a label match at a tIoU "
            "(temporal intersection over union) when they share that much of what they cover together, and within 5 s "
            "when the pick's peak is so near. Found are highlights that are in the picks by at least half; hit@5 is "
            "the share of the five best picks that are within 5 s of one. The last row is the mean of random picks."
        ),
        picture_of(curves, "Precision over recall of the model and of the simple signals"),
        picture_of(timeline, "Score over time, with the picked and the labelled highlights"),
        *_mistakes(judged),
        Heading("Labels"),
        _label_table(judged),
        *(read_markdown(model_card.read_text(encoding="utf-8"), under=1) if model_card.is_file() else []),
    ]
    write_page(blocks, judged.project.scores(judged.run, judged.video).with_name(f"{judged.video}-report.html"))


def _table(table: pl.DataFrame, names: dict[str, str]) -> Table:
    from hlkit.page import Table

    def shown(column: str, value: str | float | None) -> str:
        if value is None:
            return "-"
        return value if isinstance(value, str) else f"{value:.0f}" if column == "seconds" else f"{value:.3f}"

    rows = table.select(list(names)).iter_rows(named=True)
    return Table(tuple(names.values()), tuple(tuple(shown(name, row[name]) for name in names) for row in rows))


def _mistakes(judged: Judged) -> list[Block]:
    from hlkit.mistakes import find_mistakes, mistakes_gallery
    from hlkit.page import Heading, Paragraph, picture_of

    heading = Heading("Worst mistakes")
    if not judged.project.index(judged.video).is_file():
        return [heading, Paragraph("Not shown: the pictures of this video are not stored here (notebook 02).")]
    frames = read_index(judged.project.frames / judged.video)
    frames = frames.with_columns(pl.Series("label", covered(frames, judged.labels), dtype=pl.Int8))
    gallery = mistakes_gallery(find_mistakes(frames, judged.frames.drop("label")), judged.project.frames)
    return [heading, picture_of(gallery, "Pictures of the worst false alarms and misses")]


def _label_table(judged: Judged) -> Table:
    """What the labels of the judged video and of those learned from are."""
    from hlkit.page import Table

    learned = tables.learned_from(judged.project, judged.run)
    rows = []
    for video in dict.fromkeys([judged.video, *learned]):
        spans = tables.labels_of(judged.project, video)
        if spans is None or spans.is_empty():
            continue
        lengths = spans["end"] - spans["start"]
        length = tables.length(judged.project, video)
        role = "learned from" if video in learned else "judged on"
        counts = ", ".join(f"{count} {name}" for name, count in sorted(spans["label"].value_counts().iter_rows()))
        marked = f"{format_time(float(lengths.sum()))} of {format_time(length)} ({float(lengths.sum()) / length:.1%})"
        rows.append((video, role, marked, f"{lengths.min():.1f} to {lengths.max():.1f} s", counts))
    return Table(("video", "", "marked", "lengths", "highlights"), tuple(rows))
