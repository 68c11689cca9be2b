"""How well a run tells its classes apart, on what it learned from and on what it did not: one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hlkit.labels import TIME_TOLERANCE
from hlkit.project import HlkitError, Project, check_place, write_text
from hlkit.stages import runs, tables
from hlkit.stages.common import Say, current_run
from hlkit.stages.sequences import has_sequence
from hlkit.video import frame_rate

PARTS = ("train", "validation", "test")

# No recording has more frames a second.
SHORTEST_BLOCK = 0.001


def classes(
    project: Project,
    *,
    videos: Sequence[str] | None = None,
    run: str | None = None,
    blocks: Sequence[float] | None = None,
    target: Path | None = None,
    say: Say = print,
) -> pl.DataFrame:
    """Precision, recall and F1 of each class, frame by frame or block by block, beside the base rate.

    The class of a frame is the most probable one. In a block its frames' probabilities are averaged, and the commonest
    label is the true one.

    Args:
        project: must hold the run's scores and labels of the videos; scores of what was learned from come from
            `infer` with the videos named.
        videos: those that the run has scored, unless named; what has no labels is passed over.
        run: whose scores; the project's last run.
        blocks: lengths of blocks in seconds, 0.001 or more; 0 stands for single frames, which are judged unless given.
        target: a CSV that gets the table.
        say: takes a line for each class, part and length.

    Returns:
        `part`, `seconds` (f64, of a block, 0 for frames) and the columns of `hlkit.class_metrics.class_card`, whose
        intervals draw whole chunks of 30 s, or of as many whole blocks as take that long. The parts, as far as they are
        scored: "train", the training part of the split, with what was dropped of it for balance; "validation"; "test",
        videos that were not learned from. Purged frames count nowhere. A sequence model holds all chunks back in turn:
        what it learned from is all "train".

    Raises:
        HlkitError: when no scored video has labels, nothing of it counts, a length is negative or no number, or
            the target can't be written.
    """
    lengths = [0.0] if blocks is None else [float(length) for length in blocks]
    if not lengths or not all(length == 0 or SHORTEST_BLOCK <= length < np.inf for length in lengths):
        shown = ", ".join(f"{length:g}" for length in lengths) or "no"
        raise HlkitError(f"Blocks of {shown} s can't be. Give {SHORTEST_BLOCK} s or more, or 0 for single frames.")
    if target is not None:
        check_place(Path(target))
    run = current_run(project, run)
    names = tuple(runs.run_config(project, run)["model"]["classes"])
    chosen = [video for video in tables.scored_videos(project, run, videos) if project.labels(video).is_file()]
    if not chosen:
        raise HlkitError(f"No video that '{run}' has scored has labels. Label one (notebook 04, `hlkit label`).")
    frames = _frames(project, run, chosen, names)
    found = [
        _card(frames.filter(pl.col("part") == part), names, seconds).select(
            pl.lit(part).alias("part"), pl.lit(seconds).alias("seconds"), pl.all()
        )
        for part in PARTS
        for seconds in lengths
        if (frames["part"] == part).any()
    ]
    if not found:
        raise HlkitError(
            f"Nobody has looked at any of what '{run}' has scored of {', '.join(chosen)}, or it was kept out of its "
            "training as too near to what is held back. Score all of a labelled video: `hlkit infer --video ID`."
        )
    table = pl.concat(found)
    if target is not None:
        write_text(Path(target), table.write_csv(float_precision=4))
    say("\n".join(_lines(table)))
    return table


def _frames(project: Project, run: str, videos: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """`video`, `time`, `part`, `label` and a column `p<class's number>` for each class, of all that is judged."""
    from hlkit.shares import class_probabilities

    columns = ["score"] if len(names) == 2 else [f"score_{name}" for name in names[1:]]
    scores = pl.concat(
        [tables.read_scores(project, video, run=run).select("video", "time", *columns) for video in videos]
    ).drop_nulls()
    values = class_probabilities(scores, names)
    scores = scores.select("video", "time", *(pl.Series(f"p{place}", values[:, place]) for place in range(len(names))))
    labelled, _ = tables.labelled_frames(project, videos, classes=names, frames=scores)
    learned = runs.learned_from(project, run)
    if has_sequence(project, run):
        part = pl.when(pl.col("video").is_in(learned)).then(pl.lit("train")).otherwise(pl.lit("test"))
        return labelled.filter(pl.col("label") >= 0).with_columns(part=part)
    rate = float(frame_rate(runs.run_settings(project, run).fps))
    split = runs.run_split(project, run).with_columns(pl.col("part").replace("dropped", "train"))
    joined = labelled.with_columns(frame=(pl.col("time") * rate).round().cast(pl.Int64)).join(
        split, on=["video", "frame"], how="left"
    )
    of_new = pl.when(pl.col("video").is_in(learned)).then(pl.lit("purged")).otherwise(pl.lit("test"))
    return joined.with_columns(pl.col("part").fill_null(of_new)).filter(pl.col("label") >= 0)


def _card(frames: pl.DataFrame, names: Sequence[str], seconds: float) -> pl.DataFrame:
    from hlkit.class_metrics import class_card, pool_blocks
    from hlkit.split import CHUNK_SECONDS, assign_chunks

    # A chunk ends with a block, so that the bootstrap draws whole blocks, and no block is shorter than it is called.
    length = seconds * math.ceil(CHUNK_SECONDS / seconds) if seconds else CHUNK_SECONDS
    frames = assign_chunks(frames, chunk_seconds=length)
    labels, values = frames["label"].to_numpy(), frames.select(f"p{place}" for place in range(len(names))).to_numpy()
    chunk = frames["chunk"].to_numpy()
    if seconds:
        number = frames.select(
            pl.struct("chunk", ((pl.col("time") + TIME_TOLERANCE) / seconds).floor()).rank("dense").alias("block")
        )["block"].to_numpy()
        labels, values = pool_blocks(labels, values, number)
        chunk = chunk[np.unique(number, return_index=True)[1]]
    return class_card(labels, values, names, groups=chunk)


def _lines(table: pl.DataFrame) -> list[str]:
    """The table in words, without the rows of all classes together."""
    from hlkit.class_metrics import ALL

    head = f"{'':<36}{'count':>7}{'base rate':>11}{'precision':>11}{'recall':>8}{'F1':>7}{'AP':>7}"
    lines = [head]
    for row in table.filter(pl.col("class") != ALL).iter_rows(named=True):
        unit = f"blocks of {row['seconds']:g} s" if row["seconds"] else "frames"
        values = [row[name] for name in ("base_rate", "precision", "recall", "f1", "ap")]
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        shown = f"{row['part']}, {unit}: {row['class']}"
        widths = (11, 11, 8, 7, 7)
        numbers = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{shown:<36}{row['count']:>7,}{numbers}")
    return lines
