"""Data flows one way: a module imports only from modules to its left in the list that CONTRIBUTING.md gives.

And a module is read in one sitting.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hlkit"
MOST_LINES = 400
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def listed():
    block = re.search(r"```flow\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert block is not None
    return re.findall(r"[a-z_0-9]+", block[1])


def imported(path):
    """The modules of hlkit that a file names in its imports, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hlkit":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in found if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()}


def test_every_module_is_listed_once():
    modules = {path.stem for path in PACKAGE.glob("[!_]*.py")} | PACKAGES
    assert sorted(listed()) == sorted(modules)


def test_a_module_imports_only_from_its_left():
    order = {name: place for place, name in enumerate(listed())}
    wrong = {
        f"{name} imports {other}"
        for name in order
        for path in (PACKAGE.glob(f"{name}/*.py") if name in PACKAGES else [PACKAGE / f"{name}.py"])
        for other in imported(path) - {name}
        if order[other] > order[name]
    }
    assert wrong == set()


def test_a_module_is_read_in_one_sitting():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
