"""Drawing a box in a real JupyterLab and a real Chromium: mouse, keys, buttons, and the box on disk."""

import json
import os

import jupyter_page
import pytest

from hlkit import Project, demo, stages

pytestmark = pytest.mark.slow

VIDEO = "demo_b"
FACE = (0.465, 0.84, 0.535, 1.0)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A project with a recording, and JupyterLab's address."""
    reason = jupyter_page.missing()
    if reason and os.environ.get("HLKIT_REQUIRE_BROWSER"):
        pytest.fail(f"HLKIT_REQUIRE_BROWSER is set, but {reason}")
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("lab")
    project = Project(folder / "project")
    recording = demo.demo_folder() / f"{VIDEO}.mp4"
    stages.download(project, recording, video=VIDEO, progress=False, say=lambda line: None)
    with jupyter_page.jupyterlab(folder) as address:
        yield folder, project, address


def on_disk(project):
    file = project.box(VIDEO)
    return json.loads(file.read_text())["box"] if file.is_file() else None


def test_a_box_is_drawn_moved_typed_and_taken_back(lab):
    folder, project, address = lab
    start = f"from hlkit import Project, stages\nproject = Project({str(project.root)!r})\n"
    jupyter_page.write_notebook(folder / "box.ipynb", f"{start}stages.box_picker(project, video={VIDEO!r})")
    with jupyter_page.chromium() as page:
        jupyter_page.open_notebook(page, address, "box.ipynb")
        jupyter_page.run_cell(page, 0)
        root = page.locator(".hlkit")
        root.wait_for()

        def until(expression):
            page.wait_for_function(
                f"root => {{ const view = root.parentElement.hlkit; return {expression}; }}", arg=root.element_handle()
            )

        def settled(box):
            """Wait until Python has answered, and hold what it kept against what is meant, to a pixel of the page."""
            until("view.pending.size === 0")
            kept = on_disk(project)
            assert kept == root.evaluate("root => root.parentElement.hlkit.model.get('box')")
            assert kept == pytest.approx(box, abs=0.004)
            return kept

        until("view.image && view.canvas.clientHeight > 50")
        picture = root.locator(".hl-box-picture").bounding_box()

        def place(x, y):
            return picture["x"] + x * picture["width"], picture["y"] + y * picture["height"]

        def drag(start, end):
            page.mouse.move(*place(*start))
            page.mouse.down()
            page.mouse.move(*place(*((a + b) / 2 for a, b in zip(start, end, strict=True))))
            page.mouse.move(*place(*end))
            page.mouse.up()

        assert on_disk(project) is None
        drag((0.465, 0.84), (0.535, 0.999))
        first = settled(FACE)
        assert root.locator(".hl-status").inner_text() == "Saved."
        # Inside it is moved, at an edge resized, elsewhere drawn anew.
        drag((0.5, 0.92), (0.4, 0.72))
        settled((0.365, 0.64, 0.435, 0.8))
        drag((0.435, 0.72), (0.535, 0.72))
        settled((0.365, 0.64, 0.535, 0.8))
        # Keys, buttons and numbers do the same; what JupyterLab makes of such keys, it does not do here.
        for key in ("ArrowLeft", "Shift+ArrowDown", "d", "d", "x"):
            page.keyboard.press(key)
        settled((0.36, 0.64, 0.53, 0.805))
        root.get_by_role("button", name="up", exact=True).click()
        settled((0.36, 0.635, 0.53, 0.8))
        root.get_by_label("left", exact=True).fill("0.3")
        page.keyboard.press("Tab")
        settled((0.3, 0.635, 0.53, 0.8))
        root.locator(".hl-head").click()
        page.keyboard.press("w")
        settled((0, 0, 1, 1))
        for _ in range(7):
            page.keyboard.press("Control+z")
        assert settled(FACE) == first
        page.keyboard.press("Control+z")
        until("view.pending.size === 0")
        assert on_disk(project) is None
        # Another time, another picture.
        before = root.evaluate("root => root.parentElement.hlkit.model.get('picture_time')")
        page.keyboard.press("l")
        until(f"view.model.get('picture_time') === {before + 10} && view.pending.size === 0")
        assert page.locator(".jp-Notebook .jp-CodeCell").count() == 1
        # Too small to be meant.
        drag((0.2, 0.2), (0.201, 0.201))
        assert "too small" in root.locator(".hl-status").inner_text()
        assert on_disk(project) is None
