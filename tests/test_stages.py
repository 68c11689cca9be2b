"""The stages from a recording to a reel, on a recording whose highlights are red: every answer is known."""

import re
import shutil

import ffmpeg
import numpy as np
import polars as pl
import pytest
import torch
from conftest import HIGHLIGHTS, SECONDS, finish, prepare

from hlkit import stages
from hlkit.chat import SCHEMA
from hlkit.frames import read_index, stream_pictures
from hlkit.labels import SPAN_SCHEMA, read_labels
from hlkit.metrics import CARD_SCHEMA, EVENT_CARD_SCHEMA
from hlkit.mistakes import find_mistakes
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.reel import plan_cuts
from hlkit.sequence_training import fit_sequence
from hlkit.stages import tables
from hlkit.stages.judged import judged_frames
from hlkit.stages.materials import stored_material
from hlkit.stages.sequences import sequence_file
from hlkit.video import find_ffmpeg, probe, run_ffmpeg


def tree(project):
    return {path: path.stat().st_mtime_ns for path in sorted(project.root.rglob("*")) if path.is_file()}


def test_every_stage_leaves_what_it_promises(finished):
    project, _ = finished
    for path in (
        "videos/learn.mp4 videos/learn.json frames/judge/index.parquet frames/judge/00000.tar labels/judge.csv "
        "models/first/model.ckpt models/first/card.md models/first/metrics.csv scores/first/judge.parquet "
        "scores/first/judge.csv scores/first/judge-lime.png scores/first/judge-events.csv "
        "scores/first/judge-peak.png models/first/sequence.ckpt models/first/held_out.parquet "
        "reels/judge.mp4 reels/judge.csv reels/judge.png project.toml"
    ).split():
        assert (project.root / path).stat().st_size > 0, path
    assert not list(project.root.rglob(".part-*"))


def test_what_was_not_learned_from_is_scored_and_judged(finished):
    project, said = finished
    assert [file.stem for file in (project.root / "scores" / "first").glob("*.parquet")] == ["judge"]
    table = stages.score(project, say=lambda line: None)
    assert table["video"].unique().to_list() == ["judge"]
    assert table["name"].to_list() == ["hlkit", "loudness", "picture change", "random"]
    ap = dict(table.select("name", "ap").iter_rows())
    assert ap["hlkit"] > 0.99
    assert ap["loudness"] > 0.95
    assert ap["random"] == pytest.approx(sum(end - start for start, end in HIGHLIGHTS["judge"]) / SECONDS)
    assert "Highlights found: 2 of 2" in said[-2]


def test_the_scorecard_says_what_a_reel_of_the_true_length_would_hold(copied):
    stages.infer(copied, videos=["learn"], progress=False, say=lambda line: None)
    copied.save_settings(window_seconds=2)
    said = []
    table = stages.score(copied, say=said.append)
    assert table.columns == ["video", *CARD_SCHEMA.names()]
    assert table["video"].unique(maintain_order=True).to_list() == ["judge", "learn"]
    judge = table.filter(video="judge").row(0, named=True)
    assert judge["auroc"] > 0.99
    assert (judge["reel_precision"], judge["reel_events"]) == (pytest.approx(1, abs=0.1), 1)
    (mean,) = [line for line in said if line.startswith("Mean over 2 videos:")]
    head, hlkit, *_, random = mean.splitlines()[1:]
    assert head.split() == "frames over 2 s 95 % interval AUROC precision events".split()
    assert hlkit.split()[:2] == ["hlkit", f"{table.filter(name='hlkit')['ap'].mean():.3f}"]
    assert random.split()[-3] == "0.500"


def test_the_report_shows_table_curve_mistakes_labels_and_card(finished):
    project, _ = finished
    (page,) = stages.report_pages(project)
    assert page == project.root / "scores" / "first" / "judge-report.png"
    text = page.with_suffix(".html").read_text(encoding="utf-8")
    headings = re.findall(r"<h[123]>(.*?)</h[123]>", text)
    assert headings[:5] == [
        "Scorecard of &#x27;first&#x27; on judge (not learned from)",
        *("Frames", "Highlights", "Worst mistakes", "Labels"),
    ]
    assert "Model card: first" in headings
    assert headings.index("Sequence model") < headings.index("Picture network")
    assert text.count("<img") == 3
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text)
    place = cells.index("judge")
    share = sum(end - start for start, end in HIGHLIGHTS["judge"]) / SECONDS
    assert cells[place + 1 : place + 5 : 3] == ["judged on", "2 highlight"]
    assert f"({share:.1%})" in cells[place + 2]
    events = pl.read_csv(project.root / "scores" / "first" / "judge-events.csv")
    assert events["name"].to_list() == ["hlkit", "loudness", "picture change", "random"]
    assert events.columns == EVENT_CARD_SCHEMA.names()


def test_the_chat_is_one_of_the_signals(copied):
    # Viewers write in the labelled stretches alone.
    said = [start + 0.2 * number for start, end in HIGHLIGHTS["judge"] for number in range(round(5 * (end - start)))]
    chat = {"time": said, "author": ["a"] * len(said), "text": ["!"] * len(said), "emotes": [0] * len(said)}
    pl.DataFrame(chat, schema=SCHEMA).write_parquet(copied.chat("judge"))
    table = stages.score(copied, redo=True, say=lambda line: None)
    assert table["name"].to_list() == ["hlkit", "loudness", "picture change", "chat rate", "random"]
    assert table.filter(name="chat rate")["ap"].item() > 0.9


def test_what_a_run_learned_from_is_its_own_and_not_the_projects(copied):
    stages.infer(copied, run="first", videos=["learn"], progress=False, say=lambda line: None)
    copied.save_settings(train_videos=["judge"])
    said = []
    stages.score(copied, redo=True, say=said.append)
    assert [line.split(":")[0] for line in said[:2]] == [
        "Scorecard of 'first' on judge (not learned from)",
        "Scorecard of 'first' on learn (learned from)",
    ]
    said.clear()
    assert stages.infer(copied, progress=False, say=said.append) == ["judge"]


def test_a_run_without_its_sequence_model_is_not_whole(copied):
    sequence_file(copied, "first").unlink()
    with pytest.raises(HlkitError, match=r"sequence\.ckpt is missing, so 'first' is not whole.*--run first --redo"):
        stages.infer(copied, redo=True, progress=False)


def test_a_video_that_lost_its_sound_says_what_it_is_scored_without(copied):
    copied.video("judge").unlink()
    for file in copied.signals("judge").glob("sound-*"):
        file.unlink()
    said = []
    stages.infer(copied, videos=["judge"], redo=True, progress=False, say=said.append)
    assert said[0] == "judge: it has no sound, which first learned from; scored by the rest."


def test_a_part_of_a_video_is_judged_by_the_labels_of_that_part(copied):
    # The first of two highlights, and a second of the other.
    stages.infer(copied, videos=["judge"], end=51, redo=True, progress=False, say=lambda line: None)
    said = []
    table = stages.score(copied, say=said.append)
    assert said[0].startswith("Scorecard of 'first' on judge (not learned from, 0:00:51 of 0:01:30)")
    assert table.filter(name="random")["ap"].item() == pytest.approx(9 / 51, abs=0.01)
    stages.infer(copied, videos=["judge"], end=45, redo=True, progress=False, say=lambda line: None)
    stages.score(copied, say=said.append)
    assert "of 1 (at least half" in said[-1]


def looked_at(project, *spans, origin="hand"):
    """Say of the video "judge" this and nothing else."""
    table = pl.DataFrame([("judge", *span) for span in spans], schema=SPAN_SCHEMA, orient="row")
    stages.label_spans(project, table, video="judge", origin=origin, say=lambda line: None)


def test_what_nobody_looked_at_is_judged_by_no_stage(copied):
    """Both highlights and 10 s before each; in the rest the model may say what it likes."""
    looked_at(copied, (5, 15, "background"), (15, 23, "highlight"), (40, 50, "background"), (50, 57, "highlight"))
    scores = pl.read_parquet(copied.scores("first", "judge"))
    seen = (pl.col("time") >= 5) & (pl.col("time") < 23) | (pl.col("time") >= 40) & (pl.col("time") < 57)
    made = scores.with_columns(score=pl.when(seen).then("score").otherwise(pl.lit(0.99)))
    for table in (scores, made):
        table.write_parquet(copied.scores("first", "judge"))
        said = []
        card = stages.score(copied, say=said.append)
        assert said[0] == "judge: judged by the 0:00:35 of 0:01:30 that somebody looked at and that is scored."
        assert said[1].startswith("Scorecard of 'first' on judge (not learned from, 0:00:35 of 0:01:30)")
        assert card.filter(name="random")["ap"].item() == pytest.approx(15 / 35, abs=0.01)
        assert card["ap"][0] > 0.9
        assert re.search(r"What was picked lasts [0-9:]+ of 0:01:30; 0:00:\d\d of that is judged\.", said[1])
        page = copied.scores("first", "judge").with_name("judge-report.html").read_text()
        assert "counts neither for nor against" in page and "That time is 0:00:35 of 0:01:30." in page
        copied.scores("second", "judge").parent.mkdir(exist_ok=True)
        shutil.copytree(copied.model("first"), copied.model("second"), dirs_exist_ok=True)
        table.with_columns(score=1 - pl.col("score")).write_parquet(copied.scores("second", "judge"))
        said.clear()
        both = stages.compare(copied, runs=["first", "second"], say=said.append)
        assert said[0].startswith("Runs on judge, average precision over 0:00:35 of 0:01:30:")
        assert both["ap"][0] == pytest.approx(card["ap"][0])
    # A false alarm where nobody looked is none: all of the worst mistakes are from what was seen.
    mistakes = find_mistakes(judged_frames(copied, "judge", read_index(copied.frames / "judge")), made)
    assert mistakes.filter(~seen).is_empty() and mistakes.filter(kind="false alarm").height


def test_answers_to_a_review_are_all_that_was_looked_at_even_if_each_was_yes(copied):
    looked_at(copied, (15, 23, "highlight"), origin="review")
    said = []
    with pytest.raises(HlkitError, match="mark highlights and what is none"):
        stages.score(copied, say=said.append)
    assert said == ["judge: not judged, since all that is labelled and scored of it is highlights."]
    assert tables.unseen_seconds(copied, "judge") == pytest.approx(SECONDS - 8, abs=0.1)
    looked_at(copied, (15, 23, "highlight"))
    assert tables.unseen_seconds(copied, "judge") == 0
    stages.score(copied, say=said.append)
    assert said[1].startswith("Scorecard of 'first' on judge (not learned from)")


def test_runs_that_scored_other_moments_are_not_compared(copied):
    shutil.copytree(copied.model("first"), copied.model("second"))
    scores = pl.read_parquet(copied.scores("first", "judge"))
    copied.scores("second", "judge").parent.mkdir()
    scores.with_columns(pl.col("time") + 1).write_parquet(copied.scores("second", "judge"))
    with pytest.raises(HlkitError, match="scored different frames of judge"):
        stages.compare(copied, runs=["first", "second"])
    scores.write_parquet(copied.scores("second", "judge"))
    said = []
    assert stages.compare(copied, runs=["first", "second"], say=said.append)["difference"].to_list() == [None, 0]
    assert "learned from" not in said[0]


def test_pictures_that_could_not_be_had_leave_the_sound_in_step(copied):
    whole = stored_material(copied, "judge", progress=False)
    index = read_index(copied.frames / "judge")
    index.filter(~pl.col("frame").is_between(30, 40)).write_parquet(copied.index("judge"))
    lacking = stored_material(copied, "judge", progress=False)
    kept = lacking.frames["frame"].to_numpy()
    assert len(kept) == len(index) - 11
    np.testing.assert_array_equal(lacking.sound, whole.sound[kept])
    stages.infer(copied, videos=["judge"], redo=True, progress=False, say=lambda line: None)
    scores = pl.read_parquet(copied.scores("first", "judge"))
    assert scores["time"].to_list() == lacking.frames["time"].to_list()


def test_the_card_begins_with_the_model_whose_scores_they_are(copied, monkeypatch):
    monkeypatch.setitem(fit_sequence.__kwdefaults__, "steps", 2)  # how well it learns is no matter here
    card = (copied.model("first") / "card.md").read_text()
    parts = ["# Model card: first", "## Sequence model", "## Picture network", "## Data"]
    assert [line for line in card.splitlines() if line.startswith("#")][:4] == parts
    stages.train(copied, videos=["learn"], epochs=4, sequence="gru", progress=False, say=lambda line: None)
    again = (copied.model("first") / "card.md").read_text()
    assert again.count("## Sequence model") == again.count("## Picture network") == 1
    assert "Bidirectional GRU" in again


def test_what_is_picked_has_the_wanted_precision_on_held_back_chunks(copied):
    held_out = pl.read_parquet(copied.model("first") / "held_out.parquet")
    # Half of what scores above 0.6 is highlight, and nearly all above 0.9; an hour, so that ends matter little.
    time = np.arange(10_800) / 3
    label = (time % 60 < 10).astype(np.int8)
    score = np.where(label == 1, 0.95, np.where((time % 60 >= 30) & (time % 60 < 40), 0.7, 0.1)).astype(np.float32)
    made = pl.DataFrame({"video": "learn", "frame": range(10_800), "time": time, "label": label, "score": score})
    made.cast({"label": held_out.schema["label"]}).write_parquet(copied.model("first") / "held_out.parquet")
    said = []
    for wanted, least, most in ((0.3, 0.3, 0.55), (0.7, 0.7, 1.0)):
        stages.timeline(copied, window_seconds=1, precision=wanted, say=said.append)
        reached = int(re.search(r", (\d+)% of what is picked", said[-2])[1]) / 100
        assert least <= reached <= most
    with pytest.raises(HlkitError, match=r"No threshold has a precision of 1; the best has 0\.8\d.*window_seconds"):
        stages.timeline(copied, window_seconds=1, precision=1)
    with pytest.raises(HlkitError, match="can't be told together"):
        stages.timeline(copied, precision=0.5, minutes=1)
    with pytest.raises(HlkitError, match=r"The precision is 1\.5"):
        stages.timeline(copied, precision=1.5)
    (copied.model("first") / "held_out.parquet").unlink()
    with pytest.raises(HlkitError, match="its precision is not known"):
        stages.timeline(copied, precision=0.5)


def test_the_reel_shows_the_picked_stretches_and_nothing_else(finished):
    project, _ = finished
    picked = read_labels(project.reel("judge", ".csv"))
    seconds = (picked["end"] - picked["start"]).sum()
    info = probe(project.reel("judge"))
    assert info.duration == pytest.approx(seconds, abs=0.1 * len(picked))
    assert info.has_audio
    pictures = np.concatenate(list(stream_pictures(project.reel("judge"), fps=10, size=16)))
    red = pictures[..., 0].mean(axis=(1, 2)) > pictures[..., 2].mean(axis=(1, 2))
    cuts = plan_cuts(picked, probe(project.video("judge")))
    times = np.concatenate([np.arange(round(cut.start * 10), round(cut.end * 10)) / 10 for cut in cuts])
    truth = np.any([(times >= start) & (times < end) for start, end in HIGHLIGHTS["judge"]], axis=0)
    assert len(red) == len(truth)
    assert (red == truth).all()


def test_a_second_run_does_nothing_and_says_so(copied, sources):
    before, said = tree(copied), []
    prepare(copied, sources, say=said.append)
    finish(copied, say=said.append)
    lines = [line for line in said if not line.startswith("Scorecard")]
    assert all(line.endswith("already done.") for line in lines), lines
    settings = copied.root / "project.toml"
    assert {path for path, changed in tree(copied).items() if before.get(path) != changed} <= {settings}


def test_redo_does_it_again(copied):
    said = []
    before = copied.index("judge").stat().st_mtime_ns
    stages.frames(copied, videos=["judge"], size=32, redo=True, progress=False, say=said.append)
    assert said == [f"judge: {SECONDS * 3} frames of 32 px, 3 a second."]
    assert copied.index("judge").stat().st_mtime_ns > before


def test_changed_labels_make_training_stale_and_nothing_else(copied, sources):
    changed = sources.parent / "changed.csv"
    changed.write_text("video,start,end\nlearn,8,14\n")
    said = []
    stages.frames(copied, size=32, progress=False, say=said.append)
    assert len(said) == 2
    stages.label(copied, changed, replace=True, say=said.append)
    assert said[-1] == "learn: 1 spans, 0:00:06 of 0:01:30."
    with pytest.raises(HlkitError, match=r"[Ll]abel more"):
        stages.train(copied, epochs=1, progress=False, say=said.append)
    assert (copied.model("first") / "model.ckpt").is_file()


def test_highlights_may_be_edited_before_the_reel_is_cut(copied):
    copied.reel("judge", ".csv").write_text("video,start,end,label\njudge,20,22,highlight\n")
    stages.timeline(copied, window_seconds=2, say=lambda line: None)
    (reel,) = stages.reel(copied, progress=False, say=lambda line: None)
    assert probe(reel).duration == pytest.approx(2, abs=0.05)


def test_gaps_are_closed_and_short_stretches_left_out_as_asked(copied):
    times = [float(second) for second in range(90)]
    high = {10, 11, 15, 16, 17, 40, 60, 61, 62}
    scores = pl.DataFrame({"video": "judge", "time": times, "score": [0.9 if t in high else 0.1 for t in times]})
    scores.with_columns(pl.col("score").cast(pl.Float32)).write_parquet(copied.scores("first", "judge"))

    def picked(**rules):
        options = {"window_seconds": 0.5, "threshold": 0.5, "say": lambda line: None}
        stages.timeline(copied, videos=["judge"], **options, **rules)
        return read_labels(copied.reel("judge", ".csv")).select("start", "end").rows()

    assert picked() == [(9, 19), (59, 64)]
    assert picked(merge_gap_seconds=2, min_seconds=1, pad_seconds=0) == [(10, 12), (15, 18), (40, 41), (60, 63)]
    assert picked(merge_gap_seconds=22.5, min_seconds=4, pad_seconds=0.5) == [(9.5, 63.5)]
    with pytest.raises(HlkitError, match="pad_seconds=-1 is not allowed"):
        picked(pad_seconds=-1)


def test_edited_highlights_are_kept_when_others_are_picked(copied):
    old = copied.reel("judge", ".csv.old")
    stages.timeline(copied, window_seconds=2, minutes=0.15, say=lambda line: None)
    assert not old.exists()
    edited = "video,start,end,label\njudge,20,22,highlight\n"
    copied.reel("judge", ".csv").write_text(edited)
    said = []
    stages.timeline(copied, window_seconds=2, minutes=0.2, say=said.append)
    assert said[0] == f"judge: its highlights were not as they had been picked; those of before are in {old}."
    assert old.read_text() == edited
    stages.timeline(copied, window_seconds=2, minutes=0.15, snap=True, progress=False, say=said.append)
    stages.timeline(copied, window_seconds=2, minutes=0.2, say=said.append)
    assert [path.name for path in old.parent.glob("*.old*")] == [old.name]


def test_a_reel_of_a_video_without_highlights_says_what_to_do(copied):
    with pytest.raises(HlkitError, match=r"No highlights of learn are picked yet\. Pick them first"):
        stages.reel(copied, videos=["judge", "learn"], progress=False)
    with pytest.raises(HlkitError, match="The project has no video 'x'"):
        stages.export(copied, videos=["x"])


def test_a_stretch_can_be_scored_alone_with_the_same_answer(copied):
    whole = pl.read_parquet(copied.scores("first", "judge"))
    stages.infer(copied, start=10, end=20, progress=False, say=lambda line: None)
    part = pl.read_parquet(copied.scores("first", "judge"))
    assert part["time"].to_list() == whole.filter(pl.col("time").is_between(10, 20, closed="left"))["time"].to_list()
    # The stored frames went through JPEG, the recording did not, so the scores differ a little.
    scores = part.join(whole, on="time")
    assert (scores["score"] - scores["score_right"]).abs().max() < 0.05
    assert ((scores["score"] > 0.5) == (scores["score_right"] > 0.5)).all()


def test_wanted_minutes_bound_the_reel(copied):
    stages.timeline(copied, window_seconds=2, minutes=0.15, say=lambda line: None)
    picked = read_labels(copied.reel("judge", ".csv"))
    assert 0 < (picked["end"] - picked["start"]).sum() <= 9


def test_push_and_pull_carry_a_project_that_is_done(finished, tmp_path, sources):
    project, said = finished[0], []
    stages.push(project, str(tmp_path / "store"), progress=False, say=said.append)
    other = Project(tmp_path / "other")
    stages.pull(other, str(tmp_path / "store"), progress=False, say=said.append)
    stages.pull(other, progress=False, say=said.append)
    assert said[-1] == "Everything is here: already done."
    again = []
    finish(other, say=again.append)
    assert all(line.endswith("already done.") for line in again if not line.startswith("Scorecard"))


EMPTY = "has no videos. Download one first"


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (lambda project: stages.frames(project), EMPTY),
        (lambda project: stages.train(project), "new: no labels. Mark some highlights first"),
        (lambda project: stages.infer(project), "There is no model 'first' in .*new .trained: none.. Train first"),
        (lambda project: stages.timeline(project), "No video in .*new is scored by 'first' yet. Score one first"),
        (lambda project: stages.reel(project), "No highlights are picked yet. Pick them first"),
        (lambda project: stages.score(project), "Score one first"),
        (lambda project: stages.explain(project), "Train first"),
        (lambda project: stages.push(project), "No store is set. Name one: a folder, r2://"),
        (lambda project: stages.label(project, "nothing.csv"), "There is no label file nothing.csv"),
        (lambda project: stages.download(project, "nothing.mp4"), "nothing.mp4"),
    ],
)
def test_a_stage_run_too_early_says_which_comes_first(tmp_path, stage, reason):
    with pytest.raises(HlkitError, match=reason):
        stage(Project(tmp_path / "new"))
    assert not (tmp_path / "new").exists() or not any(path.is_file() for path in (tmp_path / "new").rglob("*"))


def test_labels_without_frames_name_the_missing_stage(tmp_path, sources):
    project = Project(tmp_path)
    stages.download(project, str(sources / "learn.mp4"), progress=False, say=lambda line: None)
    stages.label(project, sources / "learn.csv", say=lambda line: None)
    with pytest.raises(HlkitError, match="'learn' has no frames yet"):
        stages.train(project)


def test_frames_of_two_sizes_do_not_train_together(copied):
    stages.frames(copied, videos=["judge"], size=16, progress=False, say=lambda line: None)
    with pytest.raises(HlkitError, match=r"The frames differ \(learn: 32 px, 3 a second; judge: 16 px, 3 a second\)"):
        stages.train(copied, videos=["learn", "judge"])


def test_faulty_labels_change_nothing(copied, tmp_path):
    before = copied.labels("learn").read_text()
    faulty = tmp_path / "faulty.csv"
    faulty.write_text("video,start,end\nlearn,80,95\nlearn,14,8\njudge,1:23,1:30\nlearn,1,2\n")
    with pytest.raises(HlkitError, match="row 4"):
        stages.label(copied, faulty)
    faulty.write_text("video,start,end\nlearn,80,95\nlearn,1,2\n")
    with pytest.raises(HlkitError, match="lies outside the video"):
        stages.label(copied, faulty)
    assert copied.labels("learn").read_text() == before


def test_a_damaged_shard_stops_training_with_its_name(copied):
    shard = copied.frames / "learn" / "00000.tar"
    body = bytearray(shard.read_bytes())
    body[600:90_000] = bytes(89_400)
    shard.write_bytes(body)
    with pytest.raises(HlkitError, match=r"learn[/' ].*00000\.tar|00000\.tar.*learn"):
        stages.train(copied, videos=["learn"], run="second", epochs=1, progress=False, say=lambda line: None)
    assert (copied.model("first") / "model.ckpt").is_file()


def test_typed_times_are_added_to_the_labels(copied):
    said = []
    stages.label_text(copied, "0:01:20-0:01:25", video="judge", say=said.append)
    stages.label_text(copied, "0:01:20-0:01:25", video="judge", say=said.append)
    assert said == ["judge: 3 spans, 0:00:20 of 0:01:30.", "judge: label already done."]
    before = copied.labels("judge").read_text()
    with pytest.raises(HlkitError, match="lies outside the video"):
        stages.label_text(copied, "0:02:00-0:02:05", video="judge")
    assert copied.labels("judge").read_text() == before


def test_the_overview_counts_what_is_there(finished):
    assert stages.overview(finished[0]).rows() == [
        ("judge", "0:01:30", SECONDS * 3, 2, "0:00:15"),
        ("learn", "0:01:30", SECONDS * 3, 3, "0:00:22"),
    ]


def test_a_highlight_that_two_have_marked_side_by_side_is_one(finished, tmp_path):
    project = Project(shutil.copytree(finished[0].root, tmp_path / "copied"))
    whole, (first, *others) = tables.labels_of(project, "judge"), read_labels(project.labels("judge")).rows()
    _, start, end, label = first[:4]
    rows = [("judge", start, start + 2, label), ("judge", start + 2, end, label), *(row[:4] for row in others)]
    project.labels("judge").write_text(pl.DataFrame(rows, SPAN_SCHEMA, orient="row").write_csv())
    assert tables.marks_of(project, "judge").height == whole.height + 1
    assert tables.labels_of(project, "judge").equals(whole)
    said = []
    stages.score(project, videos=["judge"], say=said.append)
    assert f" of {whole.height} (at least half of each" in said[0]


def test_every_look_draws_its_pictures(finished):
    project = finished[0]
    sheet = stages.contact_sheet(project, "judge", pictures=4)
    assert [axis.get_title() for axis in sheet.axes] == ["0:00:00", "0:00:30", "0:01:00", "0:01:30"]
    info = probe(project.video("judge"))
    assert tuple(sheet.axes[0].get_images()[0].get_extent()) == (0, pytest.approx(info.width / info.height), 0, 1)
    titles = [axis.get_title() for axis in stages.label_sheet(project, "judge").axes]
    assert titles == ["0:00:19", "0:00:53"]
    assert len(stages.score_chart(project, "judge").axes) >= 1
    assert len(stages.training_chart(project).axes) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": 2}, "The threshold is 2"),
        ({"threshold": 0}, "The threshold is 0"),
        ({"threshold": 0.5, "minutes": 1}, "threshold=0.5 and minutes=1 can't be told together; give one of them."),
        ({"minutes": 0}, "minutes=0 is not allowed; give a number above 0, such as 10"),
        ({"window_seconds": 0}, "window_seconds=0.0 is not allowed"),
    ],
)
def test_a_timeline_out_of_range_is_refused_and_changes_nothing(copied, options, reason):
    before = tree(copied)
    with pytest.raises(HlkitError, match=reason):
        stages.timeline(copied, say=lambda line: None, **options)
    assert tree(copied) == before


def test_of_a_recording_that_was_cut_off_the_rest_is_stored_and_the_times_are_told(tmp_path, sources):
    whole = (sources / "learn.mp4").read_bytes()
    movable = tmp_path / "movable.mp4"
    run_ffmpeg(
        ["-i", str(sources / "learn.mp4"), "-c", "copy", "-movflags", "+faststart", str(movable)], progress=False
    )
    (tmp_path / "cut.mp4").write_bytes(movable.read_bytes()[: len(whole) // 3])
    project = Project(tmp_path / "project")
    stages.download(project, str(tmp_path / "cut.mp4"), progress=False, say=lambda line: None)
    with pytest.warns(HlkitWarning, match=r"can't be decoded from 0:00:\d\d\.\d to 0:01:30\.0"):
        stages.frames(project, size=32, progress=False, say=lambda line: None)
    assert 60 < len(read_index(project.frames / "cut")) < 100
    said = []
    stages.frames(project, size=32, progress=False, say=said.append)
    assert said == ["cut: frames already done."]


def test_stored_frames_are_scored_where_the_recording_is_gone(copied):
    copied.video("judge").unlink()
    said = []
    assert stages.infer(copied, redo=True, progress=False, say=said.append) == ["judge"]
    assert said == [f"judge: {SECONDS * 3} frames scored by first."]


def test_labels_of_a_video_that_is_not_here_name_those_that_are(copied, tmp_path):
    (tmp_path / "other.csv").write_text("video,start,end\nother,1,2\n")
    with pytest.raises(HlkitError, match=r"row 2, video: 'other' is unknown; allowed is 'judge', 'learn'"):
        stages.label(copied, tmp_path / "other.csv")


@pytest.fixture
def decodes(tmp_path, monkeypatch):
    """Counts the runs of ffmpeg, by a program in its place that writes a line and then becomes ffmpeg."""
    log, program = tmp_path / "runs", tmp_path / "ffmpeg"
    log.touch()
    program.write_text(f'#!/bin/sh\necho run >> "{log}"\nexec "{find_ffmpeg()}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("HLKIT_FFMPEG", str(program))
    find_ffmpeg.cache_clear()
    yield lambda: len(log.read_text().splitlines())
    find_ffmpeg.cache_clear()


def test_no_video_is_decoded_again_for_another_window_threshold_or_sequence_model(copied, decodes):
    def quiet(line: str) -> None:
        pass

    stages.infer(copied, redo=True, progress=False, say=quiet)
    stages.timeline(copied, window_seconds=4, threshold=0.3, say=quiet)
    stages.timeline(copied, window_seconds=1, threshold=0.6, say=quiet)
    stages.sequences.train_sequence(copied, "first", ["learn"], rnn="lstm", with_pictures=False, seed=5, progress=False)
    stages.infer(copied, progress=False, say=quiet)
    assert decodes() == 0
    shutil.rmtree(copied.signals("judge"))
    stages.infer(copied, redo=True, progress=False, say=quiet)
    assert decodes() == 1  # the sound; the pictures are stored


def test_a_recording_without_sound_is_scored_by_the_rest_and_it_is_said(copied, decodes):
    video = copied.video("judge")
    silent = video.with_name("silent.mp4")
    run_ffmpeg(ffmpeg.input(str(video)).output(str(silent), an=None, c="copy"))
    silent.replace(video)
    shutil.rmtree(copied.signals("judge"))
    said = []
    stages.infer(copied, redo=True, progress=False, say=said.append)
    assert "it has no sound, which first learned from; scored by the rest" in said[0]
    scores = pl.read_parquet(copied.scores("first", "judge"))
    assert scores.height == SECONDS * 3
    assert scores["score"].is_finite().all()


def test_a_sequence_model_of_another_picture_model_is_refused(copied):
    file = copied.model("first") / "sequence.ckpt"
    content = torch.load(file, weights_only=True)
    torch.save(content | {"picture_model": "0" * 16}, file)
    with pytest.raises(HlkitError, match=r"made with another model\.ckpt"):
        stages.infer(copied, redo=True, progress=False, say=lambda line: None)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(HlkitError, match="damaged"):
        stages.infer(copied, redo=True, progress=False, say=lambda line: None)


def test_the_pictures_alone_when_no_sequence_model_is_wanted(copied):
    stages.train(copied, videos=["learn"], epochs=4, sequence="none", progress=False, say=lambda line: None)
    assert not (copied.model("first") / "sequence.ckpt").exists()
    said = []
    stages.infer(copied, progress=False, say=said.append)
    assert said == [f"judge: {SECONDS * 3} frames scored by first."]


def test_runs_are_compared_on_what_both_have_scored(copied):
    said = []
    whole = pl.read_parquet(copied.scores("first", "judge"))
    shutil.copytree(copied.model("first"), copied.model("guess"))
    config = copied.model("guess") / "config.json"
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 7'))
    guess = whole.with_columns(score=pl.col("score").sample(fraction=1.0, shuffle=True, seed=1))
    copied.scores("guess", "judge").parent.mkdir()
    guess.write_parquet(copied.scores("guess", "judge"))
    table = stages.compare(copied, runs=["first", "guess"], say=said.append)
    first, second = table.rows(named=True)
    assert (first["video"], first["run"], first["difference"]) == ("judge", "first", None)
    assert second["difference"] == pytest.approx(second["ap"] - first["ap"])
    assert second["low"] < second["difference"] < second["high"] < 0
    assert "seed: first 0, guess 7" in said[0]
    with pytest.raises(HlkitError, match="two different runs"):
        stages.compare(copied, runs=["first", "first"], say=said.append)
    with pytest.raises(HlkitError, match=r"No video in .* is scored by 'other'"):
        stages.compare(copied, runs=["first", "other"], say=said.append)
