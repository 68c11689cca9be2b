"""How good a run is on labelled videos: its scorecard, as tables, in words and on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from hlkit.events import row_seconds
from hlkit.frames import read_index
from hlkit.labels import BACKGROUND, TIME_TOLERANCE, merge_spans
from hlkit.project import HlkitError, Project, atomic_path, fingerprint, format_time
from hlkit.stages import runs, tables, views
from hlkit.stages.common import Say, already_done, current_run, window_of
from hlkit.stages.judged import Judged, judged_frames, lacking

if TYPE_CHECKING:
    from hlkit.page import Block, Table

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

    All is judged by the time that somebody looked at: the whole video, or, where labels say what was rejected, what
    they cover (see `hlkit.labels.partly_seen`). What nobody looked at counts neither for nor against.

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
        HlkitError: when no scored video has labels of highlights and of what is none.
    """
    from hlkit.metrics import CARD_SCHEMA, EVENT_CARD_SCHEMA, event_card, macro_average, scorecard

    run = current_run(project, run)
    chosen = tables.scored_videos(project, run, videos)
    labels = {video: marks for video in chosen if (marks := tables.marks_of(project, video)) is not None}
    if not labels:
        raise HlkitError(f"None of {', '.join(chosen)} has labels to judge by. Label one (notebook 04, `hlkit label`).")
    window, results = window_of(project, None), []
    for video, marks in labels.items():
        highlights = merge_spans(marks.filter(pl.col("label") != BACKGROUND))
        spans = _scored_part(highlights, tables.read_scores(project, video, run=run))
        judged = Judged(project, run, video, spans, window)
        if reason := lacking(judged.frames):
            say(f"{video}: not judged, since {reason}.")
            continue
        scores = project.scores(run, video)
        targets = [scores.with_name(f"{video}{suffix}") for suffix in SUFFIXES]
        made_from = {"scores": fingerprint(scores), "labels": marks.write_csv(), "window": window}
        made_from["columns"] = [*CARD_SCHEMA.names(), *EVENT_CARD_SCHEMA.names()]
        made_from["picked"] = None if judged.picked is None else judged.picked.write_csv()
        made_from["signals"] = judged.available()
        made_from["card"] = fingerprint(runs.checkpoint(project, run).with_name("card.md"))
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
        if judged.unseen:
            say(f"{video}: judged by the {judged.part} that somebody looked at and that is scored.")
        lines = [
            f"{judged.title}: average precision; the best-scored seconds, as many as are labelled:",
            *_rows(card, window),
        ]
        say("\n  ".join(["\n".join(lines), *judged.verdict(), f"The whole report: {targets[2]}"]))
        results.append(card.select(pl.lit(video).alias("video"), pl.all()))
    if not results:
        raise HlkitError(
            f"Nothing can be judged by the labels of {', '.join(labels)}. In the part that is scored, mark highlights "
            "and what is none (notebook 04, `hlkit label`)."
        )
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


_PARTLY = (
    "Judged by the time that is scored and that somebody looked at; all else counts neither for nor against. Where "
    "hlkit chose what to look at, that is no fair sample: there are more highlights in it than elsewhere. That time is"
)


def _write_page(judged: Judged, card: pl.DataFrame, events: pl.DataFrame, signals: dict[str, np.ndarray]) -> None:
    """The report: tables, precision over recall, timeline, worst mistakes, what was learned from and how."""
    from hlkit.charts import timeline_chart
    from hlkit.curves import precision_recall_chart
    from hlkit.page import Heading, Paragraph, picture_of, read_markdown, write_page
    from hlkit.timeline import add_intensity

    curve = add_intensity(judged.frames, window_seconds=judged.window_seconds)
    seen = judged.frames["label"].to_numpy() >= 0
    known = {name: signal[seen] for name, signal in signals.items()}
    curves = precision_recall_chart(
        judged.frames["label"].filter(seen), known, title="Precision over recall, frame by frame"
    )
    timeline = timeline_chart(curve, highlights=judged.picked, labels=judged.labels, title=judged.video)
    model_card = runs.checkpoint(judged.project, judged.run).with_name("card.md")
    blocks = [
        Heading(judged.title, 1),
        *([Paragraph(" ".join(judged.verdict()))] if judged.picked is not None else []),
        *([Paragraph(f"{_PARTLY} {judged.part}.")] if judged.unseen else []),
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
    index = read_index(judged.project.frames / judged.video)
    frames = judged_frames(judged.project, judged.video, index)
    mistakes = find_mistakes(frames, judged.frames.drop("label"))
    shape = views.shown_shape(judged.project, judged.video)
    gallery = mistakes_gallery(mistakes, judged.project.frames, shape=shape)
    return [heading, picture_of(gallery, "Pictures of the worst false alarms and misses")]


def _label_table(judged: Judged) -> Table:
    """What the labels of the judged video and of those learned from are."""
    from hlkit.page import Table

    learned = runs.learned_from(judged.project, judged.run)
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
