"""The units and parameter sets of H.264, held against what x264 writes and ffmpeg reads."""

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.h264 import IDR, PPS, SPS, ParameterSets, SequenceSet, is_idr, is_reference, join_units, kind, split_units
from hlkit.project import HlkitError


def encoded(width=64, height=64, pix_fmt="yuv420p", **options) -> tuple[bytes, list[bytes]]:
    """What x264 says about ten pictures, and the pictures, between start codes."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, pix_fmt
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.flags |= av.codec.context.Flags.global_header
    context.options = {"preset": "veryfast", **options}
    packets = []
    for number in range(10):
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), number * 20, np.uint8)).reformat(format=pix_fmt)
        frame.pts = number
        packets += context.encode(frame)
    return bytes(context.extradata), [bytes(packet) for packet in packets + context.encode(None)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, SequenceSet(0, 100, 10, 1, 8, False)),
        ({"x264-params": "sps-id=7"}, SequenceSet(7, 100, 10, 1, 8, False)),
        ({"x264-params": "sps-id=31", "profile": "main"}, SequenceSet(31, 77, 10, 1, 8, False)),
        ({"profile": "baseline", "level": "4.2"}, SequenceSet(0, 66, 42, 1, 8, False)),
        ({"x264-params": "interlaced=1"}, SequenceSet(0, 100, 21, 1, 8, True)),
        ({"pix_fmt": "yuv422p"}, SequenceSet(0, 122, 10, 2, 8, False)),
        ({"pix_fmt": "yuv444p"}, SequenceSet(0, 244, 10, 3, 8, False)),
        ({"pix_fmt": "yuv420p10le"}, SequenceSet(0, 110, 10, 1, 10, False)),
        ({"x264-params": "cqm=jvt"}, SequenceSet(0, 100, 10, 1, 8, False)),
    ],
)
def test_a_sequence_set_says_what_the_encoder_was_told(options, expected):
    extradata, _ = encoded(**options)
    sets, length_size = ParameterSets.of_extradata(extradata)
    assert length_size == 0
    (unit,) = sets.sequences.values()
    assert SequenceSet.read(unit) == expected
    assert list(sets.sequences) == list(sets.pictures) == [expected.number]
    with pytest.raises(HlkitError, match="breaks off"):
        SequenceSet.read(unit[:5])


def test_which_pictures_others_need():
    _, packets = encoded(bf="2", b_strategy="0")
    pictures = [split_units(packet, 0) for packet in packets]
    assert [is_idr(units) for units in pictures] == [True] + [False] * 9
    types = [is_reference(units) for units in pictures]
    assert types.count(False) >= 3
    assert types[0]


def test_the_record_is_the_one_that_ffmpeg_writes():
    with av.open(target := BytesIO(), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"preset": "veryfast"}
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)).reformat(format="yuv420p")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(BytesIO(target.getvalue())) as container:
        written = bytes(container.streams.video[0].codec_context.extradata)
        data = bytes(next(container.demux(video=0)))
    sets, length_size = ParameterSets.of_extradata(written)
    assert length_size == 4
    assert sets.to_avcc() == written
    assert is_idr(split_units(data, 4))
    assert join_units(split_units(data, 4)) == data


def test_sets_of_two_encoders_stand_side_by_side_unless_they_share_a_number():
    sets = [
        ParameterSets.of_extradata(encoded(**{"x264-params": f"sps-id={n}", "crf": c})[0])[0]
        for n, c in ((0, "20"), (9, "20"), (9, "40"))
    ]
    both = sets[0] | sets[1]
    assert sorted(both.sequences) == sorted(both.pictures) == [0, 9]
    assert ParameterSets.of_extradata(both.to_avcc()) == (both, 4)
    assert both | sets[0] == both
    assert both.free_numbers(3) == [31, 30, 29]
    assert not sets[1].agrees(sets[2])
    with pytest.raises(HlkitError, match="same number"):
        both | sets[2]


@pytest.mark.parametrize("extradata", [None, b"", b"\1", b"\0\0\0\1\x65abc"])
def test_a_container_that_says_nothing(extradata):
    with pytest.raises((HlkitError, IndexError)):
        ParameterSets.of_extradata(extradata)


# A unit's first byte is never 0, its last neither, and three bytes of a start code never stand in it.
UNITS = st.lists(st.binary(max_size=20).map(lambda data: b"\x65" + data.replace(b"\0", b"\3") + b"\x80"), max_size=5)


@given(UNITS, st.sampled_from([b"\0\0\1", b"\0\0\0\1"]))
def test_units_are_found_whatever_stands_between_them(units, code):
    assert split_units(b"".join(code + unit for unit in units), 0) == units
    assert split_units(join_units(units), 4) == units
    assert all(kind(unit) == IDR for unit in units)


def test_a_picture_that_breaks_off():
    with pytest.raises(HlkitError, match="breaks off"):
        split_units(b"\0\0\0\5abc", 4)
    assert {SPS, PPS} == {7, 8}
