"""The widget in a real JupyterLab and a real Chromium: keys, buttons, drags, sliders, and the labels on disk."""

import base64
import math
import os
import shutil
import signal
from pathlib import Path

import jupyter_page
import numpy as np
import polars as pl
import pytest

from hlkit import Project, demo
from hlkit.frames import read_index
from hlkit.labels import covered, read_labels
from hlkit.timeline import add_intensity, pick_highlights
from hlkit.video import probe
from hlkit.widgets.pages import SPAN_FILES, page_module

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
VIDEO = "demo_b"
# What a person may have set: keys of JupyterLab's command mode that the widget itself does not use among them.
JUPYTER_KEYS = "x c v d d h y r f p q u w e g t Enter Escape Shift+Enter Control+Enter Alt+Enter Shift+M a m".split()


@pytest.fixture(scope="module")
def ready():
    reason = jupyter_page.missing()
    if reason and os.environ.get("HLKIT_REQUIRE_BROWSER"):
        pytest.fail(f"HLKIT_REQUIRE_BROWSER is set, but {reason}")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def lab(ready, tmp_path_factory):
    """A folder with the demo as a project, a score for each frame, and JupyterLab's address."""
    folder = tmp_path_factory.mktemp("lab")
    project = Project(folder / "project")
    demo.run(project, until="frames", progress=False, say=lambda line: None)
    frames = read_index(project.frames / VIDEO)
    truth = read_labels(demo.demo_folder() / f"{VIDEO}.csv", video=VIDEO)
    noise = np.random.default_rng(0).normal(0, 0.12, len(frames))
    score = pl.Series("score", np.clip(0.15 + 0.6 * covered(frames, truth) + noise, 0.01, 0.99), dtype=pl.Float32)
    target = project.scores("first", VIDEO)
    target.parent.mkdir(parents=True)
    frames.select("video", "time").with_columns(score).write_parquet(target)
    with jupyter_page.jupyterlab(folder) as address:
        yield folder, project, address


@pytest.fixture
def project(lab):
    """The project without labels."""
    shutil.rmtree(lab[1].root / "labels", ignore_errors=True)
    return lab[1]


START = f"from hlkit import Project, stages\nproject = Project({{root!r}})\nvideo = {VIDEO!r}\n"


class Widget:
    """One widget on the page, and what the tests do with it."""

    def __init__(self, page, number=0):
        self.page, self.root = page, page.locator(".hlkit").nth(number)
        self.root.wait_for()

    def ask(self, expression):
        """The value of a JavaScript expression about `view`."""
        return self.root.evaluate(f"root => {{ const view = root.parentElement.hlkit; return {expression}; }}")

    def until(self, expression):
        handle = self.root.element_handle()
        self.page.wait_for_function(
            f"root => {{ const view = root.parentElement.hlkit; return {expression}; }}", arg=handle
        )

    def settled(self, spans):
        """Wait until so many spans are saved and shown."""
        self.until(f"view.spans.length === {spans} && view.pending.size === 0")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, *names):
        for name in names:
            self.root.get_by_role("button", name=name, exact=True).click()

    def focus(self):
        self.root.locator(".hl-head").click()

    def place(self, time, lane):
        """Where on the page a time of a lane lies, in whole pixels: a mouse has no others."""
        box = self.root.locator(".hl-overlay").bounding_box()
        x, top, height = self.ask(
            f"(() => {{ const lane = view.lanes().find(({{ name }}) => name === '{lane}');"
            f" return [view.x({time}), lane.top, lane.height]; }})()"
        )
        return round(box["x"] + x), round(box["y"] + top + height / 2)

    def drag(self, start, end):
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, end[1])
        self.page.mouse.move(*end)
        self.page.mouse.up()


def on_disk(project):
    table = read_labels(project.labels(VIDEO), video=VIDEO).sort("start")
    return [
        (round(start, 6), round(end, 6), label) for start, end, label in table.select("start", "end", "label").rows()
    ]


def cells(page):
    """What Jupyter's own commands would change: cells, their kinds, numbers and texts, line numbers, dialogs."""
    return page.evaluate(
        """() => [
          [...document.querySelectorAll(".jp-Notebook .jp-Cell")].map((cell) => [
            cell.className.match(/jp-(Code|Markdown|Raw)Cell/)[0],
            cell.querySelector(".jp-InputPrompt")?.textContent,
            cell.querySelector(".cm-content")?.textContent,
            cell.querySelectorAll(".hlkit").length,
          ]),
          document.querySelectorAll(".jp-Notebook .cm-lineNumbers").length,
          document.querySelectorAll(".jp-Dialog").length,
        ]"""
    )


def test_marking_with_keys_buttons_and_drags_in_jupyterlab(lab, project, tmp_path):
    folder, _, address = lab
    start = START.format(root=str(project.root))
    jupyter_page.write_notebook(
        folder / "marking.ipynb",
        f"{start}stages.labeller(project, video=video)",
        "stages.explorer(project, video=video)",
    )
    fps = float(probe(project.video(VIDEO)).fps)
    errors = []
    with jupyter_page.chromium(viewport={"width": 1300, "height": 1500}) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        jupyter_page.open_notebook(page, address, "marking.ipynb")
        jupyter_page.run_cell(page, 0)
        labeller = Widget(page)
        labeller.until("view.usesVideo")
        labeller.focus()
        before = cells(page)

        # Three spans with keys: ten-second jumps, seconds, frames.
        labeller.press("l", "i", "l", "o")
        labeller.settled(1)
        labeller.press("l", *["Shift+ArrowRight"] * 5, "i", "l", "j", "l", "o")
        labeller.settled(2)
        labeller.press("l", "i", *["ArrowRight"] * 7, "o")
        labeller.settled(3)
        third_end = round((round(55 * fps) + 7) / fps, 6)
        marked = [(10, 20, "highlight"), (35, 45, "highlight"), (55, third_end, "highlight")]
        assert on_disk(project) == marked

        # Two with buttons, the second of them rejected; that one is taken back.
        labeller.click("+10 s", "+10 s", "begins", "+10 s", "ends")
        labeller.settled(4)
        fourth = (round(third_end + 20, 6), round(third_end + 30, 6), "highlight")
        assert on_disk(project) == [*marked, fourth]
        labeller.click("+10 s", "begins", "+10 s", "not")
        labeller.settled(5)
        assert on_disk(project)[4][2] == "background"
        labeller.press("Control+z")
        labeller.settled(4)
        assert on_disk(project) == [*marked, fourth]

        # No key reaches Jupyter's own commands, whether or not the widget uses it.
        labeller.press(*JUPYTER_KEYS, *"j l k k 0".split())
        labeller.settled(5)
        labeller.press("Control+z")
        labeller.settled(4)
        assert cells(page) == before

        # The explorer shows the same labels; one edge is dragged.
        jupyter_page.run_cell(page, 1)
        explorer = Widget(page, 1)
        explorer.settled(4)
        explorer.root.scroll_into_view_if_needed()
        goal = explorer.place(49.7, "labels")
        box = explorer.root.locator(".hl-overlay").bounding_box()
        expected = explorer.ask(f"view.snap(view.timeAt({goal[0] - box['x']}))")
        explorer.drag(explorer.place(45, "labels"), goal)
        explorer.until(f"view.spans[1][2] === {expected} && view.pending.size === 0")
        assert abs(expected - 49.7) < 0.5  # a pixel is 0.3 s wide here
        final = [marked[0], (35, expected, "highlight"), marked[2], fourth]
        assert on_disk(project) == final
        labeller.until(f"view.spans[1][2] === {expected}")  # the other widget is told

        # The threshold: what the page says is what the package picks.
        intensity = add_intensity(pl.read_parquet(project.scores("first", VIDEO)), window_seconds=demo.WINDOW_SECONDS)
        said = set()
        for threshold in ("0.3", "0.6"):
            explorer.root.get_by_label("threshold").fill(threshold)
            spans = pick_highlights(
                intensity, threshold=float(threshold), durations={VIDEO: probe(project.video(VIDEO)).duration}
            )
            seconds = round(float((spans["end"] - spans["start"]).sum()))
            text = f"{len(spans)} highlights, {seconds // 60}:{seconds % 60:02d} minutes"
            explorer.root.get_by_text(text, exact=True).wait_for()
            explorer.until(f"view.model.get('picked').length === {len(spans)}")
            said.add(text)
        assert len(said) == 2

        # What is drawn is what is marked: blue in the middle of a span, not beside it.
        def colour(time):
            x = explorer.ask(f"view.x({time})")
            return explorer.ask(
                "(() => { const lane = view.lanes().at(-1), ratio = devicePixelRatio;"
                f" return [...view.base.getContext('2d').getImageData({x} * ratio,"
                " (lane.top + lane.height - 6) * ratio, 1, 1).data]; })()"
            )[:3]

        assert colour(47) == [0x00, 0x72, 0xB2] != colour(52)
        page.mouse.move(*explorer.place(110, "curves"))
        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / "marking.png")

        # After a reload the labels are what they were, on disk and on the page.
        page.reload()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        assert on_disk(project) == final
        jupyter_page.run_cell(page, 0)
        again = Widget(page)
        again.settled(4)
        shown = [tuple(span) for span in again.ask("view.spans.map(([, start, end, label]) => [start, end, label])")]
        assert shown == final

        # The keys that were kept away above do reach Jupyter where the widget is not.
        page.locator(".jp-CodeCell .jp-InputPrompt").nth(1).click()
        page.keyboard.press("b")
        page.wait_for_function("() => document.querySelectorAll('.jp-Notebook .jp-CodeCell').length === 3")
    assert errors == []


def test_two_kernels_on_the_same_video_see_each_others_marks(lab, project):
    folder, _, address = lab
    code = START.format(root=str(project.root)) + "stages.labeller(project, video=video)"
    for name in ("one", "two"):
        jupyter_page.write_notebook(folder / f"{name}.ipynb", code)
    with jupyter_page.chromium() as page:
        other = page.context.browser.new_page()
        widgets = []
        for tab, name in ((page, "one"), (other, "two")):
            jupyter_page.open_notebook(tab, address, f"{name}.ipynb")
            jupyter_page.run_cell(tab, 0)
            widgets.append(Widget(tab))
            widgets[-1].focus()
        first, second = widgets
        first.press("i", "l", "o")
        first.settled(1)
        second.press("l", "l", "i", "l", "o")
        second.until("view.spans.length === 2 && view.pending.size === 0")
        first.until("view.spans.length === 2")
        assert on_disk(project) == [(0, 10, "highlight"), (20, 30, "highlight")]


def test_a_kernel_that_is_killed_loses_nothing_and_what_is_marked_without_it_is_told_as_not_saved(lab, project):
    folder, _, address = lab
    code = START.format(root=str(project.root))
    jupyter_page.write_notebook(
        folder / "killed.ipynb", f"{code}import os\nprint(os.getpid())", "stages.labeller(project, video=video)"
    )
    with jupyter_page.chromium() as page:
        jupyter_page.open_notebook(page, address, "killed.ipynb")
        jupyter_page.run_cell(page, 0)
        kernel = int(page.locator(".jp-OutputArea-output").first.inner_text())
        jupyter_page.run_cell(page, 1)
        widget = Widget(page)
        widget.focus()
        widget.press("i", "l", "o")
        widget.settled(1)
        os.kill(kernel, signal.SIGKILL)
        page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()
        widget.focus()
        widget.press("l", "i", "l", "o")
        widget.root.locator(".hl-status", has_text="not saved").wait_for()
        assert on_disk(project) == [(0, 10, "highlight")]
        for number in (0, 1):
            jupyter_page.run_cell(page, number)
        again = Widget(page)
        again.focus()
        again.press("l", "l", "i", "l", "o")
        again.settled(2)
        assert on_disk(project) == [(0, 10, "highlight"), (20, 30, "highlight")]


def test_chunks_are_passed_with_one_key_and_a_drag_over_the_sheet_marks(lab, project, tmp_path):
    folder, _, address = lab
    code = START.format(root=str(project.root)) + "stages.labeller(project, video=video)"
    jupyter_page.write_notebook(folder / "chunks.ipynb", code)
    with jupyter_page.chromium() as page:
        jupyter_page.open_notebook(page, address, "chunks.ipynb")
        jupyter_page.run_cell(page, 0)
        widget = Widget(page)
        widget.focus()
        widget.press("0")
        widget.until("view.item === 1 && view.time === 30 && view.pending.size === 0")
        assert on_disk(project) == [(0, 30, "background")]
        # Pictures 5 to 8 of 16, each 30 / 16 s long, are the second line of four.
        box = widget.root.locator(".hl-sheet").bounding_box()
        line = box["y"] + box["height"] * 3 / 8
        widget.drag((box["x"] + box["width"] / 8, line), (box["x"] + box["width"] * 7 / 8, line))
        widget.settled(2)
        fps = float(probe(project.video(VIDEO)).fps)
        start, end = (round(math.floor(time * fps + 0.5) / fps, 6) for time in (37.5, 45.0))
        assert on_disk(project) == [(0, 30, "background"), (start, end, "highlight")]
        page.screenshot(path=tmp_path / "chunks.png")
        widget.press("0")
        widget.until("view.item === 2 && view.pending.size === 0")
        assert on_disk(project) == [(0, start, "background"), (start, end, "highlight"), (end, 60, "background")]
        assert "2 of 9 stretches decided" in widget.root.locator(".hl-status").inner_text()


def test_what_the_model_asks_is_answered_in_the_page_and_nothing_is_asked_twice(lab, project, tmp_path):
    folder, _, address = lab
    asking = (
        "questions = stages.review(project, videos=[video], limit=4, span_seconds=12, progress=False)\n"
        "stages.reviewer(project, questions, video=video)"
    )
    jupyter_page.write_notebook(folder / "review.ipynb", START.format(root=str(project.root)) + asking)
    with jupyter_page.chromium(viewport={"width": 1300, "height": 1300}) as page:
        jupyter_page.open_notebook(page, address, "review.ipynb")
        jupyter_page.run_cell(page, 0)
        widget = Widget(page)
        widget.until("view.usesVideo")
        items = widget.ask("view.items.map(([start, end]) => [start, end])")
        asked = [(round(start, 6), round(end, 6)) for start, end in items]
        assert len(asked) == 4
        assert widget.ask("view.items.every(([, , reason]) => ['likely', 'uncertain', 'new'].includes(reason))")
        widget.focus()
        # Yes with a key, no with a button, each goes on to the next by itself.
        assert widget.ask("view.item") == 0
        widget.press("1")
        widget.until("view.item === 1 && view.pending.size === 0")
        widget.click("not")
        widget.until("view.item === 2 && view.pending.size === 0")
        answered = [(*asked[0], "highlight"), (*asked[1], "background")]
        assert on_disk(project) == sorted(answered)
        # Yes with another end: accepted, then its right edge is dragged to the left.
        widget.press("1")
        widget.until("view.item === 3 && view.pending.size === 0")
        start, end = asked[2]
        goal = widget.place(end - 5, "labels")
        box = widget.root.locator(".hl-overlay").bounding_box()
        expected = widget.ask(f"view.snap(view.timeAt({goal[0] - box['x']}))")
        assert start < expected < end and abs(expected - (end - 5)) < 1.5
        widget.drag(widget.place(end, "labels"), goal)
        widget.until(f"view.spans.some((span) => span[2] === {expected}) && view.pending.size === 0")
        answered += [(start, expected, "highlight"), (expected, end, "background")]
        final = sorted(answered)
        assert on_disk(project) == final
        page.screenshot(path=tmp_path / "review.png")
        widget.press("n")
        assert widget.ask("view.item") == 3
        assert "3 of 4 stretches decided" in widget.root.locator(".hl-status").inner_text()

        # After a reload nothing is lost, and what is asked next is what nobody answered.
        page.reload()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        jupyter_page.run_cell(page, 0)
        again = Widget(page)
        again.settled(len(final))
        table = read_labels(project.labels(VIDEO), video=VIDEO)
        assert on_disk(project) == final
        assert table["origin"].to_list() == ["review"] * len(final)
        later = again.ask("view.items.map(([start, end]) => [start, end])")
        assert len(later) == 4 and again.ask("view.item") == 0
        assert not any(start < b - 1e-6 and end > a + 1e-6 for start, end in later for a, b, _ in final)

        # I and O inside of what is asked are an answer too, and 0 leaves it alone.
        again.focus()
        again.press("Shift+ArrowRight", "Shift+ArrowRight", "i", "Shift+ArrowRight", "Shift+ArrowRight", "o")
        again.settled(len(final) + 3)
        first, last = later[0]
        inside = [
            (first, first + 2, "background"),
            (first + 2, first + 4, "highlight"),
            (first + 4, last, "background"),
        ]
        after = [span for span in on_disk(project) if span not in final]
        assert [(a, b) for a, b, _ in after] == [pytest.approx(span[:2], abs=0.04) for span in inside]
        assert [label for *_, label in after] == [label for *_, label in inside]
        again.press("0")
        again.until("view.item === 1 && view.pending.size === 0")
        assert [span for span in on_disk(project) if span not in final] == after


def test_the_recording_plays_and_without_it_the_stored_frames_do(lab, project, tmp_path):
    folder, _, address = lab
    bare = Project(folder / "bare")
    shutil.rmtree(bare.root, ignore_errors=True)
    shutil.copytree(project.frames, bare.frames)
    for name, root in (("video", project.root), ("frames", bare.root)):
        code = START.format(root=str(root)) + "stages.labeller(project, video=video)"
        jupyter_page.write_notebook(folder / f"{name}.ipynb", code)
    for name, shows_video in (("video", True), ("frames", False)):
        with jupyter_page.chromium(viewport={"width": 800, "height": 1200}, color_scheme="dark") as page:
            jupyter_page.open_notebook(page, address, f"{name}.ipynb")
            page.evaluate("() => document.body.dataset.jpThemeLight = 'false'")
            jupyter_page.run_cell(page, 0)
            widget = Widget(page)
            widget.focus()
            widget.until(f"view.usesVideo === {str(shows_video).lower()} && view.pictures.kept.size > 0")
            widget.press("Space")
            widget.until("view.time > 1.5")
            widget.press("k")
            assert widget.ask("!view.playing && view.root.scrollWidth <= view.root.clientWidth")
            if shows_video:
                decoded = widget.ask("view.video.getVideoPlaybackQuality().totalVideoFrames")
                assert decoded > 10
            else:
                # The picture is there: not one colour all over.
                widget.until("new Set(view.still.getContext('2d').getImageData(0, 0, 200, 100).data).size > 20")
            page.screenshot(path=tmp_path / f"{name}.png")


def test_the_explorer_plays_where_it_is_clicked_marks_where_it_is_dragged_and_keeps_what_was_chosen(lab, project):
    folder, _, address = lab
    code = START.format(root=str(project.root)) + "stages.explorer(project, video=video)"
    jupyter_page.write_notebook(folder / "keep.ipynb", code)
    with jupyter_page.chromium(viewport={"width": 1200, "height": 1300}) as page:
        jupyter_page.open_notebook(page, address, "keep.ipynb")
        jupyter_page.run_cell(page, 0)
        widget = Widget(page)
        widget.until("view.usesVideo")
        hidden = widget.ask("getComputedStyle(view.tip).display")
        page.mouse.move(*widget.place(100, "curves"))
        widget.until("getComputedStyle(view.tip).display === 'block'")
        assert hidden == "none"
        page.mouse.click(*widget.place(100, "curves"))
        widget.until("view.playing && view.time > 100.5 && view.time < 130")
        widget.press("k")
        start, end = widget.place(150, "curves"), widget.place(170, "curves")
        box = widget.root.locator(".hl-overlay").bounding_box()
        expected = [widget.ask(f"view.snap(view.timeAt({x - box['x']}))") for x, _ in (start, end)]
        widget.drag(start, end)
        widget.settled(1)
        assert on_disk(project) == [(*expected, "highlight")]
        assert expected == [pytest.approx(150, abs=0.5), pytest.approx(170, abs=0.5)]

        widget.root.get_by_label("wanted length").fill("40")
        widget.until("view.model.get('target_seconds') === 40")
        picked = widget.ask("view.model.get('picked')")
        widget.click("Use these highlights")
        widget.root.get_by_text("Next: cut the reel.").wait_for()
        table = read_labels(project.reel(VIDEO, ".csv"), video=VIDEO)
        assert [list(row) for row in table.select("start", "end").rows()] == [
            [pytest.approx(start, abs=1e-6), pytest.approx(end, abs=1e-6)] for start, end in picked
        ]
        assert 30 < float((table["end"] - table["start"]).sum()) <= 40


def test_the_pages_arithmetic_agrees_with_numpy(ready):
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 100, 3000)).astype(np.float32)
    values = rng.normal(size=3000).astype(np.float32)
    values[rng.integers(0, 3000, 300)] = np.nan
    source = page_module(*SPAN_FILES).encode()
    module = f"data:text/javascript;base64,{base64.b64encode(source).decode()}"
    program = """async ([module, times, values, spans, items]) => {
      const page = await import(module);
      const numbers = Float32Array.from(values, (value) => value ?? NaN);
      const { low, high } = page.envelope(Float32Array.from(times), numbers, 20, 70, 130);
      const plain = (array) => [...array].map((value) => (value === value ? value : null));
      const texts = [page.formatTime(3671.49, 1), page.formatTime(59.6)];
      return [plain(low), plain(high), page.coveredSeconds(spans, items), ...texts];
    }"""
    spans = [["a", 0, 10], ["b", 5, 12], ["c", 20, 30], ["d", 12, 14]]
    items = [[0, 30], [13, 21], [14, 20], [40, 50], [-5, 3]]
    plain = [None if np.isnan(value) else float(value) for value in values]
    with jupyter_page.chromium() as page:
        low, high, covered, *texts = page.evaluate(program, [module, times.tolist(), plain, spans, items])
    column = np.floor((times.astype(np.float64) - 20) * (130 / 50)).astype(int)
    for place in range(130):
        inside = values[(column == place) & ~np.isnan(values)]
        assert (low[place], high[place]) == ((inside.min(), inside.max()) if len(inside) else (None, None))
    assert covered == [24, 2, 0, 0, 3]
    assert texts == ["1:01:11.5", "0:01:00"]
