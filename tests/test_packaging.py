"""What a wheel holds, and that requirements stand in one list."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from hlkit.widgets.pages import BOX_FILES, SPAN_FILES

ROOT = Path(__file__).parent.parent


def test_requirements_stand_in_one_list_of_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert "dependencies" not in project["project"]
    lines = (ROOT / "requirements.txt").read_text().split()
    assert all(">=" in line and "==" not in line and "<" not in line for line in lines)
    assert {"torch", "torchvision"} <= {line.split(">=")[0] for line in lines}


def test_every_package_is_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("hlkit/**/__init__.py")}
    assert listed == there | {"hlkit.demo_data"}


@pytest.mark.slow
def test_a_wheel_brings_the_demo_recordings_and_the_page_of_the_widget(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("hlkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = "import hlkit, hlkit.cli; from hlkit.demo import demo_folder; print(hlkit.__file__, demo_folder())"
    # -P: the checkout's own hlkit must not stand in for the wheel's.
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    package = tmp_path / "site" / "hlkit"
    assert done.stdout.split() == [str(package / "__init__.py"), str(package / "demo_data")]
    pages = [path.name for path in (ROOT / "hlkit" / "widgets").iterdir() if path.suffix in (".js", ".css")]
    assert {*SPAN_FILES, *BOX_FILES} < set(pages)
    for name in pages:
        assert (package / "widgets" / name).read_bytes() == (ROOT / "hlkit" / "widgets" / name).read_bytes()
    for name in ("demo_a.mp4", "demo_a.csv", "demo_b.mp4", "demo_b.csv", "demo_faces.txt", "LICENSE-FREEDOOM.txt"):
        assert (package / "demo_data" / name).read_bytes() == (ROOT / "data" / "demo" / name).read_bytes()
