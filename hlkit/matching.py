"""Which stretches of a stream a highlight video shows: labels for nothing, from reels that are already published.

The reel may be of another size, encoder and frame rate, with titles over the picture, music over the sound,
cross-fades, its clips in another order and with clips from elsewhere between them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from hlkit.borders import Clip, refine
from hlkit.fingerprints import SIDE, decode_pictures, relief, tile_prints, unit_prints
from hlkit.labels import DEFAULT_LABEL, SPAN_SCHEMA
from hlkit.tracing import FINER, Run, trace
from hlkit.video import probe

MATCH_SCHEMA = pl.Schema(
    {
        **SPAN_SCHEMA,
        "reel_start": pl.Float64,
        "reel_end": pl.Float64,
        "confidence": pl.Float64,
        "reason": pl.String,
    }
)
RATE = Fraction(3)
REEL_RATE = 30


def match_reel(
    stream: Path, reel: Path, *, video: str | None = None, label: str = DEFAULT_LABEL, progress: bool = True
) -> pl.DataFrame:
    """The spans of `stream` that `reel` shows."""
    info, reel_info = probe(stream), probe(reel)
    pictures = decode_pictures(stream, rate=RATE, desc="stream", progress=progress)
    reel_rate = min(reel_info.fps, Fraction(REEL_RATE))
    shown = decode_pictures(reel, rate=reel_rate, desc="reel", progress=progress)
    prints = tile_prints(pictures)
    shared = prints.mean(axis=0)
    count = int(len(shown) / reel_rate * RATE * FINER)
    fine = np.array([int(step * reel_rate / (RATE * FINER)) for step in range(count)], dtype=np.int64)
    reel_prints = unit_prints(tile_prints(shown[fine]), shared)
    runs = trace(unit_prints(prints, shared), reel_prints)
    clips = [_clip(run) for run in runs]
    shared_relief = relief(pictures[:: max(1, len(pictures) // 2000)], SIDE).mean(axis=0)
    found = refine(clips, info, shown, reel_rate, shared_relief)
    rows = [
        (video or Path(stream).stem, c.start + c.begin_offset, c.end + c.end_offset, label, c.start, c.end, 1.0, "")
        for c in found
    ]
    return pl.DataFrame(rows, schema=MATCH_SCHEMA, orient="row").sort("start")


def _clip(run: Run) -> Clip:
    step = float(1 / RATE)
    return Clip(run.first * step, run.stop * step, run.begin_offset * step / FINER, run.end_offset * step / FINER)
