import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hlkit.mistakes import find_mistakes, mistakes_gallery
from hlkit.project import HlkitError


def make_frames(labels, video="vod", fps=1.0):
    count = len(labels)
    return pl.DataFrame(
        {
            "video": [video] * count,
            "frame": range(count),
            "time": [frame / fps for frame in range(count)],
            "shard": [f"{frame:08d}.jpg" for frame in range(count)],
            "offset": [0] * count,
            "size": [0] * count,
            "label": pl.Series(labels, dtype=pl.Int8),
        },
        schema_overrides={"video": pl.String, "shard": pl.String, "frame": pl.Int64, "time": pl.Float64},
    )


def make_scores(frames, values):
    return frames.select("video", "time", score=pl.Series(values, dtype=pl.Float32))


def test_the_worst_mistakes_by_hand():
    frames = make_frames([0, 0, 1, 1, 0, 0, 1, 0])
    scores = make_scores(frames, [0.1, 0.9, 0.2, 0.8, 0.5, 0.7, 0.6, 0.3])
    found = find_mistakes(frames, scores, 2, spacing_seconds=0)
    assert found.select("kind", "frame").rows() == [
        ("false alarm", 1),
        ("false alarm", 5),
        ("missed", 2),
        ("missed", 6),
    ]
    assert found["score"].to_list() == pytest.approx([0.9, 0.7, 0.2, 0.6])
    assert set(frames.columns) < set(found.columns)


def test_neighbours_of_one_moment_count_once():
    frames = make_frames([0] * 30)
    values = [0.1] * 30
    values[10:15] = [0.8, 0.9, 0.99, 0.9, 0.8]
    values[20] = 0.5
    found = find_mistakes(frames, make_scores(frames, values), 2, spacing_seconds=5)
    assert found["frame"].to_list() == [12, 20]


def test_videos_do_not_crowd_each_other_out():
    frames = pl.concat([make_frames([0, 0, 0]), make_frames([0, 0, 0], video="other")])
    found = find_mistakes(frames, make_scores(frames, [0.1, 0.9, 0.2, 0.1, 0.8, 0.2]))
    assert found.select("video", "frame").rows() == [("vod", 1), ("other", 1)]


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(1, 120), st.integers(0, 12), st.sampled_from([0.0, 1.0, 2.5, 10.0]))
def test_mistakes_are_apart_sorted_and_of_their_kind(data, count, n, spacing):
    labels = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    values = data.draw(st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count))
    frames = make_frames(labels, fps=3)
    found = find_mistakes(frames, make_scores(frames, values), n, spacing_seconds=spacing)
    for kind, sign in (("false alarm", -1), ("missed", 1)):
        part = found.filter(pl.col("kind") == kind)
        assert len(part) <= n
        assert ((part["label"] > 0) == (kind == "missed")).all()
        assert (np.diff(sign * part["score"].to_numpy()) >= 0).all()
        times = np.sort(part["time"].to_numpy())
        assert (np.diff(times) >= spacing).all()
        wrong = [sign * value for value, label in zip(values, labels, strict=True) if (label > 0) == (kind == "missed")]
        if n and wrong:
            assert sign * part["score"][0] == min(wrong)


def test_scores_are_matched_by_the_nearest_time():
    frames = make_frames([0, 0, 0, 0])
    scores = pl.DataFrame({"video": "vod", "time": [2.0 + 1e-9, 0.4, 1.0, 7.0], "score": [0.3, 0.1, 0.2, 0.9]})
    found = find_mistakes(frames, scores, spacing_seconds=0)
    assert found["frame"].to_list() == [2, 1, 0]
    assert found["score"].to_list() == pytest.approx([0.3, 0.2, 0.1])


def test_several_classes_count_together_and_missing_scores_not_at_all():
    frames = make_frames([0, 0, 0])
    scores = frames.select("video", "time").with_columns(
        score_kill=pl.Series([0.3, 0.2, None]), score_death=pl.Series([0.1, 0.7, 0.9])
    )
    found = find_mistakes(
        frames, scores.with_columns(score_kill=pl.col("score_kill").fill_null(float("nan"))), 9, spacing_seconds=0
    )
    assert found["score"].to_list() == pytest.approx([0.9, 0.4])


def test_frames_without_a_label_are_left_out():
    frames = make_frames([0, None, -1, 1])
    found = find_mistakes(frames, make_scores(frames, [0.5, 0.9, 0.9, 0.5]), spacing_seconds=0)
    assert found["frame"].to_list() == [0, 3]


@pytest.mark.parametrize(
    ("frames", "scores", "reason"),
    [
        (make_frames([]), make_scores(make_frames([0]), [0.5]), "is empty"),
        (make_frames([0]).drop("label"), make_scores(make_frames([0]), [0.5]), "have no labels"),
        (make_frames([None, -1]), make_scores(make_frames([0, 0]), [0.5, 0.5]), "have no labels"),
        (make_frames([0]), make_scores(make_frames([0], video="other"), [0.5]), "No score belongs"),
        (make_frames([0]), make_scores(make_frames([]), []), "No score belongs"),
        (make_frames([0]), make_frames([0]).select("video", "time"), "no column score"),
    ],
)
def test_tables_without_an_answer(frames, scores, reason):
    with pytest.raises(HlkitError, match=reason):
        find_mistakes(frames, scores)


@pytest.fixture
def found(tmp_path):
    """Eight mistakes at 0:01:01 and after, each frame in a grey of its own: 20 times its number."""
    (tmp_path / "vo$d").mkdir()
    rows = []
    for number in range(8):
        path = tmp_path / "vo$d" / f"{number}.jpg"
        Image.new("RGB", (16, 16), (20 * number,) * 3).save(path)
        kind = "false alarm" if number < 5 else "missed"
        rows.append(("vo$d", 61.0 + 60 * number, path.name, 0, path.stat().st_size, 1 - number / 8, kind))
    names = ["video", "time", "shard", "offset", "size", "score", "kind"]
    return tmp_path, pl.DataFrame(rows, schema=names, orient="row")


def shown_images(figure):
    return [image for part in figure.subfigs for axis in part.axes for image in axis.get_images()]


def shown(figure):
    images = shown_images(figure)
    return [(image.axes.get_title(), round(float(image.get_array().mean()) / 20)) for image in images]


def test_gallery_shows_each_picture_under_its_time_and_score(found):
    root, table = found
    figure = mistakes_gallery(table, root, columns=3, title="$5 and $6")
    assert [len(part.axes) for part in figure.subfigs] == [6, 3]
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "Not labelled as highlights, but scored highest",
        "Labelled as highlights, but scored lowest",
    ]
    assert shown(figure)[0] == ("0:01:01  score 1.00", 0)
    assert shown(figure)[7] == ("0:08:01  score 0.12", 7)
    assert [number for _, number in shown(figure)] == list(range(8))
    figure.savefig(io.BytesIO(), dpi=20)


def test_gallery_shows_squares_in_the_shape_of_what_they_show(found):
    root, table = found
    figure = mistakes_gallery(table, root, shape=2.0)
    (first, *_) = shown_images(figure)
    assert tuple(first.get_extent()) == (0, 2, 0, 1)
    assert (first.axes.get_aspect(), first.axes.get_ylim()) == (1, (0, 1))
    assert figure.get_figheight() < mistakes_gallery(table, root).get_figheight()


def test_gallery_of_one_kind_and_of_several_videos(found):
    root, table = found
    (root / "b").symlink_to(root / "vo$d")
    table = table.filter(pl.col("kind") == "missed")
    figure = mistakes_gallery(pl.concat([table, table.with_columns(video=pl.lit("b"))]), root)
    assert len(figure.subfigs) == 1
    assert [title.partition("\n")[0] for title, _ in shown(figure)] == [r"vo\$d"] * 3 + ["b"] * 3
    figure.savefig(io.BytesIO(), dpi=20)


def test_gallery_of_nothing_or_of_lost_frames(found):
    root, table = found
    with pytest.raises(HlkitError, match="table is empty"):
        mistakes_gallery(table.clear(), root)
    (root / "vo$d" / "3.jpg").unlink()
    with pytest.raises(HlkitError, match=r"3\.jpg"):
        mistakes_gallery(table, root)
