import io
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from hlkit.charts import BLUE, envelope, save_figure, time_ticks, timeline_chart
from hlkit.project import HlkitError


def make_timeline(seconds, fps=3, video="vod"):
    times = np.arange(round(seconds * fps)) / fps
    score = 0.5 + 0.5 * np.sin(times / 7)
    columns = {"video": video, "time": times, "score": score.astype("f4"), "intensity": (0.9 * score).astype("f4")}
    return pl.DataFrame(columns)


def make_spans(*pairs, video="vod", labels=None):
    rows = [(video, float(start), float(end)) for start, end in pairs]
    table = pl.DataFrame(rows, schema={"video": pl.String, "start": pl.Float64, "end": pl.Float64}, orient="row")
    return table.with_columns(label=pl.Series(labels or ["highlight"] * len(pairs), dtype=pl.String))


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def bars(axis):
    """The bars of a strip as (start, end), and the collection that holds them."""
    [collection] = [artist for artist in axis.collections if isinstance(artist, PolyCollection)]
    extents = [path.get_extents() for path in collection.get_paths()]
    return [(box.x0, box.x1) for box in extents], collection


def texts(axis):
    return [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(
    ("end", "step", "first", "last"),
    [
        (0.8, 0.1, "0:00:00.0", "0:00:00.8"),
        (10, 1, "0:00:00", "0:00:10"),
        (90, 10, "0:00:00", "0:01:30"),
        (720, 120, "0:00:00", "0:12:00"),
        (3700, 600, "0:00:00", "1:00:00"),
        (6 * 3600, 3600, "0:00:00", "6:00:00"),
        (8 * 3600, 3600, "0:00:00", "8:00:00"),
        (40 * 86400, 4 * 86400, "0:00:00", "960:00:00"),
    ],
)
def test_ticks_fit_the_length(end, step, first, last):
    times, names = time_ticks(0, end)
    assert np.diff(times) == pytest.approx(step)
    assert (names[0], names[-1]) == (first, last)


def test_ticks_of_a_part_stand_at_round_times():
    assert time_ticks(605, 660)[1] == [f"0:10:{second:02d}" for second in range(10, 60, 10)] + ["0:11:00"]


@given(st.floats(0, 1e5), st.floats(0.5, 1e6))
def test_ticks_lie_inside_and_are_few_and_different(start, length):
    times, names = time_ticks(start, start + length)
    assert 2 <= len(times) <= 11
    assert times[0] >= start - 1e-3
    assert times[-1] <= start + length + 1e-3
    assert len(set(names)) == len(names)


def test_envelope_by_hand():
    times = np.array([0.0, 1.0, 2.0, 8.0, 10.0])
    values = np.array([0.5, 0.1, 0.9, np.nan, 0.3])
    middle, low, high = envelope(times, values, 5)
    assert middle.tolist() == [1, 3, 5, 7, 9]
    np.testing.assert_array_equal(low, [0.1, 0.9, np.nan, np.nan, 0.3])
    np.testing.assert_array_equal(high, [0.5, 0.9, np.nan, np.nan, 0.3])


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.integers(1, 50))
def test_envelope_keeps_every_extreme(values, columns):
    values = np.array(values)
    _, low, high = envelope(np.arange(len(values)) / 3, values, columns)
    assert np.nanmin(low) == values.min()
    assert np.nanmax(high) == values.max()
    assert (low <= high)[np.isfinite(low)].all()


def test_the_whole_chart():
    chart = timeline_chart(
        make_timeline(720),
        highlights=make_spans((10, 40), (100.2, 160.4)),
        labels=make_spans((12, 30), (105, 150), (600, 610)),
        threshold=0.45,
    )
    scores, picked, labelled = chart.axes
    assert scores.get_title(loc="left") == "vod"
    assert texts(scores) == ["threshold 0.45\n2 highlights,\n1:30 minutes"]
    assert lines(scores)["threshold"].get_ydata() == [0.45, 0.45]
    assert lines(scores)["threshold"].get_linestyle() == "--"
    assert "(0 to 1)" in scores.get_ylabel()
    assert scores.get_ylim() == (0, 1.02)
    assert labelled.get_xlabel() == "time in the video (h:mm:ss)"
    assert labelled.get_xlim() == (0, 720)
    assert [text.get_text() for text in labelled.get_xticklabels()][1] == "0:02:00"
    assert texts(labelled) == ["3 labels"]
    places, collection = bars(picked)
    assert places == [(10, 40), (100.2, pytest.approx(160.4))]
    assert to_hex(collection.get_facecolor()[0]) == BLUE.lower()
    assert collection.get_hatch() is None
    places, collection = bars(labelled)
    assert places == [(12, 30), (105, 150), (600, 610)]
    assert collection.get_hatch() == "////"
    assert (picked.get_ylabel(), labelled.get_ylabel()) == ("picked", "labelled")


def test_raw_score_is_faint_under_the_intensity():
    [scores] = timeline_chart(make_timeline(60)).axes
    raw, intensity = lines(scores)["score of a frame"], lines(scores)["intensity (mean over the window)"]
    assert raw.get_zorder() < intensity.get_zorder()
    assert raw.get_linewidth() < intensity.get_linewidth()
    assert intensity.get_color() == BLUE
    np.testing.assert_allclose(raw.get_ydata(), 0.5 + 0.5 * np.sin(np.arange(180) / 21), atol=1e-6)


def test_a_long_video_is_drawn_as_a_band_that_keeps_its_peaks():
    timeline = make_timeline(3 * 3600).with_columns(score=pl.when(pl.col("time") == 5000).then(1.0).otherwise(0.1))
    [scores] = timeline_chart(timeline).axes
    [band] = [artist for artist in scores.collections if artist.get_label() == "score of a frame"]
    points = band.get_paths()[0].vertices
    assert len(points) < 4000
    assert points[:, 1].max() == 1.0
    assert points[points[:, 1].argmax(), 0] == pytest.approx(5000, abs=10)


def test_short_highlights_of_a_long_video_stay_visible():
    chart = timeline_chart(make_timeline(8 * 3600, fps=1), highlights=make_spans((7000, 7002)))
    [(start, end)] = bars(chart.axes[1])[0]
    assert start == 7000
    assert end - start == pytest.approx(8 * 3600 / 1500)


def test_holes_in_time_and_missing_values_are_not_bridged():
    timeline = make_timeline(60).filter(~pl.col("time").is_between(20, 30))
    timeline = timeline.with_columns(intensity=pl.when(pl.col("time") < 50).then("intensity"))
    [scores] = timeline_chart(timeline).axes
    line = lines(scores)["intensity (mean over the window)"]
    missing = line.get_xdata()[np.isnan(line.get_ydata())]
    assert missing[0] == pytest.approx(20, abs=0.4)
    assert missing[1] == pytest.approx(50)


def test_spans_of_other_videos_and_outside_the_scored_part_are_left_out():
    spans = pl.concat([make_spans((10, 20), (50, 55), (500, 510)), make_spans((30, 40), video="other")])
    timeline = make_timeline(100).filter(pl.col("time") >= 30)
    scores, picked = timeline_chart(timeline, highlights=spans, threshold=0.5).axes
    assert texts(scores) == ["threshold 0.5\n1 highlight,\n0:05 minutes"]
    assert bars(picked)[0] == [(50, 55)]
    assert picked.get_xlim() == (30, 100)


def test_nothing_picked_is_said():
    scores, picked, labelled = timeline_chart(
        make_timeline(100), highlights=make_spans(), labels=make_spans(), threshold=math.inf
    ).axes
    assert texts(scores) == ["0 highlights,\n0:00 minutes"]
    assert "threshold" not in lines(scores)
    assert bars(picked)[0] == []
    assert texts(labelled) == ["0 labels"]


def test_each_class_has_strips_of_its_own():
    chart = timeline_chart(
        make_timeline(100),
        highlights=make_spans((10, 20), (40, 50), labels=["kill", "death"]),
        labels=make_spans((12, 20), labels=["kill"]),
    )
    names = [axis.get_ylabel() for axis in chart.axes[1:]]
    assert names == ["death: picked", "death: labelled", "kill: picked", "kill: labelled"]
    assert [bars(axis)[0] for axis in chart.axes[1:]] == [[(40, 50)], [], [(10, 20)], [(12, 20)]]
    colours = {to_hex(bars(chart.axes[number])[1].get_facecolor()[0]) for number in (1, 3)}
    assert len(colours) == 2


def test_signals_have_strips_with_units():
    timeline = make_timeline(100).with_columns(loudness=pl.lit(-20.0), chat=pl.col("time"))
    chart = timeline_chart(timeline, signals=("loudness", "chat"))
    assert [axis.get_ylabel() for axis in chart.axes[1:]] == ["loudness\n(dBFS)", "chat"]
    assert chart.axes[2].get_lines()[0].get_ydata().tolist() == timeline["time"].to_list()


def test_dollars_and_long_names_are_text():
    name = "$_$" + 90 * "x"
    chart = timeline_chart(make_timeline(20, video=name), title="")
    assert len(chart.axes[0].get_title(loc="left").replace("\\", "")) == 60
    chart.savefig(io.BytesIO(), dpi=20)


def test_low_scores_are_drawn_large():
    timeline = make_timeline(100).with_columns(pl.col("score", "intensity") / 100)
    assert timeline_chart(timeline).axes[0].get_ylim()[1] == pytest.approx(0.011, abs=1e-4)


def test_one_of_several_classes():
    timeline = make_timeline(100).rename({"score": "score_kill"})
    assert "score of a frame" in lines(timeline_chart(timeline, column="score_kill").axes[0])
    assert "score of a frame" not in lines(timeline_chart(timeline).axes[0])


@settings(max_examples=5, deadline=None)
@given(
    st.integers(1, 40),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=90),
    st.lists(st.none() | st.floats(0, 1) | st.just(math.nan), min_size=40, max_size=40),
)
def test_any_small_table_and_title_is_drawn(count, title, values):
    table = make_timeline(20)[:count]
    table = table.with_columns(score=pl.Series(values[:count], dtype=pl.Float64), video=pl.lit("$a_{b}$"))
    chart = timeline_chart(table, threshold=0.3, highlights=make_spans(), title=title)
    picture = io.BytesIO()
    chart.savefig(picture, dpi=20)
    assert picture.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("table", "options", "reason"),
    [
        (make_timeline(0), {}, "is empty"),
        (make_timeline(5).drop("score", "intensity"), {}, "score or intensity"),
        (make_timeline(5), {"signals": ("loudness",)}, "loudness"),
        (pl.concat([make_timeline(5), make_timeline(5, video="b")]), {}, "has b, vod"),
    ],
)
def test_timelines_that_cannot_be_drawn(table, options, reason):
    with pytest.raises(HlkitError, match=reason):
        timeline_chart(table, **options)


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    chart, target = timeline_chart(make_timeline(20)), tmp_path / "deep" / "chart.png"
    assert save_figure(chart, target, dpi=40) == target
    before = target.read_bytes()
    assert before.startswith(b"\x89PNG")

    def half(path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(chart, "savefig", half)
    with pytest.raises(OSError, match="No space"):
        save_figure(chart, target)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["chart.png"]
    with pytest.raises(HlkitError, match=r"\.png"):
        save_figure(chart, tmp_path / "chart.mp4")


def test_charts_need_no_pyplot_and_importing_them_no_matplotlib():
    program = """
import sys, hlkit.charts
assert "matplotlib" not in sys.modules
import polars as pl
hlkit.charts.timeline_chart(pl.DataFrame({"video": ["a"], "time": [0.0], "score": [0.5]}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
