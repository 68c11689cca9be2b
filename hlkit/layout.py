"""How a reel looks: shape, titles, fades, and where the game and the face cam lie in its pictures. Only planned here.

Shapes (pictures keep their height, and no pixel of the game is scaled, unless it says otherwise):

- `source`: as the recording is.
- `16:9`: as high as the recording; what is wider is cropped to its middle, what is narrower gets black bars.
- `9:16`: as wide as the recording's shorter side (1080x1920 for 1920x1080). The game is cropped to its middle and
  enlarged to fill the picture, or what the face cam leaves of it. The face cam stands above it, as wide as the picture
  and whole where that makes it a quarter to nearly half as high as the picture; else it gets a third, in its own
  proportions, on a blurred ground of its own.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from hlkit.cuts import Cut
from hlkit.gops import CutMode
from hlkit.project import HlkitError, format_time
from hlkit.sampling import Box, check_box

Shape = Literal["source", "16:9", "9:16"]

# What "auto" stands for, and what a title may ask for.
AUTO_TITLE = "{name} #{number}  {time}"
TITLE_FIELDS = ("name", "number", "time", "score")
# Long enough to be read, over before the highlight is.
TITLE_SECONDS = 2.0
# Longer, and it is no cut any more.
MAX_FADE_SECONDS = 5.0

# Of a vertical picture's height: what a face cam may take as it is, and what it gets else.
FACE_LEAST, FACE_MOST, FACE_USUAL = 0.25, 0.45, 1 / 3


@dataclass(frozen=True)
class Look:
    """What a reel looks like beside its cuts; the default changes nothing.

    Attributes:
        title: shown at the beginning of each cut, with `{name}` (the reel's), `{number}` (the cut's, from 1), `{time}`
            (of the recording) and `{score}`; `"auto"` is name, number and time.
        fade_seconds: by how much cuts overlap, one passing over into the next, 0 to 5.
        shape: of the pictures.
        face: where the face cam is in the recording (`x0, y0, x1, y1`, each 0 to 1), to stand above the game; with
            `9:16` only.

    Raises:
        HlkitError: when one of them can't be.
    """

    title: str | None = None
    fade_seconds: float = 0.0
    shape: Shape = "source"
    face: Box | None = None

    def __post_init__(self) -> None:
        if self.title is not None:
            _check_title(self.title)
        if not 0 <= self.fade_seconds <= MAX_FADE_SECONDS:
            reason = f"A fade of {self.fade_seconds:g} s can't be"
            raise HlkitError(f"{reason}. Give 0 (none) to {MAX_FADE_SECONDS:g} seconds, such as 0.3.")
        if self.shape not in get_args(Shape):
            raise HlkitError(f"The shape is '{self.shape}'; {', '.join(get_args(Shape))} are allowed.")
        if self.face is not None:
            check_box(self.face)
            if self.shape != "9:16":
                raise HlkitError(f"A face cam stands above the game only with shape 9:16, not '{self.shape}'.")

    @property
    def pattern(self) -> str | None:
        """The title's text, with its fields."""
        return AUTO_TITLE if self.title == "auto" else self.title

    def asks(self, field: str) -> bool:
        """Whether a title says `field`."""
        return self.pattern is not None and any(
            name == field for _, name, _, _ in string.Formatter().parse(self.pattern)
        )

    def fade_pictures(self, rate: Fraction) -> int:
        """How many pictures two neighbours share."""
        return round(Fraction(self.fade_seconds) * rate)

    def title_pictures(self, rate: Fraction) -> int:
        """How many pictures of a cut show its title, at most."""
        return 0 if self.title is None else round(Fraction(TITLE_SECONDS) * rate)

    def titles(self, cuts: Sequence[Cut], name: str) -> list[str]:
        """Each cut's title; none when there are no titles.

        Raises:
            HlkitError: when it asks for a score that a cut does not have.
        """
        if self.pattern is None:
            return []
        if self.asks("score") and any(cut.score is None for cut in cuts):
            raise HlkitError(
                "The title asks for {score}, and no score is known. Run `hlkit infer` first, or leave it out."
            )
        return [
            self.pattern.format(
                name=name,
                number=number,
                time=format_time(math.floor(cut.start)),
                score="" if cut.score is None else f"{cut.score:.2f}",
            )
            for number, cut in enumerate(cuts, 1)
        ]


PLAIN = Look()


def _check_title(title: str) -> None:
    allowed = ", ".join(f"{{{field}}}" for field in TITLE_FIELDS)
    problem = f"The title is '{title}'. Give one line of text, in which {allowed} may stand"
    try:
        fields = [(field, form, way) for _, field, form, way in string.Formatter().parse(title) if field is not None]
    except ValueError as error:
        raise HlkitError(f"{problem}.") from error
    if (
        not title.strip()
        or not title.isprintable()
        or any(field not in TITLE_FIELDS or form or way for field, form, way in fields)
    ):
        raise HlkitError(f"{problem}.")


def check_copying(cut: CutMode | None, overlay: str, look: Look) -> None:
    """Refuse to copy pictures as `cut` wants where they all have to be changed.

    Raises:
        HlkitError: with what to choose in its place.
    """
    if cut in (None, "encode"):
        return
    reason = None
    if overlay != "none":
        reason = f"Copied pictures can't have an overlay. Choose cut 'encode' in place of '{cut}', or no overlay."
    elif look.shape != "source":
        reason = (
            f"Copied pictures can't have another shape. Choose cut 'encode' in place of '{cut}', or shape 'source'."
        )
    elif cut == "keyframe" and (look.title is not None or look.fade_seconds):
        reason = "Titles and fades are encoded, and cut 'keyframe' encodes nothing. Choose cut 'smart' or 'encode'."
    if reason is not None:
        raise HlkitError(reason)


@dataclass(frozen=True)
class Layout:
    """Where things lie in the reel's pictures, in pixels: all even.

    Attributes:
        shape: as asked for.
        width: of the picture.
        height: of the picture.
        panel: height of the face cam's part, on top; 0 without one.
        face: width and height of the face cam's picture in the middle of that part.
    """

    shape: Shape
    width: int
    height: int
    panel: int = 0
    face: tuple[int, int] = (0, 0)

    @property
    def base(self) -> int:
        """What sizes of texts and margins are measured by."""
        return min(self.width, self.height)


def plan_layout(width: int, height: int, look: Look) -> Layout:
    """The layout of pictures from a recording of so many pixels."""
    if look.shape == "source":
        return Layout("source", width // 2 * 2, height // 2 * 2)
    if look.shape == "16:9":
        high = height // 2 * 2
        return Layout("16:9", _even(high * 16 / 9), high)
    wide = min(width, height) // 2 * 2
    high = _even(wide * 16 / 9)
    if look.face is None:
        return Layout("9:16", wide, high)
    x0, y0, x1, y1 = look.face
    aspect = (x1 - x0) * width / ((y1 - y0) * height)
    if FACE_LEAST <= wide / aspect / high <= FACE_MOST:
        panel = _even(wide / aspect)
        return Layout("9:16", wide, high, panel, (wide, panel))
    panel = _even(high * FACE_USUAL)
    face = min(wide, _even(panel * aspect)), min(panel, _even(wide / aspect))
    return Layout("9:16", wide, high, panel, face)


def _even(number: float) -> int:
    return max(2, round(number / 2) * 2)
