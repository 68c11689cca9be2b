"""One page as HTML and as a picture: all text stays text, and both hold the same."""

import base64
import io
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hlkit.page import WIDTH, Heading, Paragraph, Picture, Table, page_html, page_picture, read_markdown, write_page
from hlkit.project import HlkitError

CARD = """# Model card: first

resnet18 on **single** frames
of 128 px.

| metric | value |
| --- | --- |
| a\\|b | 0.5 |
| c | - |

#### Deep
"""


def png(colour, size=(30, 20)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


class Reader(HTMLParser):
    """What a browser would see: texts by tag, and the attributes of pictures."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.pictures, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if data.strip() and self.open[-1:] != ["style"]:
            self.texts.append((self.open[-1], data))


def test_markdown_becomes_blocks():
    assert read_markdown(CARD) == [
        Heading("Model card: first", 1),
        Paragraph("resnet18 on single frames of 128 px."),
        Table(("metric", "value"), (("a|b", "0.5"), ("c", "-"))),
        Heading("Deep", 3),
    ]
    assert [block.level for block in read_markdown(CARD, under=1) if isinstance(block, Heading)] == [2, 3]


def test_the_html_holds_everything_and_fetches_nothing():
    picture = Picture(png("red"), 'a "red" one')
    table = Table(("", "AP"), (("hlkit", "0.815"), ("random", "0.247")))
    page = page_html([Heading("Scorecard of 'x'", 1), Paragraph("1 < 2 & 3"), table, picture])
    read = Reader(page)
    assert read.texts == [
        ("title", "Scorecard of 'x'"),
        ("h1", "Scorecard of 'x'"),
        ("p", "1 < 2 & 3"),
        ("th", "AP"),
        *[("td", text) for text in ("hlkit", "0.815", "random", "0.247")],
    ]
    (shown,) = read.pictures
    assert shown["alt"] == 'a "red" one'
    assert base64.b64decode(shown["src"].removeprefix("data:image/png;base64,")) == picture.png
    assert not re.search(r"https?:|<script|<link", page)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1))
def test_text_never_becomes_markup(text):
    text = f"<script>{text}</script>"
    page = page_html([Heading(text, 1), Paragraph(text), Table((text,), ((text,),)), Picture(png("red"), text)])
    assert page.count("<script") == 0
    assert page.count("&lt;script&gt;") == 6
    assert unescape(re.search("<p>(.*?)</p>", page, re.DOTALL)[1]) == text
    assert "<script>" not in page_html(read_markdown(f"{text}\n\n<script>alert(1)</script>"))


def test_the_picture_is_as_wide_as_promised_and_holds_what_it_is_given():
    wide, narrow = Picture(png("red", (4000, 100)), "wide"), Picture(png("blue", (50, 50)), "narrow")
    page = np.asarray(page_picture([Heading("Title", 1), wide, narrow]))
    assert page.shape[1] == WIDTH
    red, blue = ((page == colour).all(axis=2) for colour in ((255, 0, 0), (0, 0, 255)))
    assert red.any(axis=0).sum() == WIDTH - 120
    assert blue.sum() == 50 * 50
    assert not page[:, :60].min() < 255
    assert (page[60:110, 60:300] < 100).any()


def test_a_wide_table_takes_smaller_letters_and_stays_inside():
    few = page_picture([Table(("a", "b"), (("1", "2"),))])
    many = page_picture([Table(tuple(f"column {n}" for n in range(14)), (("0.123",) * 14,))])
    assert many.height < few.height
    assert not (np.asarray(many)[:, -60:] < 255).any()


def test_a_long_last_cell_wraps():
    short, long = (page_picture([Table(("a", "b"), (("1", "word " * count),))]) for count in (5, 100))
    assert long.height > short.height
    unbroken = page_picture([Paragraph("x" * 1000)])
    assert unbroken.height > page_picture([Paragraph("x")]).height
    assert not (np.asarray(unbroken)[:, -60:] < 255).any()


def test_a_page_is_written_whole(tmp_path):
    paths = write_page([Heading("a.b", 1)], tmp_path / "vod.1-report.html")
    assert [path.name for path in paths] == ["vod.1-report.html", "vod.1-report.png"]
    assert sorted(tmp_path.iterdir()) == paths
    assert Image.open(paths[1]).width == WIDTH


def test_blocks_that_cannot_be():
    with pytest.raises(HlkitError, match="2 cells does not fit 1 columns"):
        Table(("a",), (("1", "2"),))
    with pytest.raises(HlkitError, match="level 4"):
        Heading("x", 4)


def test_a_cell_is_one_line_in_both_forms():
    table = Table(("first\nhead", "b"), (("one\r\ntwo", "three\tfour\v"),))
    assert table == Table(("first head", "b"), (("one two", "three four"),))
    assert page_picture([table]).width == WIDTH
    assert "<td>one two</td>" in page_html([table])


def test_a_table_without_a_column_is_refused():
    with pytest.raises(HlkitError, match="A table has no column"):
        Table((), ())
