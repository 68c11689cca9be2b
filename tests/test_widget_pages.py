"""The JavaScript files that a widget's page is put together of."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hlkit.widgets.box_widget import BoxWidget
from hlkit.widgets.pages import BOX_FILES, SPAN_FILES, page_module
from hlkit.widgets.span_widget import SpanWidget

FOLDER = Path(__file__).parent.parent / "hlkit" / "widgets"


def twice(pattern, text):
    return [name for name, count in Counter(re.findall(pattern, text, flags=re.MULTILINE)).items() if count > 1]


@pytest.mark.parametrize(("widget", "files"), [(SpanWidget, SPAN_FILES), (BoxWidget, BOX_FILES)])
def test_a_page_is_its_files_one_behind_another(widget, files):
    page = str(widget._esm)
    assert page == page_module(*files) == "\n".join((FOLDER / name).read_text("utf-8") for name in files)
    assert page.count("export default") == 1
    assert "\nimport " not in page


def test_every_file_is_part_of_a_page():
    assert {path.name for path in FOLDER.glob("*.js")} == {*SPAN_FILES, *BOX_FILES}


@pytest.mark.parametrize("files", [SPAN_FILES, BOX_FILES])
def test_no_name_is_given_twice(files):
    page = page_module(*files)
    assert twice(r"^(?:export )?(?:async )?(?:const|let|function|class) (\w+)", page) == []
    # What is given to a view would silently replace what it has under the same name.
    view = page_module(*(name for name in files if name != "span_pictures.js"))
    assert set(twice(r"^  (?:get |async )?(\w+)\(.*\{$", view)) <= {"constructor", "destroy", "if", "for"}
