"""The eight notebooks: what they may hold, and all of them executed in order, twice, in Jupyter and Colab."""

import ast
import json
import os
import re
import runpy
import shlex
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from typer.main import get_command

from hlkit import cli, stages
from hlkit.labels import read_labels
from hlkit.project import Project

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECIPES = sorted((ROOT / "notebooks" / "recipes").glob("*.ipynb"))
SET_ADDRESS = runpy.run_path(str(ROOT / "notebooks" / "set_address.py"))

COLAB_STUB = """
class SecretNotFoundError(Exception): pass
class NotebookAccessError(Exception): pass
def get(name): raise SecretNotFoundError(name)
"""


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_eight_numbered_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_download",
        "02_frames",
        "03_upload",
        "04_label",
        "05_train",
        "06_infer",
        "07_timeline",
        "08_explain",
    ]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *RECIPES], ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    repository = "/".join(SET_ADDRESS["repository"]().split("/")[-2:])
    badge = f"{SET_ADDRESS['COLAB']}{repository}/blob/main/{path.relative_to(ROOT).as_posix()}"
    assert f"({badge})" in notebook.cells[0].source
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert lines[0].startswith("#@title ")
        assert len(lines) <= 15
        assert cell.metadata["cellView"] == "form"
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), "a shell line or magic is not Python"
        assert not {"FunctionDef", "ClassDef", "While", "Try"} & {
            type(node).__name__ for node in ast.walk(ast.parse(cell.source))
        }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_and_links_lead_somewhere(path):
    text = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    for picture in re.findall(r"!\[[^]]*\]\((pictures/[^)]+)\)", text):
        assert (path.parent / picture).is_file()
    for name in re.findall(r"/notebooks/(\w+\.ipynb)", text):
        assert (path.parent / name).is_file()


def test_every_notebook_starts_with_the_same_cell():
    first = {re.sub(r"ready\(.*\)", "ready()", code_cells(path)[0].source) for path in NOTEBOOKS}
    assert len(first) == 1


def test_one_address_reaches_every_notebook():
    for path in (*NOTEBOOKS, *RECIPES, ROOT / "README.md"):
        text = path.read_text(encoding="utf-8")
        assert SET_ADDRESS["with_address"](text, SET_ADDRESS["repository"]()) == text
        moved = SET_ADDRESS["with_address"](text, "https://github.com/someone/fork")
        places = ("colab.research.google.com/github/", "git+https://", "https://github.com/OWNER/hlkit/blob/")
        assert moved.count("someone/fork") == sum(map(text.count, places))


def test_a_recipe_starts_as_a_numbered_notebook_does_and_has_its_page():
    for path in RECIPES:
        first = code_cells(path)[0].source.replace("Path.cwd().parent.parent", "Path.cwd().parent")
        assert first == code_cells(NOTEBOOKS[1])[0].source
        page = path.with_suffix(".md").read_text(encoding="utf-8")
        table = page.partition("## From the earlier system")[2]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
        assert len(cells) > 5
        assert all(len(row) == 2 and all(row) for row in cells)


def test_the_package_knows_no_recipe():
    names = {word for path in RECIPES for word in (path.stem, "recipes/")}
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "hlkit").rglob("*.py")]
    assert not [name for name in names for text in texts if name in text]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_are_ones_that_there_are(path):
    page = path.with_suffix(".md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4,}(hlkit .*?)(?: +#.*)?$", page, re.MULTILINE)
    inline = re.findall(r"`(hlkit [^`]*)`", page)
    application: Any = get_command(cli.app)
    assert len(lines) + len(inline) > 5
    for words in (shlex.split(line) for whole in (*lines, *inline) for line in whole.split(" && ")):
        name, *given = words[1:]
        known = {option for parameter in application.commands[name].params for option in parameter.opts}
        assert {word for word in given if word.startswith("--")} <= known, words


def execute(path, home, *, colab=False):
    """Run one notebook in a fresh kernel in its own folder, as a reader does; return all that it printed."""
    environment = {"HLKIT_HOME": str(home), "PYTHONPATH": str(home / "stubs") if colab else ""}
    if colab:
        package = home / "stubs" / "google" / "colab"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "userdata.py").write_text(COLAB_STUB)
        environment["COLAB_RELEASE_TAG"] = "release-colab"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=os.environ | environment)
    return "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )


@pytest.mark.slow
@pytest.mark.parametrize("colab", [False, True], ids=["jupyter", "colab"])
def test_all_notebooks_run_in_order_and_again_at_once(tmp_path, colab):
    start = time.perf_counter()
    for path in NOTEBOOKS:
        execute(path, tmp_path, colab=colab)
    first = time.perf_counter() - start
    results = {path.name for path in (tmp_path / "my-stream" / "reels").iterdir()}
    assert {"demo_b.mp4", "demo_b.png", "demo_b.csv"} <= results
    start = time.perf_counter()
    printed = [execute(path, tmp_path, colab=colab) for path in NOTEBOOKS]
    # Against itself, since a busy machine slows both; most of the second is starting kernels.
    assert time.perf_counter() - start < first / 3
    assert all("already done" in text for text in printed)
    assert json.dumps(printed).count("Traceback") == 0


@pytest.mark.slow
def test_a_gaming_digest_runs_untouched_and_again(tmp_path):
    path = ROOT / "notebooks" / "recipes" / "gaming_digest.ipynb"
    printed = execute(path, tmp_path)
    assert {"demo_b.mp4", "demo_b.png", "demo_b.csv"} <= {
        file.name for file in (tmp_path / "digest" / "reels").iterdir()
    }
    table = re.findall(
        r"^(train|validation|test), frames: highlight +[\d,]+ +([\d.]+) +([\d.]+)", printed, re.MULTILINE
    )
    assert [part for part, _, _ in table] == ["train", "validation", "test"]
    # So little video teaches such a network nothing that lasts; what it learned from it must tell better than a guess.
    assert float(table[0][2]) > float(table[0][1])
    again = execute(path, tmp_path)
    assert again.count("already done") == 11


@pytest.mark.slow
def test_footage_quality_runs_untouched_and_again(tmp_path):
    path = ROOT / "notebooks" / "recipes" / "footage_quality.ipynb"
    printed = execute(path, tmp_path)
    assert "42 files would be moved; nothing was." in printed
    for name, chance in (("exposure", 1 / 3), ("focus", 1 / 2)):
        right = re.search(rf"{name}: 42 files: ([\d.]+)% right", printed)
        assert right is not None
        assert float(right[1]) / 100 > chance + 0.15
    assert {"exposure.csv", "focus.csv"} <= {file.name for file in (tmp_path / "footage").iterdir()}
    again = execute(path, tmp_path)
    assert again.count("already done") == 6


@pytest.mark.slow
def test_the_face_cam_runs_untouched_and_again(tmp_path):
    path = ROOT / "notebooks" / "recipes" / "face_cam.ipynb"
    printed = execute(path, tmp_path)
    project = Project(tmp_path / "faces")
    assert stages.box(project, say=lambda line: None) == dict.fromkeys(("demo_a", "demo_b"), (0.465, 0.84, 0.535, 1.0))
    found = dict(re.findall(r"^  (hlkit|random) +(\d\.\d{3}) ", printed, re.MULTILINE))
    assert float(found["hlkit"]) > 5 * float(found["random"])
    kept = json.loads((project.model("face") / "config.json").read_text())
    assert kept["model"]["box"] == [0.465, 0.84, 0.535, 1.0]
    assert kept["training"]["monitor"] == "val_precision"
    picked = read_labels(project.reel("demo_b", ".csv"))
    assert 0 < (picked["end"] - picked["start"]).sum() <= 60
    assert project.reel("demo_b").is_file()
    again = execute(path, tmp_path)
    assert again.count("already done") == 11


@pytest.mark.slow
def test_action_clips_run_untouched_and_again(tmp_path):
    path = ROOT / "notebooks" / "recipes" / "action_clips.ipynb"
    printed = execute(path, tmp_path)
    right = {name: float(share) for name, share in re.findall(r"^(.+): ([\d.]+)% right", printed, re.MULTILINE)}
    # No picture by itself tells these classes apart; four of them, as many clips of each.
    assert right["mean of pictures"] < 42
    assert right["CNN + RNN"] > max(42, right["mean of pictures"] + 10)
    again = execute(path, tmp_path)
    assert again.count("already done") >= 5
    assert "Traceback" not in printed + again
