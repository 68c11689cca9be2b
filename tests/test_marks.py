"""What a person says of a video reaches its label file whole or not at all, and training leaves out what nobody saw."""

import fcntl
import shutil

import polars as pl
import pytest
from conftest import write_label_file
from typer.testing import CliRunner

from hlkit import stages
from hlkit.cli import app
from hlkit.imports import join_import
from hlkit.labels import SPAN_SCHEMA, read_labels
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.stages import labelling, tables


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


@pytest.mark.slow
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
    said = []
    stages.infer(project, progress=False, say=said.append)
    stages.score(project, say=said.append)
    assert "learn: judged by the 0:00:52 of 0:01:30 that somebody looked at and that is scored." in said


def put(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_a_file_of_another_program_becomes_labels_with_their_origin(project, tmp_path):
    chapters = put(tmp_path, "description.txt", "0:00 Start\n0:20 Boss fight 1\n0:40 Menu\n1:00 Boss fight 2\n")
    said = []
    classes = {"Boss fight": "highlight", "Menu": "background", "*": ""}
    stages.label(project, chapters, video="learn", classes=classes, say=said.append)
    assert said == [
        "learn: 3 spans, 0:00:50 of 0:01:30, 0:00:20 looked at and rejected.",
        "The classes are background, highlight. Others can be given for them (--class OLD=NEW).",
    ]
    assert tables.marks_of(project, "learn").rows() == [
        ("learn", 20.0, 40.0, "highlight", "import:description.txt"),
        ("learn", 40.0, 60.0, "background", "import:description.txt"),
        ("learn", 60.0, 90.0, "highlight", "import:description.txt"),
    ]


def marks(project):
    return tables.marks_of(project, "learn").select("start", "end", "label", "origin").rows()


def test_replaced_labels_are_kept_once_more_and_those_of_another_file_join(project, tmp_path):
    first = put(tmp_path, "first.csv", "start,end\n10,20\n40,50\n")
    second = put(tmp_path, "second.csv", "start,end,origin\n18,30,brother\n41,50,brother\n")
    say = lambda line: None  # noqa: E731
    stages.label(project, first, video="learn", say=say)
    before = project.labels("learn").read_text()
    said = []
    stages.label(project, second, video="learn", say=said.append)
    # Of [18, 30) a sixth is marked already, of [41, 50) all.
    assert marks(project) == [
        (10, 20, "highlight", "import:first.csv"),
        (20, 30, "highlight", "brother"),
        (40, 50, "highlight", "import:first.csv"),
    ]
    assert said[-1] == "learn: 1 of the spans in second.csv was marked already."
    old = project.labels("learn").with_name("learn.csv.old")
    assert not old.exists()
    stages.label(project, first, video="learn", replace=True, say=said.append)
    assert old.read_text().startswith("video,start,end,label,origin\n") and "brother" in old.read_text()
    assert said[-2] == f"learn: its labels of before are in {old}."
    assert project.labels("learn").read_text() == before
    assert tables.labelled_videos(project) == ["learn"]


class Page:
    """The labeller of a project's video, and a person in front of it."""

    def __init__(self, project, **options):
        stages.frames(project, size=16, fps="1", progress=False, say=lambda line: None)
        self.widget = stages.labeller(project, video="learn", **options)

    def does(self, kind, **content):
        answers = []
        self.widget.send = lambda content, buffers=None: answers.append(content)
        self.widget._receive(self.widget, {"kind": kind, **content}, [])
        assert not answers[-1]["bad"], answers

    def id(self, start):
        return next(span[0] for span in self.widget.spans if span[1] == start)


def test_a_file_taken_again_loses_nothing_that_was_done_by_hand(project, tmp_path):
    text = "start,end,label\n10,20,\n25,30,\n40,50,\n60,70,\n72,80,background\n"
    file = put(tmp_path, "times.csv", text)
    stages.label(project, file, video="learn", say=lambda line: None)
    page = Page(project)
    page.does("move", id=page.id(10), start=13, end=16)
    page.does("remove", id=page.id(25))
    page.does("relabel", id=page.id(40), label="background")
    page.does("mark", start=2, end=5, label="highlight")
    page.does("mark", start=74, end=76, label="highlight")
    by_hand = marks(project)
    assert by_hand == [
        (2, 5, "highlight", "hand"),
        (13, 16, "highlight", "hand"),
        (40, 50, "background", "hand"),
        (60, 70, "highlight", "import:times.csv"),
        (72, 74, "background", "import:times.csv"),
        (74, 76, "highlight", "hand"),
        (76, 80, "background", "import:times.csv"),
    ]
    # The notebook's cell again: the same file.
    said = []
    stages.label(project, file, video="learn", say=said.append)
    assert said[0] == "learn, times.csv: label already done."
    assert marks(project) == by_hand
    # The file has grown, lost a span, and now says something about what was marked by hand.
    text = "start,end,label\n10,20,\n25,30,\n3,6,\n44,48,\n56,58,\n72,80,background\n0,4,background\n"
    put(tmp_path, "times.csv", text)
    said.clear()
    stages.label(project, file, video="learn", say=said.append)
    assert marks(project) == [
        (0, 2, "background", "import:times.csv"),
        (2, 5, "highlight", "hand"),
        (13, 16, "highlight", "hand"),
        (40, 50, "background", "hand"),
        (56, 58, "highlight", "import:times.csv"),
        (72, 74, "background", "import:times.csv"),
        (74, 76, "highlight", "hand"),
        (76, 80, "background", "import:times.csv"),
    ]
    assert said[1:3] == [
        "learn: 1 of the spans in times.csv was marked already.",
        "learn: What is marked stays where times.csv contradicts it: "
        "0:00:44 to 0:00:48 is highlight in the file and marked background (hand); "
        "0:00:02 to 0:00:04 is background in the file and marked highlight (hand). "
        "To have the file's labels and no others, replace them (--replace).",
    ]
    # The page sees it, and what it marks next comes on top.
    page.does("sync")
    assert len(page.widget.spans) == 8
    # Taken once more on request: what was taken away comes back, marks by hand stay.
    stages.label(project, file, video="learn", redo=True, say=lambda line: None)
    assert {span for span in marks(project) if span[3] == "hand"} == {span for span in by_hand if span[3] == "hand"}
    assert (25, 30, "highlight", "import:times.csv") in marks(project)


def test_labels_of_the_project_that_come_back_as_a_file_are_not_the_files(project, tmp_path):
    stages.label_spans(project, spans((8, 14, "highlight"), (20, 30, "highlight")), video="learn", origin="hand")
    file = stages.export_labels(project, tmp_path / "mine.csv", say=lambda line: None)
    said = []
    stages.label(project, file, say=said.append)
    assert said[1] == "learn: 2 of the spans in mine.csv were marked already."
    put(tmp_path, "mine.csv", "video,start,end,label,origin\nlearn,20,30,highlight,hand\n")
    stages.label(project, file, say=said.append)
    assert [span[:2] for span in marks(project)] == [(8, 14), (20, 30)]


def test_without_a_record_of_the_last_time_the_origin_tells_what_is_the_files(project, tmp_path):
    file = put(tmp_path, "times.csv", "start,end\n10,20\n25,30\n")
    stages.label(project, file, video="learn", say=lambda line: None)
    stages.label_text(project, "40-50", video="learn", say=lambda line: None)
    for marker in (project.root / ".stages").iterdir():
        marker.unlink()
    put(tmp_path, "times.csv", "start,end\n12,20\n")
    stages.label(project, file, video="learn", say=lambda line: None)
    assert marks(project) == [(12, 20, "highlight", "import:times.csv"), (40, 50, "highlight", "hand")]


def test_a_file_without_rows_takes_its_spans_back_and_says_that_it_is_empty(project, tmp_path):
    file = put(tmp_path, "times.csv", "start,end\n10,20\n")
    stages.label(project, file, video="learn", say=lambda line: None)
    stages.label_text(project, "40-50", video="learn", say=lambda line: None)
    said = []
    stages.label(project, put(tmp_path, "times.csv", "start,end\n"), video="learn", say=said.append)
    assert said == [f"{file} holds no labels.", "learn: 1 spans, 0:00:10 of 0:01:30."]
    assert marks(project) == [(40, 50, "highlight", "hand")]


def test_labels_are_written_for_another_program_and_come_back(project, tmp_path):
    marks = spans((8, 14, "highlight"), (20, 30, "background"))
    stages.label_spans(project, marks, video="learn", origin="hand", say=lambda line: None)
    said = []
    target = stages.export_labels(project, tmp_path / "out.json", format="labelstudio", fps="30", say=said.append)
    assert said == [f"2 spans of learn in {target}, as labelstudio."]
    assert read_labels(target).equals(marks)
    with pytest.raises(HlkitError, match="A TSV of times has no classes, so it can't hold 'background'"):
        stages.export_labels(project, target, format="tsv")
    with pytest.raises(HlkitError, match=r"other: no labels\. Mark some highlights first"):
        stages.export_labels(project, target, videos=["learn", "other"])
    assert read_labels(target).equals(marks)


def test_a_file_without_labels_is_blamed_and_not_the_project(project, tmp_path):
    empty = put(tmp_path, "empty.csv", "video,start,end,label\n")
    stages.label_spans(project, spans((0, 90, "highlight")), video="learn", origin="hand", say=lambda line: None)
    with pytest.raises(HlkitError, match=r"^\S*empty\.csv holds no labels, so it names no video.*\(--video ID\)\.$"):
        stages.agree(project, empty, say=lambda line: None)
    theirs = put(tmp_path, "theirs.csv", "video,start,end,label\nlearn,1,2,fun\n")
    with pytest.raises(HlkitError, match=r"theirs\.csv holds no labels but of classes that are dropped, so it"):
        stages.agree(project, theirs, classes={"fun": ""}, say=lambda line: None)
    assert stages.agree(project, empty, video="learn", say=lambda line: None).same == 0  # they found nothing in it


def test_two_people_s_labels_are_compared_and_nothing_changes(project, tmp_path):
    theirs = put(tmp_path, "theirs.csv", "start,end\n8,14\n70,76\n")
    with pytest.raises(HlkitError, match=r"learn: no labels\. Mark some highlights first"):
        stages.agree(project, theirs, video="learn")
    stages.label_spans(project, spans((8, 14, "highlight")), video="learn", origin="hand", say=lambda line: None)
    before, said = project.labels("learn").read_bytes(), []
    found = stages.agree(project, theirs, video="learn", say=said.append)
    assert found.same == pytest.approx(84 / 90)
    assert said == [
        "learn: Cohen's kappa 0.63 (1 is full agreement, 0 that of chance); the same class in 93.3% of 0:01:30 that "
        "both looked at; F1 of spans 0.67."
    ]
    assert project.labels("learn").read_bytes() == before


def test_labels_that_name_no_video_of_the_project_are_refused_row_by_row(project, tmp_path):
    file = put(tmp_path, "x.csv", "video,start,end\nother,1,2\nlearn,80,99\n../learn,1,2\n")
    with pytest.raises(HlkitError) as caught:
        stages.label(project, file)
    for fault in (
        "(1) row 2, video: 'other' is unknown; allowed is 'learn'.",
        "(2) row 3, end: 0:01:39.00 lies outside the video",
        "(3) row 4, video: '../learn' can't be a video's id",
    ):
        assert fault in str(caught.value)
    assert not project.labels("learn").exists()


def test_commands_pass_formats_classes_and_fps_on(project, tmp_path):
    edl = "001  AX V C 00:00:10:00 00:00:20:15 00:00:00:00 00:00:10:15\n* FROM CLIP NAME: {}\n"
    put(
        tmp_path,
        "cut.txt",
        edl.format("Boss fight") + edl.format("Menu").replace(":20:15", ":25:00").replace("10:00", "22:00"),
    )
    where = ["--project", str(project.root), "--video", "learn"]

    def call(*words):
        return CliRunner().invoke(app, [str(word) for word in (*words, *where)])

    file, classes = tmp_path / "cut.txt", ["--class", "Boss fight=highlight", "--class", "*="]
    assert isinstance(call("label", file).exception, HlkitError)
    assert call("label", file, "--fps", 30, *classes).exit_code == 0
    assert tables.marks_of(project, "learn").rows() == [("learn", 10.0, 20.5, "highlight", "import:cut.txt")]
    assert "kappa 1.00" in call("agree", file, "--fps", 30, *classes).output
    assert call("export-labels", tmp_path / "out", "--format", "tsv").exit_code == 0
    assert (tmp_path / "out").read_text() == "vid_id\tstart\tstop\nlearn\t00:00:10\t00:00:20.5\n"
    wrong = call("label", file, "--class", "Boss fight")
    assert wrong.exit_code == 2
    assert "is no pair of classes" in wrong.output


def quiet(line):
    """Take a line and say nothing."""


def test_files_whose_names_have_no_latin_letter_are_told_apart(project, tmp_path):
    stages.label(project, put(tmp_path, "суббота.csv", "start,end\n10,20\n"), video="learn", say=quiet)
    stages.label(project, put(tmp_path, "воскресенье.csv", "start,end\n40,50\n"), video="learn", say=quiet)
    assert marks(project) == [
        (10, 20, "highlight", "import:суббота.csv"),
        (40, 50, "highlight", "import:воскресенье.csv"),
    ]


@pytest.mark.parametrize("name", ["best  of.csv", "caf\udce9.csv", "a\x01b.csv", "a\nb.csv", " -q 'x' \".csv"])
def test_a_file_of_an_odd_name_is_taken_and_taken_again(project, tmp_path, name):
    file = put(tmp_path, name, "start,end\n10,20\n")
    stages.label(project, file, video="learn", say=quiet)
    file.write_text("start,end\n40,50\n")
    stages.label(project, file, video="learn", say=quiet)
    assert [row[:2] for row in marks(project)] == [(40, 50)]


def test_replacing_is_done_again_after_marks_by_hand_and_nothing_is_lost(project, tmp_path):
    file = put(tmp_path, "times.csv", "start,end\n10,20\n")
    stages.label_text(project, "30-35", video="learn", say=quiet)
    stages.label(project, file, video="learn", replace=True, say=quiet)
    stages.label_text(project, "50-55", video="learn", say=quiet)
    stages.label(project, file, video="learn", replace=True, say=quiet)
    said = []
    stages.label(project, file, video="learn", replace=True, say=said.append)
    assert said == ["learn, times.csv: label already done."]
    assert [row[:2] for row in marks(project)] == [(10, 20)]
    kept = [project.labels("learn").with_name(f"learn.csv.{end}") for end in ("old", "old2")]
    assert [read_labels(file, video="learn").select("start").to_series().to_list() for file in kept] == [[30], [10, 50]]


def test_a_video_that_a_file_names_no_more_is_told(tmp_path, project):
    shutil.copy(project.video("learn"), project.videos / "other.mp4")
    file = put(tmp_path, "times.csv", "video,start,end\nlearn,10,20\nother,10,20\n")
    stages.label(project, file, say=quiet)
    file.write_text("video,start,end\nlearn,10,20\n")
    said = []
    stages.label(project, file, say=said.append)
    assert said[1:] == ["other: times.csv does not name it; what a file of this name gave it before stays."]
    assert tables.marks_of(project, "other")["start"].to_list() == [10]


def test_nobody_else_writes_labels_while_a_file_joins_them(project, tmp_path, monkeypatch):
    def held(*arguments, **options):
        with project.labels("learn").with_suffix(".jsonl").open("ab") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return join_import(*arguments, **options)

    monkeypatch.setattr(labelling, "join_import", held)
    stages.label(project, put(tmp_path, "times.csv", "start,end\n10,20\n"), video="learn", say=quiet)
    assert [row[:2] for row in marks(project)] == [(10, 20)]


@pytest.mark.parametrize("target", ["videos/learn.mp4", "labels/learn.csv", "new.mkv", "videos"])
def test_labels_are_not_written_over_recordings_and_the_projects_own(project, target):
    stages.label_text(project, "10-20", video="learn", say=quiet)
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    with pytest.raises(HlkitError, match=r"Labels are not written over .*\. Give another one, such as labels\.csv\."):
        stages.export_labels(project, project.root / target, say=quiet)
    assert {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["", "a\x01b", "a\nb", "a  b", " a"])
def test_a_class_that_a_label_file_would_not_give_back_is_refused(project, tmp_path, name):
    stages.label_text(project, "10-20", video="learn", say=quiet)
    before = project.labels("learn").read_bytes()
    file, says = put(tmp_path, "times.csv", "start,end\n40,50\n"), "The class .* can't stand in a label file"
    with pytest.raises(HlkitError, match=says):
        stages.label_spans(project, spans((40, 50, name)), video="learn", origin="hand", say=quiet)
    with pytest.raises(HlkitError, match=says):
        stages.labeller(project, video="learn", classes=["kill", name])
    with pytest.raises(HlkitError, match=r"The origin .* can't stand in a label file"):
        stages.label_spans(project, spans((40, 50, "kill")), video="learn", origin=name, say=quiet)
    if name:  # an empty one drops
        with pytest.raises(HlkitError, match=says):
            stages.label(project, file, video="learn", classes={"highlight": name}, say=quiet)
    assert project.labels("learn").read_bytes() == before


def test_labels_that_can_not_be_read_any_more_are_replaced_by_a_files(project, tmp_path):
    file = put(tmp_path, "times.csv", "start,end\n10,20\n")
    stages.label(project, file, video="learn", replace=True, say=quiet)
    project.labels("learn").write_bytes(b"video,st\xffnonsense")
    with pytest.warns(HlkitWarning, match="Windows-1252"), pytest.raises(HlkitError, match="has the columns"):
        stages.label(project, put(tmp_path, "more.csv", "start,end\n40,50\n"), video="learn", say=quiet)
    with pytest.warns(HlkitWarning, match="Windows-1252"):
        stages.label(project, file, video="learn", replace=True, say=quiet)
    assert [row[:2] for row in marks(project)] == [(10, 20)]
    assert project.labels("learn").with_name("learn.csv.old").read_bytes() == b"video,st\xffnonsense"
