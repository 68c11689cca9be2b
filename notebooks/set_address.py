"""Put the repository's public address into every badge, link and install cell of the notebooks.

The address stands in one place, `Repository` in pyproject.toml. After changing it there, run: python notebooks/set_address.py
"""

import re
import tomllib
from pathlib import Path

NOTEBOOKS = Path(__file__).parent
COLAB = "https://colab.research.google.com/github/"


def repository() -> str:
    """The public address, such as `https://github.com/OWNER/hlkit`."""
    project = tomllib.loads((NOTEBOOKS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removesuffix("/")


def with_address(text: str, address: str) -> str:
    """The text of a notebook or page with every Colab link, GitHub page and install source pointing to `address`."""
    owner_and_name = address.removeprefix("https://github.com/")
    text = re.sub(rf"{re.escape(COLAB)}[^/\s\"]+/[^/\s\"]+/", f"{COLAB}{owner_and_name}/", text)
    text = re.sub(r"https://github\.com/[^/\s\"]+/[^/\s\"]+/blob/", f"{address}/blob/", text)
    return re.sub(r"git\+https://[^\s\"\\]+", f"git+{address}", text)


def main() -> None:
    """Rewrite the notebooks and the README in place, and name what changed."""
    for path in (*sorted(NOTEBOOKS.rglob("*.ipynb")), NOTEBOOKS.parent / "README.md"):
        before = path.read_text(encoding="utf-8")
        after = with_address(before, repository())
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.name)


if __name__ == "__main__":
    main()
