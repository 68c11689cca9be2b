"""How fluently the widget moves: pictures a second in a real browser while a person drags over 64,800 points.

    pip install -e ".[test]" && apt-get install chromium
    python benchmarks/widget.py

A six-hour stream at 3 frames a second: score, intensity and two signals, 120 picked and 400 labelled spans, stored
pictures. In JupyterLab with a headless Chromium that draws without a GPU, the mouse is moved once per screen refresh
(60 a second at most) for five seconds: over the ruler (the play head, the picture under it and the hover picture move),
over the map while a tenth is shown (the whole timeline is drawn anew), and over the threshold's slider (each answer is
picked in Python).
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import jupyter_page  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from tiny_frames import make_frames  # noqa: E402

POINTS, FPS, STORED = 64_800, 3, 64

CELL = """
import sys
sys.path.insert(0, {tests!r})
import polars as pl
from pathlib import Path
from hlkit.labels import read_labels, write_labels
from hlkit.widgets.journal import Journal
from hlkit.widgets.pictures import Pictures
from hlkit.widgets.span_widget import Recording, SpanWidget
folder = Path({folder!r})
timeline, index = pl.read_parquet(folder / "timeline.parquet"), pl.read_parquet(folder / "index.parquet")
table, length = folder / "vod.csv", {points} / {fps}
journal = Journal(
    folder / "vod.marks.jsonl", video="vod", duration=length,
    read=lambda: read_labels(table, video="vod") if table.is_file() else None,
    write=lambda spans: write_labels(spans, table),
)
SpanWidget(Recording("six hours", length), journal, timeline=timeline, pictures=Pictures(folder, index, aspect=16 / 9))
"""

# Moves the mouse once per screen refresh; gives the time between refreshes in ms.
MOVE = """async ([root, lane, seconds]) => {
  const view = root.parentElement.hlkit;
  const box = view.overlay.getBoundingClientRect();
  const { top, height } = view.lanes().find(({ name }) => name === lane);
  const send = (name, share) => view.overlay.dispatchEvent(new PointerEvent(name, {
    bubbles: true, button: 0, clientX: box.left + share * box.width, clientY: box.top + top + height / 2 }));
  let drawn = 0;
  const draw = view.draw.bind(view);
  view.draw = () => { drawn += 1; draw(); };
  const gaps = [];
  send("pointerdown", 0.1);
  const begin = performance.now();
  let last = begin;
  while (last - begin < seconds * 1000) {
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - last);
    last = now;
    send("pointermove", 0.5 + 0.4 * Math.sin((now - begin) / 700));
  }
  send("pointerup", 0.5);
  delete view.draw;
  return [gaps.slice(1), drawn / (last - begin) * 1000];
}"""

SLIDE = """async ([root, count]) => {
  const view = root.parentElement.hlkit;
  const waits = [];
  for (let place = 0; place < count; place++) {
    const before = view.model.get("summary") + view.model.get("threshold");
    const begin = performance.now();
    view.thresholdSlider.value = 0.15 + 0.5 * (place + 1) / count;
    view.thresholdSlider.dispatchEvent(new Event("input"));
    while (view.model.get("summary") + view.model.get("threshold") === before) await new Promise(requestAnimationFrame);
    waits.push(performance.now() - begin);
  }
  return waits;
}"""


def make_stream(folder: Path) -> None:
    """Six hours that look like a stream's scores, and pictures: the same few, stored once."""
    rng = np.random.default_rng(0)
    times = np.arange(POINTS) / FPS
    hills = np.zeros(POINTS)
    for centre in rng.uniform(0, times[-1], 150):
        hills += rng.uniform(0.3, 0.9) * np.exp(-(((times - centre) / rng.uniform(4, 15)) ** 2))
    intensity = np.clip(0.08 + hills, 0, 1)
    values = {
        "score": np.clip(intensity + rng.normal(0, 0.1, POINTS), 0, 1),
        "intensity": intensity,
        "loudness": -50 + 30 * intensity + rng.normal(0, 4, POINTS),
        "motion": rng.gamma(2, 2, POINTS),
    }
    pl.DataFrame({"video": "vod", "time": times, **values}).write_parquet(folder / "timeline.parquet")
    stored = make_frames(folder, "vod", [0, 1] * (STORED // 2), size=128).drop("label")
    rows = np.arange(POINTS) % STORED
    many = stored[rows.tolist()].with_columns(time=pl.Series(times), frame=pl.Series(np.arange(POINTS)))
    many.write_parquet(folder / "index.parquet")
    starts = np.arange(400) * 50.0
    labels = np.where(np.arange(400) % 3 == 0, "highlight", "background")
    spans = {"video": "vod", "start": starts, "end": starts + 20, "label": labels}
    pl.DataFrame(spans).write_csv(folder / "vod.csv")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each movement")
    parser.add_argument("--width", type=int, default=1300, help="of the browser's window, in pixels")
    options = parser.parse_args()
    if reason := jupyter_page.missing():
        parser.error(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_stream(folder)
        cell = CELL.format(tests=str(ROOT / "tests"), folder=name, points=POINTS, fps=FPS)
        jupyter_page.write_notebook(folder / "widget.ipynb", cell)
        with (
            jupyter_page.jupyterlab(folder) as address,
            jupyter_page.chromium(viewport={"width": options.width, "height": 1300}) as page,
        ):
            jupyter_page.open_notebook(page, address, "widget.ipynb")
            jupyter_page.run_cell(page, 0)
            root = page.locator(".hlkit")
            root.wait_for()
            page.wait_for_function("root => root.parentElement.hlkit.pictures.kept.size > 0", arg=root.element_handle())
            shown = root.evaluate("root => [root.parentElement.hlkit.times.length, root.parentElement.hlkit.wide]")
            print(f"{platform.machine()}, {os.cpu_count()} cores; {shown[0]:,} points on {shown[1]} pixels")
            print("| movement | refreshes a second | drawn a second | slowest twentieth, ms |\n|---|---|---|---|")
            for title, lane in (("play head over all", "ruler"), ("a tenth, moved over all", "map")):
                if lane == "map":
                    root.evaluate(f"root => root.parentElement.hlkit.zoomAround(0, {POINTS / FPS / 10})")
                gaps, drawn = page.evaluate(MOVE, [root.element_handle(), lane, options.seconds])
                rate = 1000 * len(gaps) / sum(gaps)
                print(f"| {title} | {rate:.0f} | {drawn:.0f} | {np.quantile(gaps, 0.95):.0f} |")
            root.evaluate(f"root => root.parentElement.hlkit.zoomAround(0, {POINTS / FPS})")
            times = root.evaluate(
                "root => { const view = root.parentElement.hlkit; const begin = performance.now();"
                " for (let time = 0; time < 50; time++) view.drawBase(); return (performance.now() - begin) / 50; }"
            )
            print(f"The whole timeline is drawn anew in {times:.1f} ms.")
            waits = page.evaluate(SLIDE, [root.element_handle(), 12])
            print(f"A moved threshold is answered after {np.median(waits):.0f} ms (median of {len(waits)}).")


if __name__ == "__main__":
    main()
