"""Files as a whole: known defects, what can be measured, shares of classes, cards of several classes, sorting."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from recordings import make_numbered
from sklearn.metrics import precision_recall_fscore_support
from tiny_frames import make_frames, with_parts

from hlkit import stages
from hlkit.class_metrics import ALL, class_card, confusion
from hlkit.defects import BLURS, STOPS, plan_defects, write_defects
from hlkit.labels import read_labels
from hlkit.measures import brightness, brightness_histogram, sharpness
from hlkit.models import ModelConfig, build_model
from hlkit.picture_folders import read_picture_list
from hlkit.picture_store import store_pictures
from hlkit.predict import predict_frames
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.shards import FrameReader
from hlkit.shares import class_probabilities, class_shares, decide_classes, shares_text
from hlkit.sorting import move_files, plan_moves, undo_moves
from hlkit.stages.files import FileScores
from hlkit.training import fit, load_model
from hlkit.video import probe

QUALITY = ("good", "under", "over")


def pictures_of(*arrays):
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


# --- measures ---


def test_sharpness_is_the_variance_of_the_laplacian():
    grey = np.zeros((5, 5, 3), np.uint8)
    grey[2, 2] = 100
    # The nine inner values of the Laplacian: -400 in the middle, 100 at its four neighbours, 0 in the corners.
    inner = [-400, 100, 100, 100, 100, 0, 0, 0, 0]
    assert sharpness(pictures_of(grey)).item() == pytest.approx(np.var(inner), rel=1e-5)
    assert sharpness(pictures_of(grey) / 255).item() == pytest.approx(np.var(inner), rel=1e-5)


def test_brightness_and_its_histogram():
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 255
    images = pictures_of(half, np.full((4, 4, 3), 128, np.uint8))
    assert brightness(images).tolist() == pytest.approx([0.5, 128 / 255])
    histogram = brightness_histogram(images)
    assert histogram[0].tolist() == [0.5, *[0.0] * 14, 0.5]
    assert histogram[1].tolist() == [*[0.0] * 8, 1.0, *[0.0] * 7]


def test_measures_learn_by_the_same_training_as_a_network(tmp_path):
    frames = with_parts(make_frames(tmp_path, "a", [int(frame % 10 > 6) for frame in range(60)], size=16))
    config = ModelConfig(backbone="measures", size=16)
    options = {"epochs": 30, "batch_size": 8, "learning_rate": 0.1, "augment": "none", "progress": False}
    file = fit(frames, tmp_path, tmp_path / "run", config=config, **options)
    model, read = load_model(file)
    assert read == config
    scores = predict_frames(model, read, frames, tmp_path, progress=False)["score"].to_numpy()
    labels = frames["label"].to_numpy()
    # The fields differ in colour, and so in luma: what a histogram tells apart perfectly.
    assert scores[labels == 1].min() > scores[labels == 0].max()


def test_a_head_has_the_widths_that_were_given_and_old_settings_stay_as_they_were():
    config = ModelConfig(backbone="measures", classes=QUALITY, head=(10, 5))
    widths = [layer.out_features for layer in build_model(config).classifier if hasattr(layer, "out_features")]
    assert widths == [10, 5, 3]
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert "head" not in ModelConfig().to_dict()
    with pytest.raises(HlkitError, match="head is"):
        ModelConfig(head=(0,))


# --- shares ---


def score_table(rows):
    names = ["video", "time", *(f"score_{name}" for name in QUALITY[1:])]
    return pl.DataFrame(rows, schema=names, orient="row")


SCORES = score_table(
    [("a", 0.0, 0.1, 0.2), ("a", 1.0, 0.6, 0.3), ("a", 2.0, 0.2, 0.1), ("a", 3.0, 0.1, 0.1), ("b", 0.0, 0.0, 1.0)]
)


def test_probabilities_of_a_score_table():
    assert class_probabilities(SCORES, QUALITY)[0].tolist() == pytest.approx([0.7, 0.1, 0.2])
    two = pl.DataFrame({"video": ["a"], "time": [0.0], "score": [0.25]})
    assert class_probabilities(two, ("sharp", "blurred")).tolist() == [[0.75, 0.25]]
    with pytest.raises(HlkitError, match="score_under, score_over; those of sharp, blurred were expected"):
        class_probabilities(SCORES, ("sharp", "blurred"))


def test_shares_and_what_they_decide():
    shares = class_shares(SCORES, QUALITY)
    assert shares.rows() == [("a", 4, 0.75, 0.25, 0.0), ("b", 1, 0.0, 0.0, 1.0)]
    assert shares_text(shares.row(0, named=True), QUALITY) == "Good: 75.0%, under: 25.0%"
    assert decide_classes(shares, QUALITY)["class"].to_list() == ["good", "over"]
    # A class has to be above its threshold, but whoever has everything passes any.
    strict = {"over": 1.0, "good": 0.75}
    assert decide_classes(shares, QUALITY, thresholds=strict)["class"].to_list() == ["under", "over"]


@given(st.integers(0, 100), st.floats(0, 1))
def test_blurred_counts_only_above_its_threshold(percent, threshold):
    blurred = percent / 100
    shares = pl.DataFrame({"video": ["a"], "frames": [9], "share_sharp": [1 - blurred], "share_blurred": [blurred]})
    decided = decide_classes(shares, ("sharp", "blurred"), thresholds={"sharp": 1.0, "blurred": threshold})
    assert (decided["class"][0] == "blurred") == (blurred > threshold or blurred == 1)


def test_a_threshold_must_be_a_share_of_a_class():
    shares = class_shares(SCORES, QUALITY)
    for wrong in ({"blurred": 0.5}, {"over": 1.5}):
        with pytest.raises(HlkitError, match="give shares from 0 to 1 for good, under, over"):
            decide_classes(shares, QUALITY, thresholds=wrong)


# --- cards ---


def test_a_card_of_classes_by_hand_and_as_scikit_learn_has_it():
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 3, 60), rng.dirichlet([1, 1, 1], 60)
    card = class_card(labels, values, QUALITY)
    theirs = precision_recall_fscore_support(labels, values.argmax(1), labels=[0, 1, 2], zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1")):
        assert card[name].to_list()[:3] == pytest.approx(theirs[place].tolist())
    assert card["count"].to_list() == [*theirs[3].tolist(), 60]
    last = card.filter(pl.col("class") == ALL).row(0, named=True)
    assert last["precision"] == pytest.approx((values.argmax(1) == labels).mean())
    assert last["f1"] == pytest.approx(theirs[2].mean())
    assert last["base_rate"] == card["base_rate"][:3].max()
    assert (card["low"][:3] <= card["ap"][:3]).all()
    assert (card["ap"][:3] <= card["high"][:3]).all()


def test_a_class_that_does_not_occur_has_no_numbers():
    card = class_card([0, 1, 0], [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]], QUALITY)
    assert card.row(2) == ("over", 0, 0.0, None, None, None, None, None, None)
    assert card["precision"].to_list() == [1.0, 1.0, None, 1.0]
    with pytest.raises(HlkitError, match="none of the 3 classes"):
        class_card([0, -1], np.full((2, 3), 1 / 3), QUALITY)


def test_confusion_counts_what_was_taken_for_what():
    table = confusion([0, 0, 1, 2], [0, 1, 1, 0], QUALITY)
    assert table.rows() == [("good", 1, 1, 0), ("under", 0, 1, 0), ("over", 1, 0, 0)]


# --- defects ---


@given(st.floats(30, 1000), st.integers(0, 99))
def test_defects_are_dealt_out_evenly_and_within_their_ranges(length, seed):
    plan = plan_defects(length, seed=seed)
    assert plan["end"].max() <= length
    assert (plan["start"] - plan["end"].shift() - 1).abs().max() in (None, pytest.approx(0))
    counts = plan.group_by("exposure", "focus").len()["len"]
    assert counts.max() - (counts.min() if len(plan) >= 6 else counts.max()) <= 1
    for row in plan.rows(named=True):
        assert STOPS[row["exposure"]][0] <= row["stops"] <= STOPS[row["exposure"]][1]
        assert BLURS[row["focus"]][0] <= row["blur"] <= BLURS[row["focus"]][1]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("footage") / "stream.mp4"
    make_numbered(path, seconds=13)
    return path


def plan_of(*rows):
    schema = plan_defects(10).schema
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_stop_less_is_half_the_light_and_blur_lowers_sharpness(tmp_path, recording):
    rows = [(0.0, 0.0, "good", "sharp"), (-1.0, 0.0, "under", "sharp"), (0.0, 0.05, "good", "blurred")]
    made = write_defects(recording, tmp_path, plan_of(*((0, 2, *row) for row in rows)), fps=2, progress=False)
    assert made["focus"].to_list() == ["sharp"] * 8 + ["blurred"] * 4
    images = [np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255 for path in made["path"]]
    light = [float((image**2.2).mean()) for image in images]
    assert light[4] / light[0] == pytest.approx(0.5, abs=0.03)
    sharp, blurred = (sharpness(torch.from_numpy(images[place]).permute(2, 0, 1)[None]).item() for place in (0, 8))
    assert blurred < sharp / 10


def test_clips_with_defects_last_as_long_as_their_stretches(tmp_path, recording):
    made = write_defects(
        recording, tmp_path, plan_of((1, 4, 2.0, 0.01, "over", "blurred")), what="clips", progress=False
    )
    assert [path.rpartition("/")[2] for path in made["path"]] == ["0000.mp4"]
    assert probe(made["path"][0]).duration == pytest.approx(3, abs=0.34)
    with pytest.raises(HlkitError, match="no stretch of it is 12 to 15"):
        write_defects(recording, tmp_path, plan_of((12, 15, 0, 0, "good", "sharp")), progress=False)


# --- sorted pictures ---


def write_pictures(folder, count=4):
    rows = []
    for place, (name, colour) in enumerate(zip(QUALITY, ((90,) * 3, (20,) * 3, (230,) * 3), strict=True)):
        for number in range(count + place):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 20), colour).save(path)
            rows.append(f"{name}/{number}.png,{name}")
    (folder / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return folder


def test_stored_pictures_are_frames_with_labels(tmp_path):
    source = write_pictures(tmp_path / "pictures")
    table = read_picture_list(source / "list.csv")
    index, spans = store_pictures(table, tmp_path / "frames" / "quality", video_id="quality", size=16, progress=False)
    assert index["time"].to_list() == list(range(15))
    assert spans.rows() == [
        ("quality", 0.0, 4.0, "good"),
        ("quality", 4.0, 10.0, "over"),
        ("quality", 10.0, 15.0, "under"),
    ]
    reader = FrameReader(tmp_path / "frames")
    places = index.select("video", "shard", "offset", "size").rows()
    (tmp_path / "one.jpg").write_bytes(reader.read(*places[4]))
    assert np.asarray(Image.open(tmp_path / "one.jpg")).mean() == pytest.approx(230, abs=2)


def test_a_list_tells_all_its_faults_at_once(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\nnothing.jpg,good\nlist.csv,\n")
    with pytest.raises(HlkitError, match=r"row 3, label.*row 2, path: there is no file"):
        read_picture_list(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("file,label\n")
    with pytest.raises(HlkitError, match="lacks path"):
        read_picture_list(tmp_path / "list.csv")


def test_pictures_come_into_a_project_once(tmp_path):
    source, project, said = write_pictures(tmp_path / "pictures"), Project(tmp_path / "project"), []
    (source / "list.csv").unlink()
    for _ in range(2):
        assert stages.pictures(project, source, size=16, progress=False, say=said.append) == "pictures"
    assert said == ["pictures: 15 pictures of 16 px (good 4, over 6, under 5).", "pictures: pictures already done."]
    assert read_labels(project.labels("pictures"))["label"].to_list() == ["good", "over", "under"]


# --- files of no project ---


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network for the quality of pictures, as training leaves it, that was taught nothing."""
    root = tmp_path_factory.mktemp("model")
    frames = with_parts(make_frames(root, "a", [frame // 2 % 3 for frame in range(24)], fps=2, size=16))
    config = ModelConfig(backbone="measures", classes=QUALITY, size=16, fps="2")
    return fit(frames, root, root / "run", config=config, epochs=1, batch_size=8, progress=False)


def test_files_are_scored_wherever_they_lie_and_the_cut_is_kept(tmp_path, recording, model):
    file = tmp_path / "holiday 1.mp4"
    file.write_bytes(recording.read_bytes())
    said = []
    found = stages.infer_files(
        file,
        model=model,
        start=2,
        duration=3,
        keep_cut=True,
        target=tmp_path / "scores.csv",
        progress=False,
        say=said.append,
    )
    assert found.scores["time"].to_list() == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    assert set(found.scores["video"]) == {"holiday_1"}
    assert pl.read_csv(tmp_path / "scores.csv").height == 6
    assert probe(tmp_path / "holiday 1_cut.mp4").duration == pytest.approx(3, abs=0.05)
    assert said[0].startswith("holiday 1.mp4: ")


def test_files_are_told_to_be_scored_by_pictures_alone_where_the_run_has_more(tmp_path, recording, model):
    copied = tmp_path / "model.ckpt"
    copied.write_bytes(model.read_bytes())
    (tmp_path / "sequence.ckpt").touch()
    with pytest.warns(HlkitWarning, match=r"model\.ckpt sees pictures alone\. .* train with `--sequence none`"):
        stages.infer_files(recording, model=copied, end=1, progress=False, say=lambda line: None)


def test_a_start_needs_an_end_or_a_duration(tmp_path, recording, model):
    with pytest.raises(HlkitError, match="neither an end nor a duration"):
        stages.infer_files(recording, model=model, start=2)
    with pytest.raises(HlkitError, match="no stretch to keep"):
        stages.infer_files(recording, model=model, keep_cut=True)
    with pytest.raises(HlkitError, match="belong together"):
        stages.infer(Project(tmp_path), model=model)


def test_a_broken_file_is_left_out_aloud(tmp_path, recording, model):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(recording.read_bytes() if name == "a.mp4" else b"nothing")
    with pytest.warns(HlkitWarning, match=r"b\.mp4 is left out"):
        found = stages.infer_files(tmp_path, model=model, end=2, progress=False, say=lambda line: None)
    assert list(found.files) == ["a"]


def test_files_are_judged_by_what_they_are(tmp_path):
    found = FileScores(SCORES, QUALITY, {"a": tmp_path / "a.mp4", "b": tmp_path / "b.mp4"})
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "truth.csv").write_text("path,label\na.mp4,good\nb.mp4,over\n")
    said = []
    frames, files = stages.judge_files(found, tmp_path / "truth.csv", say=said.append)
    assert frames["count"].to_list() == [4, 0, 1, 5]
    assert files["count"].to_list() == [1, 0, 1, 2]
    assert said == [
        "truth: 5 frames: 80.0% right, the commonest class alone 80.0%; mean AP 1.000.",
        "truth: 2 files: 100.0% right, the commonest class alone 50.0%; mean AP 1.000.",
    ]
    (tmp_path / "truth.csv").write_text("path,label\na.mp4,green\n")
    with pytest.raises(HlkitError, match="has green; the model knows good, under, over"):
        stages.judge_files(found, tmp_path / "truth.csv")


# --- sorting ---


def make_files(folder, names):
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


def test_sorting_says_first_and_moves_then_and_takes_it_back(tmp_path):
    files = make_files(tmp_path / "clips", ["a.mp4", "b.mp4"])
    table = pl.DataFrame({"path": list(map(str, files)), "class": ["good", "under blurred"]})
    said, into = [], tmp_path / "sorted"
    stages.sort_files(table, into, say=said.append)
    assert said[-1] == "2 files would be moved; nothing was."
    assert not into.exists()
    stages.sort_files(table, into, yes=True, say=said.append)
    assert [path.read_text() for path in (into / "good" / "a.mp4", into / "under_blurred" / "b.mp4")] == [
        "a.mp4",
        "b.mp4",
    ]
    assert stages.unsort(into, say=said.append) == 2
    assert [file.read_text() for file in files] == ["a.mp4", "b.mp4"]
    with pytest.raises(HlkitError, match="nothing was sorted"):
        undo_moves(into)


def test_nothing_is_moved_over_another_file(tmp_path):
    files = make_files(tmp_path / "one", ["a.mp4"]) + make_files(tmp_path / "two", ["a.mp4"])
    with pytest.raises(HlkitError, match="two files would become"):
        plan_moves(files, ["good", "good"], tmp_path / "sorted")
    moves = plan_moves(files[:1], ["good"], tmp_path / "sorted")
    move_files(moves, tmp_path / "sorted")
    with pytest.raises(HlkitError, match="is there already"):
        plan_moves(files[1:], ["good"], tmp_path / "sorted")
    files[0].write_text("new")
    with pytest.raises(HlkitError, match="is there again"):
        undo_moves(tmp_path / "sorted")
    assert (tmp_path / "sorted" / "good" / "a.mp4").read_text() == "a.mp4"
