"""Small tables that the tests of metrics share."""

import numpy as np
import polars as pl

from hlkit.labels import SPAN_SCHEMA


def spans(*rows, video="a"):
    return pl.DataFrame([(video, *row, "highlight") for row in rows], schema=SPAN_SCHEMA, orient="row")


def recording(seconds=600, seed=0, video="a"):
    """Frames at 3 a second with a highlight of 10 s in every 50 s, and a noisy signal that follows it."""
    time = np.arange(seconds * 3) / 3
    labels = (time % 50 < 10).astype(np.int8)
    signal = labels + np.random.default_rng(seed).normal(0, 1, time.size)
    return pl.DataFrame({"video": [video] * time.size, "time": time, "label": labels}), signal
