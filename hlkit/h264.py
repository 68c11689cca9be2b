"""What a coded H.264 picture is made of, as far as cutting and joining needs to know. Bytes only; nothing is decoded.

A picture is a row of *units* (NAL units). Transport streams separate them by start codes, MP4 and Matroska write each
one's length before it. The *parameter sets* (SPS of the sequence, PPS of the picture) carry numbers, by which pictures
name them: pictures of two encoders live in one file when their sets have different numbers.

Sources: Rec. ITU-T H.264 (7.3.1, 7.3.2.1.1, 7.3.2.2, 7.4.1.2.4, annex B); ISO/IEC 14496-15, 5.3.3.1 (`avcC`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hlkit.project import HlkitError

# Types of units, table 7-1.
IDR, SPS, PPS, SPS_EXTENSION = 5, 7, 8, 13
# Slices of pictures, whole or in partitions.
SLICES = range(1, 6)
# What only separates pictures: delimiters, ends, filling.
SEPARATORS = (9, 10, 11, 12)
# Profiles whose sequence set holds the chroma format and scaling lists.
HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# Numbers of sequence sets; those of picture sets go to 255, but an encoder gives both the same.
MAX_NUMBER = 31

_START_CODE = re.compile(b"\0\0\1")


def kind(unit: bytes) -> int:
    """The type of a unit, 1 to 31."""
    return unit[0] & 31


def split_units(data: bytes, length_size: int) -> list[bytes]:
    """The units of one picture: behind lengths of `length_size` bytes each, or between start codes where that is 0.

    Raises:
        HlkitError: when a length reaches past the end.
    """
    if not length_size:
        codes = list(_START_CODE.finditer(data))
        ends = [code.start() for code in codes[1:]] + [len(data)]
        # A start code may have more zeros before it, and no unit ends with one.
        units = [data[code.end() : end].rstrip(b"\0") for code, end in zip(codes, ends, strict=False)]
        return [unit for unit in units if unit]
    units, place = [], 0
    while place < len(data):
        begin = place + length_size
        place = begin + int.from_bytes(data[place:begin], "big")
        if place > len(data):
            raise HlkitError("A picture breaks off. Copy or download the recording again.")
        units.append(data[begin:place])
    return [unit for unit in units if unit]


def join_units(units: Iterable[bytes]) -> bytes:
    """One picture as MP4 stores it: each unit behind its length in four bytes."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def is_idr(units: Sequence[bytes]) -> bool:
    """Whether decoding can begin with this picture, and nothing after it needs anything before it."""
    return any(kind(unit) == IDR for unit in units)


def is_reference(units: Sequence[bytes]) -> bool:
    """Whether another picture may need this one."""
    return any(unit[0] & 0x60 for unit in units if kind(unit) in SLICES)


@dataclass(frozen=True)
class ParameterSets:
    """Sequence and picture sets by their numbers.

    Example: `ParameterSets.of(units) | ParameterSets.of(others)` holds both, when their numbers differ.
    """

    sequences: Mapping[int, bytes] = field(default_factory=dict)
    pictures: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, units: Iterable[bytes]) -> ParameterSets:
        """The sets among `units`."""
        units = list(units)
        sequences = {SequenceSet.read(unit).number: unit for unit in units if kind(unit) == SPS}
        pictures = {_Bits(unit[1:9]).unsigned(): unit for unit in units if kind(unit) == PPS}
        return cls(sequences, pictures)

    @classmethod
    def of_extradata(cls, extradata: bytes | None) -> tuple[ParameterSets, int]:
        """The sets that a container states once for all, and the `length_size` of its pictures (0: start codes).

        Raises:
            HlkitError: when there are none.
        """
        data = bytes(extradata or b"")
        if data[:1] != b"\1":
            sets = cls.of(split_units(data, 0))
            size = 0
        else:
            size = (data[4] & 3) + 1
            sets = cls.of(_listed(data))
        if not sets.sequences or not sets.pictures:
            raise HlkitError("The recording does not state how its pictures are coded.")
        return sets, size

    def __or__(self, other: ParameterSets) -> ParameterSets:
        """Both; raises HlkitError where they mean different things by one number."""
        if not self.agrees(other):
            raise HlkitError("Two encoders use the same number for different parameters. Make the reel again.")
        return ParameterSets({**self.sequences, **other.sequences}, {**self.pictures, **other.pictures})

    def agrees(self, other: ParameterSets) -> bool:
        """Whether no number means two things."""
        pairs = ((self.sequences, other.sequences), (self.pictures, other.pictures))
        return all(mine.get(number, unit) == unit for mine, its in pairs for number, unit in its.items())

    def free_numbers(self, count: int) -> list[int]:
        """Numbers that neither kind of set has, the highest first."""
        free = [n for n in range(MAX_NUMBER, -1, -1) if n not in self.sequences and n not in self.pictures]
        if len(free) < count:
            raise HlkitError("The recording uses all numbers of parameter sets.")
        return free[:count]

    def to_avcc(self) -> bytes:
        """The record with which MP4 states the sets, for lengths of four bytes."""
        sequences, pictures = (list(dict(sorted(sets.items())).values()) for sets in (self.sequences, self.pictures))
        # Profile and level of the highest sequence, so that none asks for more than is stated.
        first = max(sequences, key=lambda unit: (unit[1], unit[3]))
        parts = [bytes([1, first[1], first[2], first[3], 0xFF, 0xE0 | len(sequences)])]
        parts += [len(unit).to_bytes(2, "big") + unit for unit in sequences]
        parts += [bytes([len(pictures)]), *(len(unit).to_bytes(2, "big") + unit for unit in pictures)]
        if first[1] in HIGH_PROFILES:
            # 4:2:0, 8 bits, no extensions of sequence sets: all that is ever joined here.
            parts.append(bytes([0xFC | 1, 0xF8, 0xF8, 0]))
        return b"".join(parts)


def _listed(avcc: bytes) -> list[bytes]:
    """The sets in an `avcC` record."""
    units, place = [], 5
    for mask in (31, 255):
        if place >= len(avcc):
            break
        number, place = avcc[place] & mask, place + 1
        for _ in range(number):
            size = int.from_bytes(avcc[place : place + 2], "big")
            units.append(avcc[place + 2 : place + 2 + size])
            place += 2 + size
    return [unit for unit in units if unit]


@dataclass(frozen=True)
class SequenceSet:
    """What a sequence set says: its number, `profile` and `level` (10 times: 42 is 4.2), and how pictures are stored.

    `chroma` is 1 for 4:2:0; `bits` of a sample of brightness; `interlaced` when pictures may be fields.
    """

    number: int
    profile: int
    level: int
    chroma: int
    bits: int
    interlaced: bool

    @classmethod
    def read(cls, unit: bytes) -> SequenceSet:
        """Read it from its unit.

        Raises:
            HlkitError: when it breaks off.
        """
        # An encoder puts a 3 where zeros would look like a start code.
        bits = _Bits(unit[4:].replace(b"\0\0\3", b"\0\0"))
        profile, level, number = unit[1], unit[3], bits.unsigned()
        chroma, depth = 1, 8
        if profile in HIGH_PROFILES:
            chroma = bits.unsigned()
            if chroma == 3:
                bits.take(1)
            depth = 8 + bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for place in range(8 if chroma != 3 else 12):
                    if bits.take(1):
                        _skip_scaling(bits, 16 if place < 6 else 64)
        bits.unsigned()
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(bits.unsigned()):
                bits.signed()
        bits.unsigned()
        bits.take(1)
        bits.unsigned()
        bits.unsigned()
        return cls(number, profile, level, chroma, depth, interlaced=not bits.take(1))


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


class _Bits:
    """Bits from the left, and the numbers of variable length that are made of them (clause 9.1)."""

    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        begin, self._place = self._place, self._place + count
        if self._place > len(self._text):
            raise HlkitError("A parameter set breaks off. Copy or download the recording again.")
        return int(self._text[begin : self._place] or "0", 2)

    def unsigned(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)

    def signed(self) -> int:
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)
