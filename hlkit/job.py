"""The job of a reel: everything that its content depends on, and what follows from that."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from fractions import Fraction

from hlkit.cuts import Cut, Piece, picture_count, reel_rate
from hlkit.gops import CutMode
from hlkit.layout import Look, plan_layout
from hlkit.overlay import ScoreTexts
from hlkit.parts import ReelPart, check_fade, plan_parts, reel_places
from hlkit.project import HlkitError, fingerprint, format_time
from hlkit.rendering import Drawing
from hlkit.soundtrack import sound_samples
from hlkit.video import find_ffmpeg


@dataclass(frozen=True)
class Job:
    """A reel to be made: cuts of pieces of recordings, `mode` and `crf` as for `hlkit.reel.write_reel`.

    `texts` are scores to be drawn, `titles` one for each cut or none.
    """

    pieces: tuple[Piece, ...]
    cuts: tuple[Cut, ...]
    mode: CutMode
    crf: int
    texts: ScoreTexts | None
    look: Look
    titles: tuple[str, ...]

    @property
    def rate(self) -> Fraction:
        """Pictures a second of the reel."""
        return reel_rate(self.pieces[0].info)

    @property
    def fade(self) -> int:
        """How many pictures two neighbours share."""
        return self.look.fade_pictures(self.rate)

    @property
    def drawing(self) -> Drawing:
        """What is drawn on the pictures, and where."""
        info, look = self.pieces[0].info, self.look
        layout = plan_layout(info.width, info.height, look)
        return Drawing(self.rate, layout, look.face, self.texts, look.title_pictures(self.rate), self.crf)

    @property
    def has_audio(self) -> bool:
        """Whether any piece has sound."""
        return any(piece.info.has_audio for piece in self.pieces)

    def parts(self) -> tuple[ReelPart, ...]:
        """The parts of the reel, see `hlkit.parts.plan_parts`."""
        # Where all is encoded, a cut with a title needs no seam.
        titled = self.look.title_pictures(self.rate) if self.mode == "smart" else 0
        return plan_parts(self.counts(), fade=self.fade, titled=titled)

    def stretch(self, part: ReelPart) -> Cut:
        """The stretch of the recording that a part shows."""
        cut = self.cuts[part.cut]
        if (part.first, part.stop) == (0, picture_count(cut, self.rate)):
            return cut
        first, stop = (float(Fraction(cut.start) + number / self.rate) for number in (part.first, part.stop))
        return Cut(first, stop, cut.score)

    def sound(self) -> tuple[list[int], list[int]]:
        """How many samples each cut has, and with which sample of the reel it begins."""
        counts = self.counts()
        places = reel_places(counts, self.fade)
        begins = [sound_samples(place, self.rate) for place in places]
        ends = [sound_samples(place + count, self.rate) for place, count in zip(places, counts, strict=True)]
        return [end - begin for begin, end in zip(begins, ends, strict=True)], begins

    def counts(self) -> list[int]:
        """How many pictures each cut has.

        Raises:
            HlkitError: when a cut lies outside the recording or is shorter than a picture.
        """
        counts = [picture_count(cut, self.rate) for cut in self.cuts]
        for cut, count, piece in zip(self.cuts, counts, self.pieces, strict=True):
            if count < 1:
                shortest = f"{float(1 / self.rate):.3f} s"
                raise HlkitError(f"The cut {cut} is shorter than a picture, which lasts {shortest}. Give a longer one.")
            if cut.end - piece.offset > piece.info.duration + 1 / self.rate:
                length = format_time(piece.info.duration, decimals=3)
                raise HlkitError(f"The cut {cut} does not lie in the recording, which is {length} long. Plan it anew.")
        check_fade(counts, self.fade, self.rate)
        return counts

    def key(self) -> str:
        """16 hex digits: the same job gives the same reel."""
        cuts = [[cut.start, cut.end] for cut in self.cuts]
        files = {piece.info.path: fingerprint(piece.info.path) for piece in set(self.pieces)}
        pieces = [[files[piece.info.path], piece.offset] for piece in self.pieces]
        looks = [self.texts and astuple(self.texts), astuple(self.look), self.titles]
        return hashlib.sha256(
            json.dumps([pieces, cuts, self.mode, self.crf, looks, find_ffmpeg()]).encode()
        ).hexdigest()[:16]
