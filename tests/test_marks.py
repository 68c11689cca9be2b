"""What a person says of a video reaches its label file whole or not at all, and training leaves out what nobody saw."""

import polars as pl
import pytest
from conftest import write_label_file

from hlkit import stages
from hlkit.labels import SPAN_SCHEMA, read_labels
from hlkit.project import HlkitError, Project
from hlkit.stages import tables


def spans(*rows, video="learn"):
    return pl.DataFrame([(video, *row) for row in rows], schema=SPAN_SCHEMA, orient="row")


@pytest.fixture
def project(tmp_path, sources):
    made = Project(tmp_path / "project")
    stages.download(made, str(sources / "learn.mp4"), progress=False, say=lambda line: None)
    return made


def test_marks_replace_the_labels_of_a_video_and_say_where_they_are_from(project):
    said = []
    stages.label_spans(project, spans((8, 14, "highlight"), (20, 30, "background")), video="learn", origin="hand")
    mine = spans((9, 14, "highlight"), (20, 30, "background")).with_columns(origin=pl.Series(["review", None]))
    kept = stages.label_spans(project, mine, video="learn", origin="hand", say=said.append)
    assert said == ["learn: 2 spans, 0:00:05 of 0:01:30, 0:00:10 looked at and rejected."]
    assert kept.rows() == [
        ("learn", 9.0, 14.0, "highlight", "review"),
        ("learn", 20.0, 30.0, "background", "hand"),
    ]
    assert project.labels("learn").read_text() == (
        "video,start,end,label,origin\nlearn,9,14,highlight,review\nlearn,20,30,background,hand\n"
    )
    assert tables.marks_of(project, "learn").equals(kept)
    assert tables.labels_of(project, "learn").rows() == [("learn", 9.0, 14.0, "highlight")]


def test_no_marks_leave_an_empty_table(project):
    stages.label_spans(project, spans((8, 14, "highlight")), video="learn", origin="hand")
    stages.label_spans(project, spans(), video="learn", origin="hand")
    assert read_labels(project.labels("learn")).height == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (spans((8, 7, "x"), (80, 99, "x")), r"2 faults: \(1\) span 1, end: .*\(2\) span 2, end: .* outside the video"),
        (spans((1, 2, "x"), video="judge"), "span 1, video: 'judge' is unknown; allowed is 'learn'"),
        (spans((1, 5, "x"), (4, 6, "x")), "span 2, start: 0:00:04.00 lies inside span 1"),
    ],
)
def test_faulty_marks_change_nothing(project, wrong, reason):
    stages.label_spans(project, spans((8, 14, "highlight")), video="learn", origin="hand")
    before = project.labels("learn").read_bytes()
    with pytest.raises(HlkitError, match=reason):
        stages.label_spans(project, wrong, video="learn", origin="hand")
    assert project.labels("learn").read_bytes() == before


def test_typed_times_keep_what_was_rejected(project):
    stages.label_spans(project, spans((20, 30, "background")), video="learn", origin="review")
    stages.label_text(project, "0:00:40-0:00:45", video="learn")
    assert tables.marks_of(project, "learn").rows() == [
        ("learn", 20.0, 30.0, "background", "review"),
        ("learn", 40.0, 45.0, "highlight", "hand"),
    ]


def test_only_what_was_looked_at_trains_once_something_was_rejected(project, sources):
    stages.frames(project, size=16, fps="1", progress=False, say=lambda line: None)
    stages.label(project, write_label_file(sources / "learn.csv", "learn"), say=lambda line: None)
    labels, classes = tables.labelled_frames(project, ["learn"])
    assert (classes, labels["label"].value_counts().sort("label").rows()) == (
        ("background", "highlight"),
        [(0, 68), (1, 22)],
    )
    marks = spans((8, 14, "highlight"), (14, 20, "background"))
    stages.label_spans(project, marks, video="learn", origin="hand", say=lambda line: None)
    labels, _ = tables.labelled_frames(project, ["learn"])
    assert labels["label"].value_counts().sort("label").rows() == [(-1, 78), (0, 6), (1, 6)]
    labels, _ = tables.labelled_frames(project, ["learn"], rest="background")
    assert labels["label"].value_counts().sort("label").rows() == [(0, 84), (1, 6)]


def test_a_run_learns_from_what_was_looked_at_alone(project):
    stages.frames(project, size=32, fps="1", progress=False, say=lambda line: None)
    marks = spans((8, 14, "highlight"), (37, 44, "highlight"), (14, 37, "background"), (44, 60, "background"))
    stages.label_spans(project, marks, video="learn", origin="hand", say=lambda line: None)
    stages.train(project, epochs=1, progress=False, say=lambda line: None)
    held_out = pl.read_parquet(project.model("first") / "held_out.parquet")
    assert held_out["time"].min() >= 8
    assert held_out["time"].max() < 60
    assert set(held_out["label"]) == {0, 1}
    assert tables.marked_share(project, "first") == pytest.approx(13 / 52)
