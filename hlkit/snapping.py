"""Better cut points: the ends of highlights moved to a shot change, or to a quiet moment, that lies within a second.

A cut in the middle of a sentence, or two pictures after the game has changed its view, looks like a mistake. Both kinds
of point are looked for near the ends alone, at the recording's own rate, and lie exactly between two pictures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from hlkit.cuts import reel_rate
from hlkit.packets import find_start, has_sound
from hlkit.project import HlkitError
from hlkit.sampling import sampled
from hlkit.sound import GAP_SECONDS, SAMPLE_RATE
from hlkit.video import VideoInfo, frame_count, open_ffmpeg, probe

SNAP_SCHEMA = pl.Schema({"time": pl.Float64, "kind": pl.String})
REACH_SECONDS = 1.0

# Both ends of a short highlight may move; half of it stays at least.
KEPT_SHARE = 0.5

PICTURE_SIZE = 64
# A shot change is a jump of the picture that stands alone: mean grey levels (of 255) and times its neighbours', as in
# the adaptive detector of PySceneDetect. Fast turns change many pictures in a row, within `ALONE_SECONDS`.
MIN_CHANGE = 15.0
MIN_CHANGE_RATIO = 3.0
ALONE_SECONDS = 0.1
# The light of a shot or an explosion brightens what is there. Of the 30 jumps in demo_a, pictures before and after a
# new view correlate by at most 0.32, under a flash by 0.48 to 0.87, and when the picture is darkened by 1.
MAX_LIKENESS = 0.4

# The gap between two words.
QUIET_SECONDS = 0.2
# A quarter of the amplitude that is usual around there. Steady noise and music never fall so far.
MIN_DIP_DB = 12.0
# An inaudible difference is no reason to move an end further.
SAME_DB = 3.0
# Below this, nobody hears a difference.
SILENCE_DB = -60.0


def snap_spans(
    spans: pl.DataFrame,
    points: pl.DataFrame,
    *,
    reach_seconds: float = REACH_SECONDS,
    duration: float = math.inf,
    fixed: Collection[float] = (),
) -> pl.DataFrame:
    """Move each end of the spans to the nearest shot change within reach, or else to the nearest quiet moment.

    An end without a point within reach stays where it is. So does one that would pass a neighbour, leave the recording,
    or (with the span's other end) leave less than half of the span.

    Args:
        spans: spans of one video, with `start` and `end` in seconds; other columns are carried along.
        points: columns of `SNAP_SCHEMA`: `time` in seconds, `kind` "shot" or "quiet".
        reach_seconds: how far an end may move.
        duration: seconds of the video.
        fixed: ends at these very times stay.

    Returns:
        The spans by start. Spans that did not overlap do not overlap now.

    Raises:
        HlkitError: for a reach that is not positive and finite.

    Example: with a shot change at 9.5 s, a quiet moment at 9.9 s and one at 20.4 s, `[10, 20)` becomes `[9.5, 20.4)`.
    """
    if not 0 < reach_seconds < math.inf:
        raise HlkitError(f"The reach is {reach_seconds} s. Give a number above 0, such as 1.")
    ordered = spans.sort("start", "end", maintain_order=True)
    starts, ends = ordered["start"].to_list(), ordered["end"].to_list()
    kinds = [points.filter(kind=kind)["time"].sort().to_numpy() for kind in ("shot", "quiet")]
    free = 0.0  # no earlier span reaches beyond this
    snapped = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        room = (end - start) * (1 - KEPT_SHARE) / 2
        begin, stop = start, end
        if start not in fixed:
            begin = _nearest(kinds, start, reach_seconds, min(free, start), start + room)
        after = min((each for each in starts[number + 1 :] if each >= end), default=duration)
        if end not in fixed:
            stop = _nearest(kinds, end, reach_seconds, end - room, max(end, min(after, duration)))
        snapped.append((begin, stop))
        free = max(free, stop)
    columns = {"start": [begin for begin, _ in snapped], "end": [stop for _, stop in snapped]}
    return ordered.with_columns(pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items())


def _nearest(kinds: Sequence[np.ndarray], time: float, reach: float, lowest: float, highest: float) -> float:
    """The nearest point in `[lowest, highest]` and within reach, of the first kind that has one; or `time` itself."""
    for times in kinds:
        allowed = times[(times >= max(lowest, time - reach)) & (times <= min(highest, time + reach))]
        if len(allowed):
            return float(allowed[np.abs(allowed - time).argmin()])
    return time


def find_snap_points(
    video: Path, times: Sequence[float], *, reach_seconds: float = REACH_SECONDS, progress: bool = True
) -> pl.DataFrame:
    """The shot changes and quiet moments within reach of each of `times`; only the stretches around these are decoded.

    Args:
        video: the recording; one without sound has no quiet moments.
        times: seconds from its start.
        reach_seconds: how far from each to look.
        progress: show a progress bar in stretches.

    Returns:
        Columns of `SNAP_SCHEMA` by time, each time once for each kind, and a whole number of pictures.
    """
    info = probe(video)
    rate = reel_rate(info)
    found: set[tuple[float, str]] = set()
    stretches = _stretches(times, reach_seconds + ALONE_SECONDS, info, rate)
    for (first, stop), near in tqdm(stretches, "cut points", unit="stretch", mininterval=0.5, disable=not progress):
        changes, likeness = _compare_pictures(info, rate, first, stop)
        found |= {(float((first + each) / rate), "shot") for each in shot_changes(changes, likeness, rate)}
        if info.has_audio:
            levels = _levels(info, rate, first, stop)
            moments = np.array([float(picture / rate) for picture in range(first, stop)])
            for time in near:
                within = np.abs(moments - time) <= reach_seconds
                quiet = quiet_moment(levels[within], moments[within], time)
                found |= set() if quiet is None else {(quiet, "quiet")}
    return pl.DataFrame(sorted(found), schema=SNAP_SCHEMA, orient="row")


def shot_changes(changes: np.ndarray, likeness: np.ndarray, rate: Fraction) -> list[int]:
    """The numbers of the pictures that begin a new shot.

    Args:
        changes: (n,) how much each picture differs from the one before it, in mean grey levels, 0 to 255.
        likeness: (n,) how each picture correlates with the one before it, -1 to 1.
        rate: pictures a second.
    """
    width = max(1, round(ALONE_SECONDS * rate))
    found = []
    for number in np.flatnonzero((changes >= MIN_CHANGE) & (likeness <= MAX_LIKENESS)):
        beside = np.concatenate([changes[max(0, number - width) : number], changes[number + 1 : number + 1 + width]])
        if changes[number] >= MIN_CHANGE_RATIO * beside.max(initial=0.0):
            found.append(int(number))
    return found


def quiet_moment(levels: np.ndarray, moments: np.ndarray, time: float) -> float | None:
    """The quietest moment of the dip in loudness that is nearest to `time`; None where there is no clear dip.

    Args:
        levels: (n,) loudness around each moment, dBFS.
        moments: (n,) seconds, rising.
        time: seconds.
    """
    if not len(levels):
        return None
    levels = np.maximum(levels, SILENCE_DB)
    quiet = np.flatnonzero(levels <= np.median(levels) - MIN_DIP_DB)
    if not len(quiet):
        return None
    dips = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
    dip = min(dips, key=lambda each: np.abs(moments[each] - time).min())
    lowest = dip[levels[dip] <= levels[dip].min() + SAME_DB]
    return float(moments[lowest[np.abs(moments[lowest] - time).argmin()]])


def _stretches(
    times: Sequence[float], reach: float, info: VideoInfo, rate: Fraction
) -> list[tuple[tuple[int, int], list[float]]]:
    """The pictures `[first, stop)` to look at, disjoint and in order, each with the times for which they are wanted."""
    last = frame_count(info.duration, rate)
    stretches: list[tuple[tuple[int, int], list[float]]] = []
    for time in sorted(set(times)):
        first, stop = max(0, math.floor((time - reach) * rate)), min(last, math.ceil((time + reach) * rate) + 1)
        if first >= stop:
            continue
        if stretches and first <= stretches[-1][0][1]:
            (begin, end), near = stretches[-1]
            stretches[-1] = ((begin, max(end, stop)), [*near, time])
        else:
            stretches.append(((first, stop), [time]))
    return stretches


def _compare_pictures(info: VideoInfo, rate: Fraction, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """What `shot_changes` takes: both (stop - first,), and 0 and 1 for the first picture."""
    changes, likeness = np.zeros(stop - first), np.ones(stop - first)
    previous = None
    for number, picture in enumerate(_pictures(info, rate, first, stop)):
        if previous is not None:
            changes[number] = np.abs(picture - previous).mean()
            likeness[number] = _correlation(picture, previous)
        previous = picture
    return changes, likeness


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation, 0 where a picture is of one colour."""
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale else 0.0


def _pictures(info: VideoInfo, rate: Fraction, first: int, stop: int) -> Iterator[np.ndarray]:
    """The pictures as grey levels, int16 (PICTURE_SIZE, PICTURE_SIZE)."""
    stream = sampled(info.path, fps=rate, size=PICTURE_SIZE, start=Fraction(first) / rate)
    size = PICTURE_SIZE * PICTURE_SIZE
    with open_ffmpeg(stream.output("pipe:", format="rawvideo", pix_fmt="gray")) as process:
        assert process.stdout is not None
        for _ in range(first, stop):
            data = process.stdout.read(size)
            if len(data) < size:
                break
            yield np.frombuffer(data, dtype=np.uint8).astype(np.int16).reshape(PICTURE_SIZE, PICTURE_SIZE)


def _levels(info: VideoInfo, rate: Fraction, first: int, stop: int) -> np.ndarray:
    """(stop - first,): loudness in dBFS (see `hlkit.signals.loudness`) around the border before each picture."""
    half = round(QUIET_SECONDS / 2 * SAMPLE_RATE)
    begin = max(0, round(first / rate * SAMPLE_RATE) - half)
    samples = _sound(info, begin, round(stop / rate * SAMPLE_RATE) + half)
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    centres = np.array([round(picture / rate * SAMPLE_RATE) for picture in range(first, stop)]) - begin
    low, high = np.maximum(centres - half, 0), np.minimum(centres + half, len(samples))
    power = (sums[high] - sums[low]) / np.maximum(high - low, 1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


def _sound(info: VideoInfo, begin: int, end: int) -> np.ndarray:
    """The samples `[begin, end)` of the first sound track, counted from time 0, f32; silence where there are none."""
    import ffmpeg

    samples = np.zeros(end - begin, dtype=np.float32)
    start = begin / SAMPLE_RATE
    seek, _ = find_start(info.path, start, 0.0)
    origin = info.start_time + start
    if not has_sound(info.path, seek, origin, origin + len(samples) / SAMPLE_RATE):
        return samples
    options: dict[str, Any] = {"copyts": None}
    options |= {} if seek is None else {"noaccurate_seek": None, "ss": f"{seek:.6f}"}
    sound = ffmpeg.input(f"file:{info.path.resolve()}", **options)["a:0"]
    sound = sound.filter("asetpts", f"round(PTS-({origin:.9f})/TB)")
    sound = sound.filter("aresample", SAMPLE_RATE, **{"async": 1, "min_hard_comp": GAP_SECONDS, "first_pts": 0})
    output = sound.filter("atrim", end_sample=len(samples)).output("pipe:", format="f32le", acodec="pcm_f32le", ac=1)
    with open_ffmpeg(output) as process:
        assert process.stdout is not None
        data = process.stdout.read(4 * len(samples))
    heard = np.frombuffer(data[: len(data) // 4 * 4], dtype="<f4")
    samples[: len(heard)] = heard
    return samples
