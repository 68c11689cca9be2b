"""What every notebook needs around the stages: a look at the machine, the project, secrets, and results on the page."""

from __future__ import annotations

import io
import os
import platform
import shutil
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hlkit import demo
from hlkit.project import HlkitError, Project, free_disk, plain_words

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from hlkit.widgets.box_widget import BoxWidget
    from hlkit.widgets.span_widget import SpanWidget

# A video goes into the page as text, a third larger than its file; more than this makes the browser slow.
MAX_EMBEDDED_BYTES = 25_000_000

Place = Literal["try it", "folder", "Google Drive", "Cloudflare R2"]
R2_SECRETS = ("R2_ACCOUNT_ID", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")

CPU_NOTE = "No GPU: all works, training is slower. In Colab: Runtime > Change runtime type > T4 GPU, then Run all."


def in_colab() -> bool:
    """Whether the notebook runs in Google Colab."""
    return "COLAB_RELEASE_TAG" in os.environ


def ready(*, wants_gpu: bool = False) -> None:
    """Print versions, processor, GPU and free disk, and make hlkit's errors appear as one plain sentence.

    Args:
        wants_gpu: say how to get a GPU when there is none.
    """
    _show_errors_plainly()
    gpu = _gpu_name()
    print(f"hlkit {version('hlkit')}, torch {version('torch')}, Python {platform.python_version()}")
    disk = free_disk(projects_folder()) / 1e9
    print(f"{os.cpu_count()} processor cores, GPU: {gpu or 'none'}, free disk: {disk:.0f} GB")
    if wants_gpu and gpu is None:
        print(CPU_NOTE)


def _gpu_name() -> str | None:
    # Asked from the driver's own program: importing torch would cost seconds where nothing is left to do.
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    answer = subprocess.run([program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    return answer.stdout.strip().splitlines()[0] if answer.returncode == 0 and answer.stdout.strip() else None


def _show_errors_plainly() -> None:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        return

    def show(shell: Any, kind: type[BaseException], error: BaseException, trace: Any, tb_offset: Any = None) -> None:
        text = "Stopped. Run the cell again to go on." if kind is KeyboardInterrupt else plain_words(error)
        print(f"\n{text or ''.join(traceback.format_exception(error))}", file=sys.stderr)

    shell.set_custom_exc((HlkitError, OSError, KeyboardInterrupt), show)


def projects_folder() -> Path:
    """Where projects are kept: `HLKIT_HOME`, else `/content` in Colab, else `hlkit` in the home folder."""
    default = Path("/content") if in_colab() else Path.home() / "hlkit"
    return Path(os.environ.get("HLKIT_HOME", default))


def open_project(name: str, *, needs: demo.Step | None = None) -> Project:
    """Open the project of that name; while it has no videos of its own, prepare the demo up to what the notebook needs.

    Args:
        name: the project's name, the one thing that each notebook asks for.
        needs: the last stage that must be done before this notebook starts.

    Raises:
        HlkitError: for an empty name or one that is a path.
    """
    if not name.strip() or Path(name).name != name.strip():
        raise HlkitError(f"'{name}' can't be a project's name: use letters, digits and '-', such as my-stream.")
    project = Project(projects_folder() / name.strip())
    print(f"Project {project.root}")
    _reach_store(str(project.settings().get("store", "")))
    if needs is not None and demo.is_demo(project):
        print("It has no videos of its own: the demo recordings are used.")
        demo.run(project, until=needs)
    return project


def load_secrets(names: Sequence[str]) -> list[str]:
    """Copy secrets from Colab's secret store (the key symbol at the left) into the environment; return what is missing.

    A value is never printed. Outside Colab the environment alone counts.
    """
    for name in names:
        if not os.environ.get(name) and in_colab() and find_spec("google.colab"):
            from google.colab import userdata  # pyright: ignore[reportMissingImports]

            try:
                os.environ[name] = userdata.get(name)
            except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
                continue
    return [name for name in names if not os.environ.get(name)]


def names(text: str) -> list[str]:
    """The names in a form's field, separated by commas or spaces; an empty field has none."""
    return text.replace(",", " ").split()


def choose_store(project: Project, place: Place, name: str = "") -> str:
    """The address of the place that a form names, ready to be used.

    Args:
        project: the project's own folder name becomes the last part of the address.
        place: "try it" (a folder beside the project), "folder", "Google Drive" (mounted when needed) or "Cloudflare R2"
            (its secrets are loaded).
        name: the folder, the folder in Drive, or the bucket (also as `r2://bucket/prefix`).

    Raises:
        HlkitError: says in plain words what is missing.
    """
    name = name.strip()
    if place == "try it":
        return f"{project.root}-store"
    if place == "folder":
        if not name:
            raise HlkitError("Type the folder's name in the form, such as /media/usb/hlkit, or choose 'try it'.")
        return str(Path(name).expanduser() / project.root.name)
    if place == "Google Drive":
        return str(_drive() / (name or "hlkit") / project.root.name)
    if missing := [secret for secret in load_secrets(R2_SECRETS) if secret not in _unneeded()]:
        steps = (
            "In Colab: key symbol at the left, add them there and switch on their access; elsewhere: set them in the"
        )
        raise HlkitError(f"R2 needs {' and '.join(missing)}. {steps} environment. Step by step: notebooks/R2.md.")
    if not name:
        raise HlkitError("Type your bucket's name in the form, such as my-streams. How to make one: notebooks/R2.md.")
    return name if "://" in name else f"r2://{name.strip('/')}/{project.root.name}"


def _unneeded() -> list[str]:
    # Another S3 server is named by its address, and has no account id.
    return ["R2_ACCOUNT_ID"] if os.environ.get("HLKIT_S3_ENDPOINT") else []


def _reach_store(address: str) -> None:
    """Make the project's store usable on a new runtime: without Drive mounted, its folder would be an ordinary one."""
    if address.startswith("r2://"):
        load_secrets(R2_SECRETS)
    elif address.startswith("/content/drive/") and in_colab() and not Path("/content/drive/MyDrive").exists():
        _drive()


def _drive() -> Path:
    if not (in_colab() and find_spec("google.colab")):
        raise HlkitError("Google Drive opens in Colab alone. Choose 'folder' and name the one that Drive syncs here.")
    from google.colab import drive  # pyright: ignore[reportMissingImports]

    drive.mount("/content/drive")
    return Path("/content/drive/MyDrive")


def offer(file: Path, *, download: bool) -> None:
    """Send a file to the reader's computer in Colab; elsewhere say where it lies."""
    if download and in_colab() and find_spec("google.colab"):
        from google.colab import files  # pyright: ignore[reportMissingImports]

        files.download(str(file))
    else:
        print(f"{file} ({file.stat().st_size / 1e6:,.1f} MB)")


def show(*results: Path | Figure | pl.DataFrame | SpanWidget | BoxWidget | str) -> None:
    """Show pictures, videos, charts, tables, widgets and Markdown on the page; a video too large is named instead."""
    from IPython.display import Image, Markdown, Video, display

    for result in results:
        if isinstance(result, str):
            display(Markdown(result))
        elif not isinstance(result, Path):
            display(Image(_png(result)) if hasattr(result, "savefig") else result)
        elif result.suffix == ".png":
            display(Image(str(result)))
        elif result.stat().st_size <= MAX_EMBEDDED_BYTES:
            display(Video(str(result), embed=True, width=640))
        else:
            print(f"{result} ({result.stat().st_size / 1e6:,.0f} MB): open it from the file browser at the left.")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def end_runtime() -> None:
    """Give Colab's machine back, so that it uses up no more compute units. Does nothing elsewhere."""
    if in_colab() and find_spec("google.colab"):
        from google.colab import runtime  # pyright: ignore[reportMissingImports]

        runtime.unassign()
