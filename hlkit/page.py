"""A report on one page: the same blocks as one HTML file that needs nothing beside it, and as one PNG picture.

A page is a list of blocks in reading order. All text stays text: nothing in a title, a label or a model card becomes
markup, and nothing is fetched when the page is opened.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hlkit.project import HlkitError, atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Wide enough for a timeline; at this width text of this size reads well beside it.
WIDTH, MARGIN, TEXT_PIXELS = 1500, 60, 20
INNER_WIDTH = WIDTH - 2 * MARGIN
HEADING_PIXELS = {1: 40, 2: 28, 3: 22}
LINE_HEIGHT = 1.5
# A table keeps its letters larger than this, and its last column this many letters wide, or it is cut off.
LEAST_PIXELS, LEAST_WRAPPED = 11, 30
# Between columns, in heights of a letter.
CELL_GAP = 1.3
BLACK, RULE = "#1a1a1a", "#cccccc"
FIGURE = re.compile(r"[-+]?[0-9][0-9.,]*%?|-")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 1.6em 0 .4em; } h1 { margin-top: 0; }
table { border-collapse: collapse; margin: .6em 0; display: block; overflow-x: auto; }
th, td { padding: .25em .9em; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.text { white-space: normal; } p { max-width: 75ch; } img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of a level from 1 (the page's) to 3."""

    text: str
    level: int = 2

    def __post_init__(self) -> None:
        if self.level not in HEADING_PIXELS:
            raise HlkitError(f"A heading has level {self.level}; 1 to {max(HEADING_PIXELS)} are allowed.")


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


def _lines(cells: Sequence[str]) -> tuple[str, ...]:
    """Each cell on one line; what breaks a line becomes a space."""
    return tuple(" ".join(cell.split()) for cell in cells)


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header. A column of figures stands on the right. A cell is one line of text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.header:
            raise HlkitError("A table has no column. Give a header of one cell or more.")
        object.__setattr__(self, "header", _lines(self.header))
        object.__setattr__(self, "rows", tuple(_lines(row) for row in self.rows))
        if wrong := [row for row in self.rows if len(row) != len(self.header)]:
            raise HlkitError(f"A row of {len(wrong[0])} cells does not fit {len(self.header)} columns.")

    def is_numeric(self, column: int) -> bool:
        """Whether each of its cells is a number, a percentage or a dash for none."""
        return bool(self.rows) and all(FIGURE.fullmatch(row[column]) for row in self.rows)


@dataclass(frozen=True, repr=False)
class Picture:
    """A PNG, and in words what it shows."""

    png: bytes
    words: str


Block = Heading | Paragraph | Table | Picture


def picture_of(figure: Figure, words: str, *, dpi: int = 125) -> Picture:
    """A figure as a block; `words` say what it shows, for those who don't see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Picture(buffer.getvalue(), words)


def read_markdown(text: str, *, under: int = 0) -> list[Block]:
    """The headings, paragraphs and tables of Markdown, with their plain text.

    Args:
        text: CommonMark with tables.
        under: the level of the heading that they stand under; a level below 3 becomes 3.
    """
    from markdown_it import MarkdownIt

    blocks: list[Block] = []
    rows: list[list[str]] = []
    inside = ""
    for token in MarkdownIt("commonmark", {"html": False}).enable("table").parse(text):
        if token.type in ("heading_open", "paragraph_open", "th_open", "td_open"):
            inside = token.type.removesuffix("_open") + token.tag
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "table_close":
            header, *body = (tuple(row) for row in rows)
            blocks.append(Table(header, tuple(body)))
            rows = []
        elif token.type == "inline":
            words = "".join(child.content or " " * (child.type == "softbreak") for child in token.children or ())
            if inside.startswith("heading"):
                blocks.append(Heading(words, min(under + int(inside[-1]), 3)))
            elif rows:
                rows[-1].append(words)
            else:
                blocks.append(Paragraph(words))
    return blocks


def page_html(blocks: Sequence[Block]) -> str:
    """The page as HTML: one file, pictures inside. Its title is the first heading's."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "hlkit")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(_html(block) for block in blocks)
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Picture):
        data = base64.b64encode(block.png).decode()
        return f'<p><img src="data:image/png;base64,{data}" alt="{escape(block.words)}"></p>'
    kinds = [' class="number"' if block.is_numeric(column) else "" for column in range(len(block.header))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, block.header, strict=True))
    rows = []
    for row in block.rows:
        texts = [kind or (' class="text"' if len(cell) > 40 else "") for kind, cell in zip(kinds, row, strict=True)]
        rows.append("".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(texts, row, strict=True)))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def page_picture(blocks: Sequence[Block]) -> Image:
    """The page as one picture, 1,500 pixels wide and as high as it needs."""
    from PIL import Image

    parts = [_draw(block) for block in blocks]
    page = Image.new("RGB", (WIDTH, 2 * MARGIN + sum(part.height for part in parts)), "white")
    top = MARGIN
    for part in parts:
        page.paste(part, (MARGIN, top))
        top += part.height
    return page


def write_page(blocks: Sequence[Block], target: Path) -> list[Path]:
    """Write `target` as `.html` and as `.png`, each whole or not at all; return both paths."""
    paths = [target.with_suffix(".html"), target.with_suffix(".png")]
    write_text(paths[0], page_html(blocks))
    with atomic_path(paths[1]) as temporary:
        page_picture(blocks).save(temporary, format="PNG")
    return paths


def _draw(block: Block) -> Image:
    """One block as a picture of the page's inner width, with the space below it."""
    if isinstance(block, Heading):
        return _text(block.text, HEADING_PIXELS[block.level], bold=True, above=0 if block.level == 1 else 18)
    if isinstance(block, Paragraph):
        return _text(block.text, TEXT_PIXELS)
    if isinstance(block, Table):
        return _table(block)
    from PIL import Image

    with Image.open(io.BytesIO(block.png)) as picture:
        shown = picture.convert("RGB")
    width = min(shown.width, INNER_WIDTH)
    return shown.resize((width, round(shown.height * width / shown.width)), Image.Resampling.LANCZOS)


def _text(text: str, pixels: int, *, bold: bool = False, above: int = 0) -> Image:
    font = _font(pixels, bold)
    lines, step = _wrap(text, font, INNER_WIDTH), round(pixels * LINE_HEIGHT)
    picture, draw = _canvas(above + step * len(lines) + pixels // 2)
    for number, line in enumerate(lines):
        draw.text((0, above + number * step), line, font=font, fill=BLACK)
    return picture


class _Columns(NamedTuple):
    """How a table is set: its letters, and where each column begins and how wide it is, in pixels."""

    font: FreeTypeFont
    header_font: FreeTypeFont
    begins: list[int]
    widths: list[float]

    @property
    def last_width(self) -> float:
        """Of the last column, which may wrap."""
        return min(self.widths[-1], max(INNER_WIDTH - self.begins[-1], LEAST_WRAPPED * self.font.size))


def _columns(table: Table, pixels: int) -> _Columns:
    font, header_font = _font(pixels, bold=False), _font(pixels, bold=True)
    cells = list(zip(table.header, *table.rows, strict=True))
    widths = [max(header_font.getlength(head), *map(font.getlength, rest), 0.0) for head, *rest in cells]
    begins = [round(sum(widths[:place]) + pixels * CELL_GAP * place) for place in range(len(widths))]
    return _Columns(font, header_font, begins, widths)


def _table(table: Table) -> Image:
    """Columns as wide as their cells, in smaller letters where they would not fit; the last one wraps."""
    sizes = [_columns(table, pixels) for pixels in range(TEXT_PIXELS, LEAST_PIXELS - 1, -1)]
    chosen = next((size for size in sizes if size.begins[-1] + size.last_width <= INNER_WIDTH), sizes[-1])
    step = round(chosen.font.size * LINE_HEIGHT)
    rows = [(table.header, chosen.header_font), *((row, chosen.font) for row in table.rows)]
    heights = [step * len(_wrap(row[-1], font, chosen.last_width)) for row, font in rows]
    picture, draw = _canvas(sum(heights) + TEXT_PIXELS)
    top = 0
    for (row, font), height in zip(rows, heights, strict=True):
        for place, cell in enumerate(row):
            lines = _wrap(cell, font, chosen.last_width) if place == len(row) - 1 else [cell]
            for number, line in enumerate(lines):
                shift = chosen.widths[place] - font.getlength(line) if table.is_numeric(place) else 0
                draw.text((chosen.begins[place] + shift, top + number * step), line, font=font, fill=BLACK)
        top += height
        draw.line((0, top - 3, chosen.begins[-1] + chosen.last_width, top - 3), fill=RULE)
    return picture


def _canvas(height: int) -> tuple[Image, ImageDraw]:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (INNER_WIDTH, height), "white")
    return picture, ImageDraw.Draw(picture)


def _font(pixels: int, bold: bool) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    # Matplotlib brings this font along, so none needs to be installed.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / name), pixels)


def _wrap(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """The text in lines that fit, broken between words; a word that is wider than a line is broken itself."""
    lines = [""]
    for word in text.split():
        while font.getlength(word) > width and len(word) > 1:
            fits = next(
                size for size in range(len(word) - 1, 0, -1) if size == 1 or font.getlength(word[:size]) <= width
            )
            lines, word = [*lines, word[:fits]], word[fits:]
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= width else [*lines, word]
    return lines if lines[0] or len(lines) == 1 else lines[1:]
