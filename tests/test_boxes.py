"""The part of the picture that counts: kept for a video or for all, stored, learned from, scored, drawn on a page."""

import io
import json
import re
import subprocess

import numpy as np
import polars as pl
import pytest
from conftest import HIGHLIGHTS
from PIL import Image
from typer.testing import CliRunner

from hlkit import cli, stages
from hlkit.backbones import load_file
from hlkit.frames import read_index
from hlkit.labels import read_boxes
from hlkit.models import ModelConfig
from hlkit.predict import at_rate
from hlkit.project import HlkitError, Project
from hlkit.sampling import WHOLE_PICTURE, read_box
from hlkit.shards import FrameReader
from hlkit.stages import views
from hlkit.training import load_model
from hlkit.video import find_ffmpeg, probe
from hlkit.widgets.box_widget import BoxWidget

SECONDS = 60
# When the face is bright; at other times the other half is. Both shades lie amid a bin of the histogram of brightness.
BRIGHT = {"left": [(8, 14), (37, 44)], "right": [(15, 23), (46, 53)]}
BOXES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 1.0, 1.0)}


def quiet(line):
    """Take a line and say nothing."""


def make_recording(path, side):
    spans = "+".join(f"between(t,{start},{end}-0.001)" for start, end in BRIGHT[side])
    face, other = ("0", "iw/2") if side == "left" else ("iw/2", "0")
    halves = (
        f"drawbox=x={face}:w=iw/2:h=ih:c=0xe8e8e8:t=fill:enable='{spans}',"
        f"drawbox=x={other}:w=iw/2:h=ih:c=0xe8e8e8:t=fill:enable='not({spans})'"
    )
    picture = f"color=c=0x282828:s=64x32:r=5:d={SECONDS},{halves},format=yuv420p"
    words = ["-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", str(path)]
    subprocess.run([find_ffmpeg(), "-y", "-loglevel", "error", *words], check=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for side in BRIGHT:
        make_recording(folder / f"{side}.mp4", side)
    lines = [f'{side}.mp4 "[{", ".join(map(str, BOXES[side]))}]" ' for side in BRIGHT]
    spans = [" ".join(f'"{span}"' for span in BRIGHT[side]) for side in BRIGHT]
    (folder / "faces.txt").write_text("\n".join(map(str.__add__, lines, spans)) + "\n")
    return folder


@pytest.fixture
def project(recordings, tmp_path):
    made = Project(tmp_path / "project")
    stages.download(made, [str(recordings / f"{side}.mp4") for side in BRIGHT], progress=False, say=quiet)
    return made


def frames(project, **options):
    said = []
    stages.frames(project, size=16, progress=False, say=said.append, **options)
    return said


def light(project, video):
    """How bright each stored picture is, from 0 to 255."""
    reader, index = FrameReader(project.frames), read_index(project.frames / video)
    places = index.select("video", "shard", "offset", "size").iter_rows()
    return np.array([np.asarray(Image.open(io.BytesIO(reader.read(*place)))).mean() for place in places])


def is_bright(project, video):
    times = read_index(project.frames / video)["time"]
    return np.array([any(start <= time < end for start, end in BRIGHT[video]) for time in times])


# --- keeping ---


def test_a_box_is_of_one_video_or_of_all_that_have_none(project):
    said = []
    assert stages.box(project, say=said.append) == {"left": None, "right": None}
    assert said[0] == "left: no box, so the whole picture."
    assert stages.box(project, (0.2, 0, 0.4, 1), say=quiet) == dict.fromkeys(BRIGHT, (0.2, 0.0, 0.4, 1.0))
    stages.box(project, BOXES["left"], videos=["left"], say=quiet)
    assert stages.box(project, say=quiet) == {"left": BOXES["left"], "right": (0.2, 0.0, 0.4, 1.0)}
    said.clear()
    assert stages.box(project, WHOLE_PICTURE, say=said.append)["right"] == WHOLE_PICTURE
    assert said == [
        "left: another box is kept there, which stays. To change it, name the video (--video).",
        "left: 0,0,0.5,1, its own.",
        "right: whole, that of all.",
    ]
    with pytest.raises(HlkitError, match="no video 'middle'"):
        stages.box(project, WHOLE_PICTURE, videos=["left", "middle"], say=quiet)
    assert stages.box(project, say=quiet)["left"] == BOXES["left"]


def test_a_box_is_typed(project):
    runner = CliRunner()
    words = ["box", "0.5,0,1,1", "--video", "right", "--project", str(project.root)]
    assert runner.invoke(cli.app, words).output == "right: 0.5,0,1,1, its own.\n"
    assert read_box("whole") == WHOLE_PICTURE
    wrong = runner.invoke(cli.app, ["box", "1,0,0,1", "--project", str(project.root)])
    assert isinstance(wrong.exception, HlkitError) or "x0 < x1" in wrong.output


@pytest.mark.parametrize(
    "content", ["[0, 0, 1]", '{"box": [0, 0, 2, 1], "origin": "hand"}', '{"box": 3, "origin": ""}']
)
def test_a_damaged_box_is_told_with_what_mends_it(project, content):
    views.keep_box(project, "left", BOXES["left"], origin="hand")
    project.box("left").write_text(content)
    with pytest.raises(HlkitError, match=r"left\.box\.json is damaged.*hlkit box X0,Y0,X1,Y1 --video left"):
        stages.box(project, say=quiet)


def test_a_setting_that_is_no_box_is_told(project):
    (project.root / "project.toml").write_text("box = [0.5, 0, 0.4, 1]\n")
    with pytest.raises(HlkitError, match="The setting 'box' is"):
        stages.box(project, say=quiet)


# --- storing ---


def test_each_video_is_stored_with_its_own_box(project):
    for side, part in BOXES.items():
        stages.box(project, part, videos=[side], say=quiet)
    assert frames(project)[0] == "left: 180 frames of 16 px, 3 a second, box 0,0,0.5,1."
    for side in BRIGHT:
        assert np.array_equal(light(project, side) > 128, is_bright(project, side))
    assert frames(project) == ["left: frames already done.", "right: frames already done."]
    assert views.same_frame_settings(project, ["left", "right"]) == ("3", 16, "own")
    whole = probe(project.video("left"))
    assert views.shown_shape(project, "left") == pytest.approx(0.5 * whole.width / whole.height)
    # Another box makes those frames anew and no others.
    stages.box(project, BOXES["right"], videos=["left"], say=quiet)
    assert len(frames(project)) == 2
    assert np.array_equal(light(project, "left") < 128, is_bright(project, "left"))


def test_a_box_that_frames_are_given_is_kept(project):
    frames(project, videos=["left"], box=BOXES["left"])
    frames(project, box=BOXES["right"])
    assert stages.box(project, say=quiet) == BOXES
    assert frames(project) == ["left: frames already done.", "right: frames already done."]


def stored(project, video, time):
    """The stored picture of a time, as grey values of its quarters: above left and right, below left and right."""
    reader, index = FrameReader(project.frames), read_index(project.frames / video)
    row = index.filter(pl.col("time") == time).select("video", "shard", "offset", "size").row(0)
    grey = np.asarray(Image.open(io.BytesIO(reader.read(*row))).convert("L")).astype(float)
    return [float(part.mean()) for half in np.split(grey, 2) for part in np.split(half, 2, axis=1)]


@pytest.mark.parametrize("size", [16, 17])
def test_the_whole_picture_goes_below_the_box(project, size):
    for side, part in BOXES.items():
        stages.box(project, part, videos=[side], say=quiet)
    said = []
    stages.frames(project, size=size, whole_too=True, progress=False, say=said.append)
    assert said[1] == f"right: 180 frames of {size} px, 3 a second, box 0.5,0,1,1+whole."
    if size % 2 == 0:
        # At 16 s the face, on the right, is bright and the other half dark; at 5 s it is the other way round.
        for time, expected in ((16.0, [232, 232, 40, 232]), (5.0, [40, 40, 232, 40])):
            assert stored(project, "right", time) == pytest.approx(expected, abs=16)
    assert views.same_frame_settings(project, ["right"]).box == (*BOXES["right"], *WHOLE_PICTURE)
    assert views.same_frame_settings(project, ["left", "right"]).box == "own+whole"
    assert views.shown_shape(project, "right") is None
    views.check_boxes(project, ["left", "right"])
    frames(project, videos=["left"])
    with pytest.raises(HlkitError, match="The frames differ"):
        views.same_frame_settings(project, ["left", "right"])


def test_the_whole_picture_needs_a_box_to_go_with(project):
    with pytest.raises(HlkitError, match="'left' has no box to go with its whole picture"):
        frames(project, whole_too=True)


def test_what_one_video_lacks_is_told_before_another_is_stored(project):
    stages.box(project, BOXES["left"], videos=["left"], say=quiet)
    with pytest.raises(HlkitError, match="'right' has no box to go with its whole picture"):
        frames(project, whole_too=True)
    assert not project.index("left").is_file()


def test_a_box_without_a_pixel_is_told(project):
    with pytest.raises(HlkitError, match=r"0\.1,0,0\.11,1 is 0\.6 x 32\.0 pixels of left\.mp4, which is 64 x 32"):
        frames(project, box=(0.1, 0, 0.11, 1))
    assert not (project.frames / "left").exists()
    frames(project, box=(0.1, 0, 0.1 + 3 / 64, 3 / 32))


def test_a_box_of_no_video_is_not_kept(tmp_path):
    with pytest.raises(HlkitError, match="has no videos"):
        stages.box(Project(tmp_path / "empty"), BOXES["left"], say=quiet)
    assert not (tmp_path / "empty").exists()


def test_whole_pictures_and_parts_train_together_only_if_somebody_said_so(project):
    stages.box(project, BOXES["left"], videos=["left"], say=quiet)
    frames(project)
    with pytest.raises(HlkitError, match=r"The frames differ .*`hlkit box whole --video right`"):
        views.same_frame_settings(project, ["left", "right"])
    stages.box(project, WHOLE_PICTURE, videos=["right"], say=quiet)
    assert frames(project) == ["left: frames already done.", "right: frames already done."]
    assert views.same_frame_settings(project, ["left", "right"]).box == "own"


# --- boxed lines ---


def test_the_boxes_of_a_label_file_become_the_videos(project, recordings, tmp_path):
    said = []
    stages.label(project, recordings / "faces.txt", say=said.append)
    assert "left: its box is 0,0,0.5,1, from faces.txt." in said
    assert stages.box(project, say=quiet) == BOXES
    # By hand wins over the file, until the file is to replace everything.
    stages.box(project, (0, 0, 0.25, 1), videos=["left"], say=quiet)
    said.clear()
    stages.label(project, recordings / "faces.txt", redo=True, say=said.append)
    assert "left: its box 0,0,0.25,1 was given by hand and stays; faces.txt has 0,0,0.5,1." in said
    target = stages.export_labels(project, tmp_path / "out.txt", format="boxed", say=quiet)
    assert read_boxes(target) == {"left": (0, 0, 0.25, 1), "right": BOXES["right"]}
    stages.label(project, recordings / "faces.txt", replace=True, redo=True, say=quiet)
    assert stages.box(project, say=quiet) == BOXES


def test_a_file_that_has_another_box_now_changes_what_it_gave(project, tmp_path):
    file = tmp_path / "one.txt"
    for right in (0.9, 0.8):
        file.write_text(f'right.mp4 "[0.5, 0, {right}, 1]" "(1, 2)"\n')
        stages.label(project, file, say=quiet)
        assert views.own_box(project, "right") == ((0.5, 0.0, right, 1.0), "import:one.txt")


def test_a_box_of_a_line_is_of_the_video_that_was_asked_for(project, tmp_path):
    (tmp_path / "one.txt").write_text('raw-041.mp4 "[0.5, 0, 1, 1]" "(1, 2)"\n')
    with pytest.warns(UserWarning, match="it is taken for 'right', as asked"):
        stages.label(project, tmp_path / "one.txt", video="right", say=quiet)
    assert stages.box(project, say=quiet) == {"left": None, "right": BOXES["right"]}


def test_lines_of_whole_pictures_alone_say_nothing_of_boxes(project, tmp_path):
    stages.label_text(project, "1-2", video="left", say=quiet)
    target = stages.export_labels(project, tmp_path / "out.txt", format="boxed", say=quiet)
    stages.label(project, target, say=quiet)
    assert views.own_box(project, "left") is None


# --- learning and scoring ---


@pytest.fixture(scope="module")
def learned(recordings, tmp_path_factory):
    """A project with a model that learned from two recordings whose faces lie elsewhere."""
    made = Project(tmp_path_factory.mktemp("learned"))
    stages.download(made, [str(recordings / f"{side}.mp4") for side in BRIGHT], progress=False, say=quiet)
    stages.label(made, recordings / "faces.txt", say=quiet)
    frames(made)
    options = {"backbone": "measures", "epochs": 20, "learning_rate": 0.03, "sequence": "none", "augment": "none"}
    stages.train(made, run="face", progress=False, say=quiet, **options)
    return made


def truth(times, video):
    return np.array([any(start <= time < end for start, end in BRIGHT[video]) for time in times])


def test_a_model_of_crops_is_shown_each_videos_own(learned):
    config = load_model(learned.model("face") / "model.ckpt")[1]
    assert config.box == "own"
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for stretch in ({}, {"start": 0, "end": 60}):  # stored frames, and the recording itself
        stages.infer(learned, videos=["left", "right"], redo=True, progress=False, say=quiet, **stretch)
        for side in BRIGHT:
            scores = pl.read_parquet(learned.scores("face", side))
            is_face = truth(scores["time"], side)
            assert scores["score"].to_numpy()[is_face].min() > scores["score"].to_numpy()[~is_face].max()


def test_a_model_of_crops_and_whole_pictures_is_shown_both(recordings, tmp_path):
    made = Project(tmp_path / "both")
    stages.download(made, [str(recordings / f"{side}.mp4") for side in BRIGHT], progress=False, say=quiet)
    stages.label(made, recordings / "faces.txt", say=quiet)
    stages.frames(made, size=16, whole_too=True, progress=False, say=quiet)
    options = {"backbone": "measures", "epochs": 20, "learning_rate": 0.03, "sequence": "none", "augment": "none"}
    stages.train(made, run="both", progress=False, say=quiet, **options)
    assert load_model(made.model("both") / "model.ckpt")[1].box == "own+whole"
    for stretch in ({}, {"start": 0, "end": 60}):
        stages.infer(made, videos=["left"], redo=True, progress=False, say=quiet, **stretch)
        scores = pl.read_parquet(made.scores("both", "left"))
        is_face = truth(scores["time"], "left")
        assert scores["score"].to_numpy()[is_face].min() > scores["score"].to_numpy()[~is_face].max()
    # Of a file its box is enough.
    found = stages.infer_files(
        recordings / "right.mp4", model=made.model("both") / "model.ckpt", box=BOXES["right"], progress=False, say=quiet
    )
    stages.infer(made, videos=["right"], start=0, end=60, progress=False, say=quiet)
    own = pl.read_parquet(made.scores("both", "right"))
    assert found.scores["score"].to_list() == own["score"].to_list()
    assert views.box_for(made, "left", "own+whole") == (*BOXES["left"], *WHOLE_PICTURE)
    assert views.box_for(made, "left", "own") == BOXES["left"]


def test_a_model_of_crops_asks_where_the_face_is(learned, recordings, tmp_path):
    new = Project(tmp_path / "new")
    stages.download(new, str(recordings / "left.mp4"), progress=False, say=quiet)
    model = learned.model("face") / "model.ckpt"
    target = new.model("face")
    target.mkdir(parents=True)
    for file in learned.model("face").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    with pytest.raises(HlkitError, match=r"where that is in 'left' is not known.*hlkit box X0,Y0,X1,Y1 --video left"):
        stages.infer(new, videos=["left"], run="face", progress=False, say=quiet)
    with pytest.raises(HlkitError, match="Say where it is in these files"):
        stages.infer_files(recordings / "left.mp4", model=model, progress=False, say=quiet)
    right, wrong = (
        stages.infer_files(recordings / "left.mp4", model=model, box=BOXES[side], progress=False, say=quiet).scores
        for side in BRIGHT
    )
    is_face = truth(right["time"], "left")
    assert right["score"].to_numpy()[is_face].min() > right["score"].to_numpy()[~is_face].max()
    assert wrong["score"].to_numpy()[is_face].max() < wrong["score"].to_numpy()[~is_face].min()
    with pytest.raises(HlkitError, match="kept with it: `hlkit box"):
        stages.infer(new, videos=["left"], run="face", box=BOXES["left"], say=quiet)
    # Said once, it holds; and another one makes other scores.
    for side in ("right", "left"):
        stages.box(new, BOXES[side], videos=["left"], say=quiet)
        stages.infer(new, videos=["left"], run="face", progress=False, say=quiet)
        scores = pl.read_parquet(new.scores("face", "left"))["score"].to_numpy()
        assert (scores[is_face].min() > scores[~is_face].max()) == (side == "left")


def test_whole_clips_are_held_back(learned):
    options = {"backbone": "measures", "epochs": 1, "sequence": "none", "progress": False, "say": quiet}
    stages.train(learned, run="clips", chunk_seconds=1e9, **options)
    kept = load_file(learned.model("clips") / "model.ckpt")["hlkit"]["run"]
    stages.train(learned, run="chunks", **options)
    assert kept["data"] != load_file(learned.model("chunks") / "model.ckpt")["hlkit"]["run"]["data"]
    card = (learned.model("clips") / "card.md").read_text()
    rows = re.findall(r"^\| (?:train|validation) \| (\d+).*\| (\d+).*\|$", card, re.MULTILINE)
    # One clip on each side: the seconds of `BRIGHT`, three pictures each, and the rest.
    assert sorted(rows) == [("135", "45"), ("141", "39")]
    learned.save_settings(run="face")


def test_frames_of_an_older_box_are_not_learned_from(project, recordings):
    stages.label(project, recordings / "faces.txt", say=quiet)
    frames(project)
    stages.box(project, WHOLE_PICTURE, videos=["left"], say=quiet)
    with pytest.raises(HlkitError, match=r"The box of 'left' is whole, but its frames are 16 px, .*0,0,0\.5,1"):
        stages.train(project, backbone="measures", epochs=1, sequence="none", progress=False, say=quiet)


def test_fewer_frames_a_second_are_those_among_all(learned):
    options = {"videos": ["left"], "run": "face", "progress": False, "say": quiet}
    stages.infer(learned, redo=True, **options)
    every = pl.read_parquet(learned.scores("face", "left"))
    stages.infer(learned, fps="1", **options)
    some = pl.read_parquet(learned.scores("face", "left"))
    assert some["time"].to_list() == [float(second) for second in range(SECONDS)]
    # The same pictures; batches of other sizes round differently in the last digits.
    assert some["score"].to_numpy() == pytest.approx(every["score"].to_numpy()[::3], abs=1e-6)
    stages.infer(learned, fps="5/2", **options)  # not among the stored ones
    assert pl.read_parquet(learned.scores("face", "left"))["time"].to_list()[:3] == [0.0, 0.4, 0.8]


def test_what_happens_between_frames_has_its_own_rate(copied):
    with pytest.raises(HlkitError, match="needs its own rate"):
        stages.infer(copied, videos=["judge"], fps="1", say=quiet)
    clip = ModelConfig(kind="clip", fps="3")
    assert at_rate(clip, "3") == clip
    with pytest.raises(HlkitError, match="A model of clips needs its own rate, 3 frames a second"):
        at_rate(clip, "1")
    assert set(HIGHLIGHTS) == {"learn", "judge"}


# --- drawing ---


@pytest.fixture
def page(project):
    """The widget of a recording, and a way to be its page: sends a message, returns the answer."""
    widget = stages.box_picker(project, video="left", time=10.0)
    answers = []
    widget.send = lambda content, buffers=None: answers.append(content)

    def ask(kind, **content):
        answers.clear()
        widget._receive(widget, {"kind": kind, "number": 3, **content}, [])
        assert [answer["number"] for answer in answers] == [3]
        return answers[0]

    return widget, ask


def test_a_box_is_on_disk_before_it_is_told_as_saved(page, project, monkeypatch):
    widget, _ = page
    assert widget.box == []
    seen = []
    monkeypatch.setattr(
        type(widget), "send", lambda self, content, buffers=None: seen.append(views.own_box(project, "left"))
    )
    del widget.send
    widget._receive(widget, {"kind": "box", "number": 1, "box": [0.1, 0.2, 0.3, 0.4]}, [])
    assert seen == [views.KeptBox((0.1, 0.2, 0.3, 0.4), "hand")]
    assert widget.box == [0.1, 0.2, 0.3, 0.4]


def test_changes_are_taken_back_one_by_one(page, project):
    widget, ask = page
    stages.box(project, BOXES["right"], say=quiet)  # of all; the first change begins from there
    for box in ([0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.4, 0.4]):
        assert ask("box", box=box) == {"kind": "done", "number": 3, "bad": False, "text": "Saved."}
    assert ask("undo")["text"] == "Taken back."
    assert widget.box == [0.1, 0.1, 0.2, 0.2]
    assert ask("undo")["text"] == "Taken back."
    assert views.own_box(project, "left") is None
    assert widget.box == list(BOXES["right"])
    assert ask("undo")["text"] == "There is nothing to take back."


def test_what_the_page_may_not_ask_changes_nothing(page, project):
    widget, ask = page
    for kind, content, text in (
        ("box", {"box": [0.5, 0, 0.4, 1]}, "x0 < x1"),
        ("box", {"box": [0, 0, 1]}, "Give x0,y0,x1,y1"),
        ("box", {"box": ["a", 0, 1, 1]}, "does not understand"),
        ("box", {"box": [float("nan"), 0, 1, 1]}, "x0 < x1"),
        ("picture", {"time": "soon"}, "does not understand"),
        ("format the disk", {}, "does not understand"),
    ):
        answer = ask(kind, **content)
        assert answer["bad"] and text in answer["text"], answer
    assert widget.box == [] and not project.box("left").exists()
    project.box("left").mkdir(parents=True)
    assert ask("box", box=[0, 0, 0.5, 1])["bad"]
    assert widget.box == []


def test_the_page_gets_the_picture_of_the_time_that_it_asks_for(page):
    widget, ask = page

    def halves():
        picture = np.asarray(Image.open(io.BytesIO(widget.picture)).convert("L"))
        return [bool(half.mean() > 128) for half in np.split(picture, 2, axis=1)]

    assert (widget.picture_time, halves()) == (10.0, [True, False])
    assert ask("picture", time=20) == {"kind": "done", "number": 3, "bad": False, "text": None}
    assert (widget.picture_time, halves()) == (20.0, [False, True])
    ask("picture", time=1e9)  # the last one
    assert (widget.picture_time, halves()) == (SECONDS, [False, True])


def test_the_next_video_without_a_box_is_shown(project):
    stages.box(project, BOXES["left"], videos=["left"], say=quiet)
    widget = stages.box_picker(project)
    assert isinstance(widget, BoxWidget)
    assert widget.title == "right (0:01:00)"
    assert widget.aspect == 2.0


def test_a_picture_is_shown_whatever_comes_after_it(project, tmp_path):
    whole, cut = tmp_path / "whole.mp4", project.videos / "cut.mp4"
    words = ["-i", str(project.video("left")), "-c", "copy", "-movflags", "+faststart", str(whole)]
    subprocess.run([find_ffmpeg(), "-loglevel", "error", *words], check=True)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    widget = stages.box_picker(project, video="cut", time=10.0)
    assert np.asarray(Image.open(io.BytesIO(widget.picture)).convert("L"))[:, :300].mean() > 200
