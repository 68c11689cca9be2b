"""Rounds of review on a small project: what is asked, what the answers change, and what is kept of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from conftest import HIGHLIGHTS

from hlkit import notebook, stages
from hlkit.labels import SPAN_SCHEMA
from hlkit.project import HlkitError, HlkitWarning
from hlkit.stages import runs, tables
from hlkit.stages.sequences import read_rounds, rounds_file


def quiet(line):
    """Take a line and say nothing."""


def answer(project, queue, video):
    """What somebody who knows the truth says of the queued spans of one video, beside what is known already."""
    rows = []
    for start, end in queue.filter(pl.col("video") == video).select("start", "end").iter_rows():
        at = start
        for first, last in sorted(HIGHLIGHTS[video]):
            a, b = max(at, first), min(end, last)
            if a < b:
                rows += [(video, at, a, "background")] if a > at else []
                rows.append((video, a, b, "highlight"))
                at = b
        rows += [(video, at, end, "background")] if at < end else []
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


def test_without_scores_or_labels_the_loudest_come_first(copied):
    copied.labels("judge").unlink()
    said = []
    queue = stages.review(
        copied, videos=["judge"], run="none-yet", limit=4, span_seconds=4, progress=False, say=said.append
    )
    assert said[0] == "judge: not scored by 'none-yet' yet, so the loudest moments stand for likely ones."
    assert len(queue) == 4
    assert len(said) == 5
    first = queue.row(0, named=True)
    assert first["reason"] == "likely"
    assert any(a < first["end"] and first["start"] < b for a, b in HIGHLIGHTS["judge"])


def test_answers_are_learned_from_and_never_asked_again(copied):
    copied.labels("judge").unlink()
    before = (copied.model("first") / "model.ckpt").read_bytes()
    queue = stages.review(copied, limit=6, span_seconds=4, progress=False, say=quiet)
    assert set(queue["video"]) == {"judge"}
    said = answer(copied, queue, "judge")
    stages.label_spans(copied, said, video="judge", origin="review", say=quiet)
    metrics = stages.relearn(copied, progress=False, say=quiet)
    assert (copied.model("first") / "model.ckpt").read_bytes() == before
    rounds = read_rounds(rounds_file(copied, "first"))
    assert rounds["round"].to_list() == [1, 2]
    looked = float((said["end"] - said["start"]).sum()) / 60
    assert rounds["looked_minutes"][1] - rounds["looked_minutes"][0] == pytest.approx(looked, abs=0.02)
    assert rounds["val_ap"][1] == pytest.approx(metrics["val_ap"])
    again = stages.review(copied, videos=["judge"], limit=50, span_seconds=4, progress=False, say=quiet)
    for start, end in again.select("start", "end").iter_rows():
        assert not any(start < b - 1e-6 and end > a + 1e-6 for a, b in said.select("start", "end").iter_rows())
    figure = stages.review_chart(copied)
    assert list(figure.axes[0].lines[0].get_xdata()) == rounds["looked_minutes"].to_list()


def test_what_was_looked_at_throughout_is_not_asked_about_unless_it_is_named(copied):
    said = []
    assert stages.review(copied, progress=False, say=said.append).is_empty()
    assert said[0].startswith("judge, learn: labelled, with nothing rejected, so all of it counts as looked at")
    named = stages.review(copied, videos=["judge"], limit=3, span_seconds=4, progress=False, say=quiet)
    assert named["video"].to_list() == ["judge"] * 3
    # An empty label file says nothing; one more no, and the video may be asked about.
    for rows in ([], [("judge", 0.0, 5.0, "background")]):
        spans = pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")
        stages.label_spans(copied, spans, video="judge", origin="review", say=quiet)
        queue = stages.review(copied, limit=3, span_seconds=4, progress=False, say=quiet)
        assert queue["video"].to_list() == ["judge"] * 3
    spans = pl.DataFrame([("judge", 0.0, 90.0, "background")], schema=SPAN_SCHEMA, orient="row")
    stages.label_spans(copied, spans, video="judge", origin="review", say=quiet)
    said.clear()
    assert stages.review(copied, progress=False, say=said.append).is_empty()
    assert said == ["judge: all of it was looked at, so there is nothing left to ask."]


def test_the_notebooks_cells_ask_and_learn_from_the_answers(copied, capsys, monkeypatch):
    copied.labels("judge").unlink()
    cells = json.loads((Path(__file__).parent.parent / "notebooks" / "04_label.ipynb").read_text())["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    shown = []
    monkeypatch.setattr(notebook, "show", lambda *results: shown.extend(results))

    def run(id, **form):
        """Run a cell with its form filled in."""
        text = source[id]
        for name, value in form.items():
            text, count = re.subn(rf"(?m)^{name} = .*#@param", f"{name} = {value!r}  #@param", text)
            assert count == 1
        exec(text, {"project": copied, "stages": stages, "notebook": notebook})

    run("ask-me")
    run("learn-from-answers")
    assert shown == []
    run("ask-me", ask_me=True, how_many=3)
    (widget,) = shown
    asked = [item[:2] for item in widget.queue]
    assert len(asked) == 3
    for start, end in asked:
        red = any(a < end and start < b for a, b in HIGHLIGHTS["judge"])
        label = "highlight" if red else "background"
        widget._receive(widget, {"kind": "mark", "start": start, "end": end, "label": label}, [])
    marks = tables.marks_of(copied, "judge")
    assert marks["origin"].to_list() == ["review"] * len(marks)
    shown.clear()
    run("learn-from-answers", learn_again=True)
    assert len(read_rounds(rounds_file(copied, "first"))) == 2
    assert [type(each).__name__ for each in shown] == ["Figure"]
    shown.clear()
    run("ask-me", ask_me=True, ask_about="judge")
    later = [item[:2] for item in shown[0].queue]
    assert not any(start < b - 1e-6 and end > a + 1e-6 for start, end in later for a, b in asked)
    assert "average precision" in capsys.readouterr().out


def test_a_picture_network_learns_anew_from_the_answers_as_it_was_trained(copied):
    options = {
        "backbone": "measures",
        "epochs": 3,
        "learning_rate": 0.03,
        "augment": "none",
        "monitor": "val_precision",
    }
    copied.labels("judge").unlink()
    stages.train(copied, videos=["learn"], run="other", sequence="none", progress=False, say=quiet, **options)
    # Looked through at a third of the rate: each score stands until the next.
    stages.infer(copied, videos=["judge"], run="other", fps="1", progress=False, say=quiet)
    queue = stages.review(copied, run="other", limit=4, span_seconds=4, progress=False, say=quiet)
    assert set(queue["video"]) == {"judge"} and len(queue) == 4
    stages.label_spans(copied, answer(copied, queue, "judge"), video="judge", origin="review", say=quiet)
    before = (copied.model("other") / "model.ckpt").read_bytes()
    said = []
    reached = stages.relearn(copied, run="other", progress=False, say=said.append)
    assert (copied.model("other") / "model.ckpt").read_bytes() != before
    config = runs.run_config(copied, "other")
    assert config["videos"] == ["learn", "judge"] and config["sequence"] == "none"
    assert {name: config["options"][name] for name in options} == options
    rounds = read_rounds(rounds_file(copied, "other"))
    assert rounds["round"].to_list() == [1, 2]
    assert rounds["val_ap"][1] == reached["val_ap"]
    assert rounds["looked_minutes"][1] > rounds["looked_minutes"][0] == pytest.approx(1.5)
    assert said[-1] == "judge: 90 frames scored by other."


def test_a_rounding_of_times_and_a_part_that_is_not_scored_change_nothing_else(copied):
    copied.labels("judge").unlink()

    def asked():
        return stages.review(copied, videos=["judge"], limit=4, span_seconds=4, progress=False, say=quiet)

    file, before = copied.scores("first", "judge"), asked()
    whole = pl.read_parquet(file)
    for shift in (1e-7, -1e-7):
        whole.with_columns(pl.col("time") + shift).write_parquet(file)
        assert asked().equals(before)
    whole.filter(pl.col("time") < 30).write_parquet(file)
    assert 0 < asked()["end"].max() <= 31


def test_a_picture_network_that_does_not_say_how_it_was_trained_is_told(copied):
    options = {"backbone": "measures", "epochs": 1, "sequence": "none"}
    stages.train(copied, videos=["learn"], run="other", progress=False, say=quiet, **options)
    file = copied.model("other") / "config.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({name: part for name, part in whole.items() if name != "options"}))
    with pytest.raises(HlkitError, match=r"does not say how 'other' was trained\. Train it anew"):
        stages.relearn(copied, run="other", progress=False, say=quiet)


def test_a_new_class_needs_a_new_training(copied):
    labels = tables.marks_of(copied, "learn").with_columns(label=pl.lit("boss"))
    stages.label_spans(copied, labels, video="learn", origin="hand", say=quiet)
    with pytest.raises(HlkitError, match="classes background, boss, but 'first' learned background, highlight"):
        stages.relearn(copied, progress=False, say=quiet)


def test_a_video_that_lost_its_labels_is_not_taken_for_dull(copied):
    copied.labels("learn").unlink()
    before = (copied.model("first") / "sequence.ckpt").read_bytes()
    with pytest.raises(HlkitError, match=r"^learn: no labels\. Mark some highlights first"):
        stages.relearn(copied, progress=False, say=quiet)
    assert (copied.model("first") / "sequence.ckpt").read_bytes() == before


def test_a_run_that_does_not_say_what_it_is_is_told(copied):
    file = copied.model("first") / "config.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({name: part for name, part in whole.items() if name != "sequence"}))
    with pytest.raises(HlkitError, match=r"config\.json does not say what sequence model 'first' has\. Train it anew"):
        stages.relearn(copied, progress=False, say=quiet)
    file.write_text(json.dumps(whole | {"videos": []}))
    copied.labels("learn").unlink()
    with pytest.raises(HlkitError, match=r"^learn: no labels"):
        stages.relearn(copied, progress=False, say=quiet)


@pytest.mark.parametrize("damage", ["other columns", "no parquet"])
def test_a_damaged_table_of_rounds_costs_the_chart_and_not_the_lesson(copied, damage):
    file = rounds_file(copied, "first")
    if damage == "no parquet":
        file.write_bytes(b"PAR1 nonsense")
    else:
        pl.DataFrame({"round": ["one"]}).write_parquet(file)
    with pytest.raises(HlkitError, match=r"rounds\.parquet is damaged.*Each lesson adds a row"):
        stages.review_chart(copied)
    with pytest.warns(HlkitWarning, match=r"The chart of rounds begins anew, for .*rounds\.parquet is damaged"):
        stages.relearn(copied, progress=False, say=quiet)
    assert read_rounds(file)["round"].to_list() == [1]
