"""The widget's Python side: what the page may ask, and what it gets."""

import io
import warnings

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tiny_frames import make_frames

from hlkit import demo, stages
from hlkit.labels import SPAN_SCHEMA, read_labels, write_labels
from hlkit.project import HlkitError, HlkitWarning, Project, fingerprint
from hlkit.review import review_queue
from hlkit.stages.materials import kept_levels
from hlkit.timeline import find_threshold, pick_highlights
from hlkit.widgets.journal import Journal
from hlkit.widgets.pictures import CELLS, COLUMNS, Pictures
from hlkit.widgets.span_widget import Recording, SpanWidget

LENGTH = 120.0


def journal_in(folder):
    table = folder / "vod.csv"
    return Journal(
        folder / "vod.marks.jsonl",
        video="vod",
        duration=LENGTH,
        read=lambda: read_labels(table, video="vod") if table.is_file() else None,
        write=lambda spans: write_labels(spans, table),
    )


def curve():
    """Two hills, the second one lower."""
    times = np.arange(0, LENGTH, 0.5)
    hills = 0.8 * np.exp(-(((times - 30) / 6) ** 2)) + 0.5 * np.exp(-(((times - 80) / 6) ** 2))
    values = {"intensity": hills, "score": hills, "loudness": -60 + 40 * hills}
    return pl.DataFrame({"video": "vod", "time": times, **values})


@pytest.fixture
def page(tmp_path):
    """A widget, and a way to be its page: sends a message, returns the answer."""

    def make(**parts):
        widget = SpanWidget(Recording("vod", LENGTH), journal_in(tmp_path), **parts)
        answers = []
        widget.send = lambda content, buffers=None: answers.append((content, buffers))

        def ask(kind, **content):
            answers.clear()
            widget._receive(widget, {"kind": kind, "number": 7, **content}, [])
            assert answers[-1][0]["number"] == 7
            return answers

        return widget, ask

    return make


def rows(widget):
    return [tuple(span[1:4]) for span in widget.spans]


def test_marks_reach_the_disk_and_come_back_as_spans(page, tmp_path):
    widget, ask = page(classes=["kill", "background", "funny"])
    assert widget.classes == ["kill", "funny"]
    assert ask("mark", start=10, end=20, label="kill")[-1][0] == {
        "kind": "done",
        "number": 7,
        "bad": False,
        "text": "Saved.",
    }
    id = widget.spans[0][0]
    ask("move", id=id, start=10, end=15.5)
    ask("relabel", id=id, label="funny")
    ask("fill", start=0, end=30, label="background")
    assert rows(widget) == [(0, 10, "background"), (10, 15.5, "funny"), (15.5, 30, "background")]
    ask("remove", id=id)
    table = read_labels(tmp_path / "vod.csv", video="vod").sort("start")
    assert (
        table.select("start", "end", "label").rows()
        == rows(widget)
        == [(0, 10, "background"), (15.5, 30, "background")]
    )
    assert ask("undo")[-1][0]["text"] == "Taken back." and len(widget.spans) == 3
    assert ask("redo")[-1][0]["text"] == "Done again." and len(widget.spans) == 2
    assert ask("redo")[-1][0]["text"] == "There is nothing to do again."


def test_what_the_page_may_not_ask_is_told_there_and_changes_nothing(page):
    widget, ask = page()
    for kind, content, text in (
        ("mark", {"start": 10, "end": 5, "label": "highlight"}, "is no stretch"),
        ("mark", {"start": float("nan"), "end": 5, "label": "highlight"}, "is no stretch"),
        ("mark", {"start": "a", "end": 5, "label": "highlight"}, "does not understand"),
        ("mark", {"start": 1, "end": 5, "label": "x" * 9}, "allowed are background, highlight"),
        ("mark", {"start": 1, "end": 5}, "does not understand"),
        ("move", {"id": "gone", "start": 1, "end": 5}, "no longer there"),
        ("pick", {"threshold": 0.5}, "no scores"),
        ("keep", {}, "does not understand"),
        ("sheet", {"level": 0, "sheet": 0}, "does not understand"),
        ("format the disk", {}, "does not understand"),
    ):
        answer = ask(kind, **content)[-1][0]
        assert answer["bad"] and text in answer["text"], answer
    assert widget.spans == []
    widget._receive(widget, "nonsense", [])


def test_a_mark_that_can_not_be_kept_is_told_on_the_page(page, tmp_path):
    widget, ask = page()
    ask("mark", start=10, end=20, label="highlight")
    (tmp_path / "vod.marks.jsonl").unlink()
    (tmp_path / "vod.marks.jsonl").mkdir()
    answer = ask("mark", start=30, end=40, label="highlight")[-1][0]
    assert answer["bad"] and "can't be used (Is a directory)" in answer["text"]
    assert rows(widget) == [(10, 20, "highlight")]


def test_another_tabs_marks_come_with_the_next_question(page, tmp_path):
    widget, ask = page()
    journal_in(tmp_path).mark(10, 20, "highlight")
    assert "Another tab" in ask("sync")[-1][0]["text"]
    assert rows(widget) == [(10, 20, "highlight")]
    assert ask("sync")[-1][0]["text"] is None


def test_the_explorer_says_what_the_package_picks(page):
    widget, ask = page(timeline=curve())
    assert widget.threshold == pytest.approx(0.4, abs=0.01)
    for threshold in (0.2, 0.7):
        ask("pick", threshold=threshold)
        spans = pick_highlights(curve(), threshold=threshold, durations={"vod": LENGTH})
        assert widget.picked == [list(row) for row in spans.select("start", "end").rows()]
        assert widget.threshold == threshold and widget.target_seconds is None
    assert widget.summary.startswith("1 highlight, 0:")
    ask("pick", target_seconds=25)
    level = find_threshold(curve(), 25, durations={"vod": LENGTH})
    seconds = sum(end - start for start, end in widget.picked)
    assert (widget.threshold, widget.target_seconds) == (level.threshold, 25) and 20 < seconds <= 25
    assert widget.summary == f"{len(widget.picked)} highlights, 0:{round(seconds)} minutes"


def test_a_length_that_nothing_fits_is_told_on_the_page_and_not_as_a_warning(page):
    widget, ask = page(timeline=curve())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = ask("pick", target_seconds=0.5)[-1][0]
    assert "No highlight fits into 0.5 s" in answer["text"] and not answer["bad"]
    assert (widget.threshold, widget.picked, widget.summary) == (None, [], "0 highlights, 0:00 minutes")


def test_curves_go_to_the_page_as_little_floats_score_and_intensity_first(page):
    timeline = curve().with_columns(pl.when(pl.col("time") > 3).then("loudness").alias("loudness"))
    widget, _ = page(timeline=timeline)
    assert [each["name"] for each in widget.curves] == ["score", "intensity", "loudness"]
    assert [(each["low"], each["high"]) for each in widget.curves[:2]] == [(0, 1), (0, 1)]
    assert widget.curves[2]["low"] == pytest.approx(-60, abs=0.1)
    data = np.frombuffer(widget.curve_data, "<f4").reshape(4, -1)
    assert np.allclose(data[0], timeline["time"]) and np.allclose(data[2], timeline["intensity"])
    assert np.isnan(data[3][:7]).all() and not np.isnan(data[3][7:]).any()


def test_keeping_calls_back_with_what_was_chosen(page):
    chosen = []
    widget, ask = page(timeline=curve(), keep=lambda **choice: chosen.append(choice) or "Kept.")
    ask("pick", threshold=0.25)
    assert ask("keep")[-1][0]["text"] == "Kept."
    ask("pick", target_seconds=25)
    ask("keep")
    assert chosen == [{"threshold": 0.25}, {"target_seconds": 25}]
    assert widget.can_keep


def test_a_sheet_has_the_frames_of_its_level_in_order_and_grey_for_a_damaged_one(tmp_path, page):
    index = make_frames(tmp_path, "vod", [0, 1] * 40).drop("label")
    pictures = Pictures(tmp_path, index, aspect=16 / 9)
    assert pictures.rows(0, 1) == list(range(CELLS, 2 * CELLS))
    assert pictures.rows(1, 1) == list(range(2 * CELLS, 80, 2))
    assert pictures.rows(2, 1) == []
    broken = index.with_columns(size=pl.when(pl.col("frame") == 3).then(40).otherwise("size"))
    widget, ask = page(pictures=Pictures(tmp_path, broken, aspect=16 / 9))
    assert widget.cells == [160, 90, CELLS, COLUMNS]
    (content, buffers), _ = ask("sheet", level=0, sheet=0)
    assert content == {"kind": "sheet", "level": 0, "sheet": 0}
    sheet = Image.open(io.BytesIO(buffers[0]))
    assert sheet.size == (160 * COLUMNS, 90 * CELLS // COLUMNS)
    middles = [sheet.getpixel((cell % 8 * 160 + 80, cell // 8 * 90 + 45)) for cell in range(8)]
    for cell, (red, _, blue) in enumerate(middles):
        assert abs(red - blue) < 12 if cell == 3 else (red > blue + 50) == (cell % 2 == 1)
    assert "no sheet 9" in ask("sheet", level=0, sheet=9)[-1][0]["text"]


@pytest.fixture
def bare(tmp_path):
    """A project with stored frames and no recording."""
    project = Project(tmp_path / "bare")
    make_frames(project.frames, "vod", [0, 1] * 90).drop("label").write_parquet(project.index("vod"))
    (project.frames / "vod" / "extraction.json").write_text('{"frames": 180, "fps": "3", "size": 32}')
    return project


def test_the_labeller_has_chunks_and_keeps_marks_in_the_project(bare):
    widget = stages.labeller(bare, video="vod", chunk_seconds=25)
    assert widget.queue == [[0, 25, ""], [25, 50, ""], [50, 75, ""]]
    assert (widget.video_url, widget.duration, widget.fps) == ("", 60, 3)
    widget._receive(widget, {"kind": "mark", "start": 5, "end": 9, "label": "highlight"}, [])
    assert read_labels(bare.labels("vod"), video="vod").select(list(SPAN_SCHEMA)).rows() == [("vod", 5, 9, "highlight")]
    assert rows(stages.labeller(bare, video="vod")) == [(5, 9, "highlight")]
    with pytest.raises(HlkitError, match="chunk_seconds=0"):
        stages.labeller(bare, video="vod", chunk_seconds=0)


def test_marks_on_the_demo_stay_when_the_next_notebook_prepares_it_again(tmp_path):
    project = Project(tmp_path / "demo")
    for video in (demo.TRAIN_VIDEO, demo.HELD_OUT_VIDEO):
        make_frames(project.frames, video, [0] * 180, fps=0.5, size=8).drop("label").write_parquet(project.index(video))
        (project.frames / video / "extraction.json").write_text('{"frames": 180, "fps": "1/2", "size": 8}')
    demo._place_labels(project, lambda line: None)
    widget = stages.labeller(project, video=demo.TRAIN_VIDEO)
    assert len(widget.spans) == 10
    widget._receive(widget, {"kind": "mark", "start": 340, "end": 350, "label": "highlight"}, [])
    said = []
    demo._place_labels(project, said.append)
    assert said == ["demo_a: label already done.", "demo_b: label already done."]
    assert len(read_labels(project.labels(demo.TRAIN_VIDEO), video=demo.TRAIN_VIDEO)) == 11


def test_the_reviewer_asks_in_the_order_of_the_queue_and_says_that_a_review_said_so(bare):
    queue = pl.DataFrame({"video": ["vod", "x", "vod"], "start": [40.0, 1, 10], "end": [45.0, 2, 15], "reason": "sure"})
    widget = stages.reviewer(bare, queue, video="vod")
    assert widget.queue == [[40, 45, "sure"], [10, 15, "sure"]]
    widget._receive(widget, {"kind": "mark", "start": 40, "end": 45, "label": "background"}, [])
    assert widget.spans[0][1:] == [40, 45, "background", "review"]
    with pytest.raises(HlkitError, match="The queue lacks end"):
        stages.reviewer(bare, queue.drop("end"), video="vod")


def test_an_answer_with_other_ends_decides_what_was_asked_in_one_act(page, tmp_path):
    queue = pl.DataFrame({"start": [10.0, 40, 112], "end": [20.0, 50, 122]})
    widget, ask = page(queue=queue, whole=False, origin="review")
    journal_in(tmp_path).mark(44, 45, "highlight", origin="hand")
    # Inside of what is asked, and over its end; what somebody marked before stays.
    ask("mark", start=12, end=16, label="highlight")
    ask("mark", start=48, end=53, label="highlight")
    ask("mark", start=114, end=118, label="highlight")
    answered = [
        (10, 12, "background"),
        (12, 16, "highlight"),
        (16, 20, "background"),
        (40, 44, "background"),
        (44, 45, "highlight"),
        (45, 48, "background"),
        (48, 53, "highlight"),
        (112, 114, "background"),
        (114, 118, "highlight"),
        (118, LENGTH, "background"),
    ]
    assert rows(widget) == answered
    assert [span[4] for span in widget.spans] == ["review"] * 4 + ["hand"] + ["review"] * 5
    table = read_labels(tmp_path / "vod.csv", video="vod")
    assert (
        review_queue(scores_of(LENGTH), table, limit=99, span_seconds=5)
        .filter(pl.any_horizontal((pl.col("start") < end) & (pl.col("end") > start) for start, end, _ in answered))
        .is_empty()
    )
    # A shorter span leaves what it gives up as looked at; one act takes back all of one answer.
    ask("undo")
    assert rows(widget) == answered[:7]
    ask("move", id=widget.spans[1][0], start=12, end=14)
    assert rows(widget)[:3] == [(10, 12, "background"), (12, 14, "highlight"), (14, 20, "background")]
    ask("move", id=widget.spans[1][0], start=12, end=22)
    assert rows(widget)[:3] == [(10, 12, "background"), (12, 22, "highlight"), (40, 44, "background")]
    ask("undo")
    ask("undo")
    assert rows(widget) == answered[:7]
    # Saying of a part that it is nothing says nothing of the rest; a labeller's chunks are decided by what covers them.
    ask("mark", start=113, end=115, label="background")
    assert rows(widget) == [*answered[:7], (113, 115, "background")]
    labeller, ask = page(queue=queue)
    ask("mark", start=117, end=119, label="highlight")
    assert rows(labeller) == [*answered[:7], (113, 115, "background"), (117, 119, "highlight")]


def scores_of(seconds):
    return pl.DataFrame({"video": "vod", "time": np.arange(0, seconds, 0.5), "score": 0.5})


def test_who_changes_a_mark_is_its_origin(page, tmp_path):
    table = pl.DataFrame({"video": "vod", "start": [10.0, 30], "end": [20.0, 40], "label": "highlight"})
    write_labels(table.with_columns(origin=pl.lit("import:a.csv")), tmp_path / "vod.csv")
    widget, ask = page(classes=["highlight", "win"])
    ask("move", id=widget.spans[0][0], start=11, end=20)
    ask("relabel", id=widget.spans[1][0], label="win")
    assert [span[4] for span in widget.spans] == ["hand", "hand"]
    ask("undo")
    assert [span[3:] for span in widget.spans] == [["highlight", "hand"], ["highlight", "import:a.csv"]]


def test_the_explorer_shows_scores_and_kept_signals_and_writes_the_reels_list(finished, tmp_path):
    import shutil

    project = Project(tmp_path / "copy")
    shutil.copytree(finished[0].root, project.root)
    widget = stages.explorer(project, video="judge")
    names = [each["name"] for each in widget.curves]
    assert names[:2] == ["score", "intensity"] and {"loudness", "motion"} <= set(names)
    assert widget.video_url.startswith("http://127.0.0.1:")
    widget._receive(widget, {"kind": "pick", "threshold": 0.35}, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HlkitWarning)
        widget._receive(widget, {"kind": "keep"}, [])
    kept = read_labels(project.reel("judge", ".csv"), video="judge")
    assert [list(row) for row in kept.select("start", "end").rows()] == [
        pytest.approx(span, abs=1e-6) for span in widget.picked
    ]
    assert stages.explorer(project).title.startswith("judge")


def test_what_is_kept_of_sound_and_motion_lies_at_its_own_frames(tmp_path):
    project = Project(tmp_path)
    index = make_frames(project.frames, "vod", [0] * 10, fps=2, missing=[3, 4]).drop("label")
    index.write_parquet(project.index("vod"))
    (project.frames / "vod" / "extraction.json").write_text('{"frames": 10, "fps": "2", "size": 32}')
    assert kept_levels(project, "vod").columns == ["time"]
    project.signals("vod").mkdir(parents=True)
    made, frames = fingerprint(project.index("vod")), index["frame"].to_numpy()
    # What was made from other frames, at another rate or of another length, counts no more.
    for name, rows in ((f"motion-{made}", frames), ("motion-ffff", 90 + frames)):
        np.save(project.signals("vod") / f"{name}.npy", np.repeat(rows[:, None], 64, axis=1).astype(np.float16))
    for name, rows in (("sound-2-10-aaaa", np.arange(10)), ("sound-3-15-ffff", 90 + np.arange(15))):
        sound = np.broadcast_to(rows[:, None, None], (len(rows), 18, 40)).astype(np.float16)
        np.save(project.signals("vod") / f"{name}.npy", sound)
    levels = kept_levels(project, "vod")
    assert levels["time"].to_list() == [0.0, 0.5, 1.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    assert levels["motion"].to_list() == levels["loudness"].to_list() == [0, 1, 2, 5, 6, 7, 8, 9]
