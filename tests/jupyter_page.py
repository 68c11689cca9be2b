"""A real JupyterLab with a real Chromium in front of it, for the tests of the widget and for measuring it.

Debian's Chromium (`apt-get install chromium`) is driven by Playwright; another one is named by `HLKIT_CHROMIUM`.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import nbformat

CHROMIUM = os.environ.get("HLKIT_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "for-the-test"


def missing():
    """Why the page can't be tested here; empty when it can."""
    for module in ("playwright", "jupyterlab", "anywidget"):
        try:
            __import__(module)
        except ImportError:
            return f'{module} is not installed (pip install -e ".[test]")'
    return "" if Path(CHROMIUM).is_file() else f"there is no Chromium at {CHROMIUM} (apt-get install chromium)"


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells, ready to run with the Python of this process."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@contextmanager
def jupyterlab(folder: Path, *, python: str = sys.executable):
    """Serve `folder` for the time of the block, with settings of its own; yields the address."""
    home = folder / ".jupyter-home"
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--port=0",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [python, "-m", "jupyterlab", *options]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            raise AssertionError("JupyterLab did not start:\n" + "".join(said))
        # Whoever writes to a pipe that nobody reads waits for ever.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait()
        drain.wait()


@contextmanager
def chromium(**options):
    """A page of a fresh browser; `options` are those of Playwright's `new_page`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 1000}, **options})
        page.set_default_timeout(60_000)
        try:
            yield page
        finally:
            browser.close()


def open_notebook(page, address: str, name: str) -> None:
    """Open a notebook in JupyterLab and wait for its kernel."""
    # A workspace of its own: in the usual one, notebooks of earlier pages are open too.
    page.goto(f"{address}/lab/workspaces/{Path(name).stem}/tree/{name}?token={TOKEN}")
    page.locator(".jp-Notebook").wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def run_cell(page, number: int) -> None:
    """Run one code cell as a person does, and wait until Python is done with it."""
    cell = page.locator(".jp-CodeCell").nth(number)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]")).wait_for()
