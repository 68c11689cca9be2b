"""Pictures of stretches of a recording that is opened once, held against the numbers drawn into them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from recordings import make_numbered, number_at, read_number
from test_sampling import RECORDINGS, REMADE

from hlkit.excerpts import open_excerpts
from hlkit.fingerprints import decode_pictures
from hlkit.sampling import TIMESTAMP_TOLERANCE
from hlkit.video import probe, run_ffmpeg

# Start and rate; one in which no wanted time is one of the recordings' own plus the tolerance.
STRETCHES = [(Fraction(4), Fraction(3)), (Fraction(0), Fraction(7, 2)), (Fraction(10, 3), Fraction(30000, 1001))]


@pytest.mark.parametrize("name", RECORDINGS)
def test_in_stretches_out_of_order_every_picture_is_the_one_on_screen(tmp_path, name):
    path = tmp_path / name
    times = make_numbered(path, seconds=6, **RECORDINGS[name])
    with open_excerpts(probe(path)) as excerpts:
        for start, rate in STRETCHES:
            shown = excerpts.between(float(start), float(start) + 1.5, rate=rate)
            wanted = [start + n / rate + Fraction(TIMESTAMP_TOLERANCE) for n in range(len(shown))]
            assert len(shown) == -(-Fraction(3, 2) * rate // 1)
            assert [read_number(picture) for picture in shown] == [number_at(times, time) for time in wanted]


@pytest.mark.parametrize("name", [name for name in REMADE if not name.endswith(".m3u8")])
def test_they_are_what_ffmpeg_gives(tmp_path, name):
    make_numbered(tmp_path / "a.mp4", seconds=6, fps=30)
    before, after = REMADE[name]
    run_ffmpeg([*before, "-i", tmp_path / "a.mp4", *after, tmp_path / name], progress=False)
    with open_excerpts(probe(tmp_path / name)) as excerpts:
        shown = excerpts.between(1.25, 3.0, rate=Fraction(10))
    decoded = decode_pictures(tmp_path / name, rate=10, start=1.25, end=3.0, progress=False)
    assert shown.shape == decoded.shape
    assert np.abs(shown.astype(int) - decoded).mean() < 1


def test_the_end_is_the_recordings(tmp_path):
    times = make_numbered(tmp_path / "a.mp4", seconds=2, fps=30)
    with open_excerpts(probe(tmp_path / "a.mp4")) as excerpts:
        shown = excerpts.between(1.5, 9.0, rate=Fraction(4))
        assert [read_number(picture) for picture in shown] == [number_at(times, 1.5), number_at(times, 1.75)]
        assert excerpts.between(2.5, 9.0, rate=Fraction(4)).shape == (0, 32, 32)
        assert excerpts.between(1.0, 1.0, rate=Fraction(4)).shape == (0, 32, 32)


def test_pictures_that_stop_before_the_stated_end_are_not_made_up(tmp_path):
    """Where the file is cut off, the last picture stays for a second, as in `sampled`."""
    times = make_numbered(
        tmp_path / "a.mp4", seconds=20, gop=5, container_options={"movflags": "frag_keyframe+empty_moov"}
    )
    info = probe(tmp_path / "a.mp4")
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with open_excerpts(info) as excerpts:
        shown = excerpts.between(5.0, 19.0, rate=Fraction(4))
    numbers = [read_number(picture) for picture in shown]
    last = numbers[-1]  # of those that can be decoded
    wanted = [min(last, number_at(times, 5 + Fraction(n, 4))) for n in range(len(numbers))]
    assert 200 < last < 400
    assert numbers == wanted
    assert len(numbers) == math.ceil((times[last] + 1 - 5) * 4)


def test_keyframes_are_at_their_times_and_damaged_ones_are_left_out(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=6, gop=15, bframes=0)
    with open_excerpts(probe(tmp_path / "a.mp4")) as excerpts:
        times, pictures = excerpts.keyframes(progress=False)
        assert times == pytest.approx(np.arange(12) / 2)
        assert [read_number(picture) for picture in pictures] == list(range(0, 180, 15))
        packets = [packet for packet in excerpts._packets(0.0) if packet.is_keyframe]
        place, size = packets[4].pos, packets[4].size
        assert place is not None
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[place : place + size] = bytes(size)
    (tmp_path / "a.mp4").write_bytes(data)
    with open_excerpts(probe(tmp_path / "a.mp4")) as excerpts:
        times, pictures = excerpts.keyframes(progress=False)
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2.5, 3, 3.5, 4, 4.5, 5, 5.5])
    assert [read_number(picture) for picture in pictures] == [n for n in range(0, 180, 15) if n != 60]
