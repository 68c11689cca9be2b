"""Cuts whose pictures are mostly copied as they are coded: planned, written with encoded edges, and looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING

from hlkit.coded import Picture, Source, Sources, Style, Survey, UnsafeError, read_pictures, read_style, survey
from hlkit.cuts import Cut, Piece, merge_overlapping, picture_count
from hlkit.edges import Edge, decode, decoder
from hlkit.gops import CutMode, CutPlan, plan_cut, snap_outward
from hlkit.h264 import ParameterSets, is_idr, is_reference, split_units
from hlkit.mp4 import numbered_packets, open_part, write_pictures

if TYPE_CHECKING:
    from av.packet import Packet

# A cut of so many pictures is decoded whole to see whether it can be; of a longer one the first picture, and so many
# around each seam of copied and encoded ones.
WHOLE, NEAR = 300, 4


@dataclass(frozen=True)
class Splice:
    """What is known of a cut that is mostly copied: its plan, and where its pictures lie in the recording."""

    plan: CutPlan
    found: Survey


@dataclass(frozen=True)
class SplicePlan:
    """What becomes of the cuts of a reel.

    Attributes:
        pieces: where each cut comes from.
        cuts: what the reel shows; with `"keyframe"` longer than what was asked for, and sometimes fewer.
        splices: for each cut what is copied of it, None where it is encoded.
        style: of the pictures; None when all are encoded.
        reasons: why cuts that could have been copied are encoded, each with the number of such cuts.
    """

    pieces: tuple[Piece, ...]
    cuts: tuple[Cut, ...]
    splices: tuple[Splice | None, ...]
    style: Style | None
    reasons: dict[str, int] = field(default_factory=dict)


def plan_splices(
    sources: Sources, pieces: Sequence[Piece], cuts: Sequence[Cut], rate: Fraction, mode: CutMode
) -> SplicePlan:
    """Look at the coded pictures around each cut and plan what is copied; nothing is written.

    Raises:
        HlkitError: when a recording can't be read.
    """
    if mode == "encode":
        return SplicePlan(tuple(pieces), tuple(cuts), (None,) * len(cuts), None)
    try:
        style = read_style(sources.open(pieces[0].info.path), rate)
    except UnsafeError as reason:
        return SplicePlan(tuple(pieces), tuple(cuts), (None,) * len(cuts), None, {str(reason): len(cuts)})
    if mode == "keyframe":
        snapped = [_snapped(sources, style, piece, cut) for piece, cut in zip(pieces, cuts, strict=True)]
        pieces, cuts = merge_overlapping(pieces, snapped, rate)
    splices, reasons = [], Counter[str]()
    for piece, cut in zip(pieces, cuts, strict=True):
        splices.append(None)
        try:
            splices[-1] = _splice(sources, style, piece, cut)
        except UnsafeError as reason:
            reasons[str(reason)] += 1
    return SplicePlan(tuple(pieces), tuple(cuts), tuple(splices), style, dict(reasons))


def _splice(sources: Sources, style: Style, piece: Piece, cut: Cut) -> Splice | None:
    """What is copied of a cut; None when all of it lies within one GOP."""
    count = picture_count(cut, style.rate)
    source = sources.open(piece.info.path)
    found = survey(source, style, max(0.0, cut.start - piece.offset), count, to_keyframe=False)
    plan = plan_cut(found.pictures, count)
    if plan.reason is not None:
        raise UnsafeError(plan.reason)
    return Splice(plan, found) if plan.is_copied else None


def _snapped(sources: Sources, style: Style, piece: Piece, cut: Cut) -> Cut:
    """The cut, from keyframe to keyframe; as it is where it can't be copied, for which it is planned again."""
    count = picture_count(cut, style.rate)
    source = sources.open(piece.info.path)
    try:
        found = survey(source, style, max(0.0, cut.start - piece.offset), count, to_keyframe=True)
    except UnsafeError:
        return cut
    ends = snap_outward(found.pictures, count, to_end=found.to_end)
    if ends is None:
        return cut
    first, stop = (float(found.begin - source.origin + place / style.rate) + piece.offset for place in ends)
    return replace(cut, start=max(0.0, first), end=stop)


def write_splice(
    splice: Splice,
    source: Source,
    style: Style,
    cut: int,
    crf: int,
    target: Path,
    on_picture: Callable[[int], object] = lambda done: None,
) -> None:
    """Write the pictures of one cut to an MP4 without sound, and check it.

    Args:
        splice: what becomes of which picture.
        source: the recording.
        style: what the reel's pictures are like.
        cut: the cut's place in the reel.
        crf: quality of the edges.
        target: the file.
        on_picture: told how many pictures are written.

    Raises:
        UnsafeError: when the recording is not what it seemed, or what was written can't be decoded.
    """
    plan = splice.plan
    with ExitStack() as stack:
        ends = ((0, plan.copied), (plan.encoded, plan.count))
        head, tail = (stack.enter_context(Edge(style, cut, *edge, crf)) if edge[0] < edge[1] else None for edge in ends)
        sets = style.sets
        for edge in (head, tail):
            sets = sets if edge is None else sets | edge.sets
        pictures = _pictures(plan, read_pictures(source, style, splice.found), head, tail)
        write_pictures(target, _counted(pictures, on_picture), source.stream, sets, style.rate, plan.reorder)
    check(target, style, sets, plan)


def _pictures(plan: CutPlan, pictures: Iterable[Picture], head: Edge | None, tail: Edge | None) -> Iterator[Picture]:
    """The cut's pictures, in the order in which they are coded; what the edges show goes through them."""
    in_head = in_tail = False
    for picture in pictures:
        if picture.is_idr and head is not None and picture.number >= plan.copied:
            yield from head.finish()
            head = None
        in_head |= picture.is_idr and picture.number == plan.decoded
        in_tail |= picture.is_idr and picture.number == plan.last
        if in_head and head is not None:
            head.feed(picture)
        if plan.copied <= picture.number < plan.encoded:
            yield picture
        if in_tail and tail is not None:
            tail.feed(picture)
    yield from tail.finish() if tail is not None else ()


def _counted(pictures: Iterable[Picture], on_picture: Callable[[int], object]) -> Iterator[Picture]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        on_picture(done)


def check(video: Path, style: Style, sets: ParameterSets, plan: CutPlan) -> None:
    """Decode the beginning of a cut's file and what stands around its seams, or all of a short one.

    Raises:
        UnsafeError: when a picture is missing, damaged, or not where it belongs.
    """
    seams = [seam for seam in (plan.copied, plan.encoded) if 0 < seam < plan.count]
    near = {0, *(number for seam in seams for number in range(seam - NEAR, seam + NEAR))}
    wanted = {number for number in range(plan.count) if plan.count <= WHOLE or number in near}
    given, shown, numbers = set(), [], set()
    with decoder(style, sets, smooth=False) as context:
        for gop in _gops(video, style):
            numbers |= {number for number, _ in gop}
            last = max((place for place, (number, _) in enumerate(gop) if number in wanted), default=-1)
            for picture in starmap(_picture, gop[: last + 1]):
                if picture.number in wanted or picture.is_reference:
                    given.add(picture.number)
                    shown += [frame.pts for frame in decode(context, style, picture)]
        shown += [frame.pts for frame in decode(context, style, None)]
    if numbers != set(range(plan.count)) or shown != sorted(given):
        raise UnsafeError("what was copied can't be decoded")


def _picture(number: int, packet: Packet) -> Picture:
    data = bytes(packet)
    units = split_units(data, 4)
    return Picture(number, data, is_idr(units), is_reference(units))


def _gops(video: Path, style: Style) -> Iterator[list[tuple[int, Packet]]]:
    """The packets of a cut's file with their pictures' numbers, from one with which decoding can begin to the next."""
    gop: list[tuple[int, Packet]] = []
    with open_part(video) as (container, stream):
        for number, packet in numbered_packets(container, stream, style.rate):
            if packet.is_keyframe and gop:
                yield gop
                gop = []
            gop.append((number, packet))
    yield gop
