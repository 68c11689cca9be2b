"""The pictures at every cut's edges, out of whatever a recording may be: they carry their numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from recordings import make_numbered, read_number
from test_reel import expected_numbers, picture_times, write_aloud

from hlkit.cuts import Cut
from hlkit.download import download
from hlkit.project import HlkitWarning
from hlkit.video import open_container, probe, run_ffmpeg

# In pictures of 30 a second. Two begin or end with a GOP, one lies within one, one is at the very end.
EDGES = [(0, 17), (25, 118), (60, 90), (100, 103), (151, 180)]

HEVC, AV1 = ["-c:v", "libx265", "-x265-params", "log-level=error:bframes=2"], ["-c:v", "libaom-av1", "-cpu-used", "8"]
HLS = ["-c", "copy", "-hls_time", "2", "-hls_list_size", "0"]
REMADE: dict[str, tuple[list[str], list[str]]] = {
    "edit_list.mp4": (["-ss", "2.1"], ["-c", "copy"]),
    "offset.ts": ([], ["-c", "copy", "-output_ts_offset", "4321.5"]),
    "offset.mkv": ([], ["-c", "copy", "-output_ts_offset", "77.25", "-avoid_negative_ts", "disabled"]),
    "fragments.mp4": ([], ["-c", "copy", "-movflags", "frag_keyframe+empty_moov+delay_moov"]),
    "playlist.m3u8": ([], HLS),
    "fragments.m3u8": ([], [*HLS, "-hls_segment_type", "fmp4"]),
    "turned.mp4": (["-display_rotation", "90"], ["-c", "copy"]),
    "hevc.mp4": ([], HEVC),
    "hevc_ten_bits.mkv": ([], [*HEVC, "-pix_fmt", "yuv420p10le"]),
    "ten_bits.mp4": ([], ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
    "av1.mp4": ([], AV1),
    "av1.mkv": ([], AV1),
    "vp9.webm": ([], ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"]),
}
COPIED = ("edit_list.mp4", "offset.ts", "offset.mkv", "fragments.mp4", "playlist.m3u8", "fragments.m3u8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "a.mp4"
    make_numbered(path, seconds=9, fps=30, sound=True)
    return path


def shown(reel: Path, *, turned: bool = False) -> list[int]:
    with open_container(reel) as (container, stream):
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(stream)]
    return [read_number(np.rot90(picture, k=-1) if turned else picture) for picture in pictures]


def cuts_of(edges: list[tuple[int, int]]) -> list[Cut]:
    return [Cut(float(Fraction(first, 30)), float(Fraction(stop, 30))) for first, stop in edges]


def numbers_of(source: Path) -> list[int]:
    """What the cuts show: the pictures from the one nearest to the first edge on."""
    late = 63 if source.name == "edit_list.mp4" else 0
    # The first packet of sound, which is older than the pictures, begins the clock of these.
    if source.suffix in (".ts", ".m3u8"):
        return expected_numbers(picture_times(source), cuts_of(EDGES), Fraction(30))
    return [late + n for first, stop in EDGES for n in range(first, stop)]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[] if (name, mode) in fast else pytest.mark.slow)
        for fast in [{(name, "smart") for name in ("edit_list.mp4", "offset.ts", "playlist.m3u8", "hevc.mp4")}]
        for name in REMADE
        for mode in ("smart", "encode")
    ],
)
def test_every_picture_from_the_first_to_the_last(plain, name, mode, tmp_path):
    source, target = tmp_path / name, tmp_path / "reel" / "reel.mp4"
    before, after = REMADE[name]
    run_ffmpeg([*before, "-i", plain, *after, source], progress=False)
    said = write_aloud(source, cuts_of(EDGES), target, cut=mode)
    encoded = [reason for reason in said if not reason.endswith("no picture is there yet when it begins.")]
    assert (encoded == []) == (mode == "encode" or name in COPIED), said
    wanted = numbers_of(source)
    assert shown(target, turned=name == "turned.mp4") == wanted
    assert probe(target).duration == pytest.approx(len(wanted) / 30, abs=0.001)


@pytest.mark.parametrize("mode", ["smart", "encode"])
def test_a_joined_transport_stream_with_a_jump_of_its_clock(plain, mode, tmp_path):
    parts = tmp_path / "1.ts", tmp_path / "2.ts"
    make_numbered(tmp_path / "second.mp4", seconds=6, fps=30, sound=True, first=270)
    for part, source, offset in ((parts[0], plain, 10), (parts[1], tmp_path / "second.mp4", 5000)):
        run_ffmpeg(["-i", source, "-c", "copy", "-output_ts_offset", str(offset), part], progress=False)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.warns(HlkitWarning, match="made of several recordings"):
        video = download(joined, tmp_path / "videos", progress=False)
    cuts = cuts_of([(10, 40), (255, 290), (269, 272), (300, 360), (401, 449)])
    write_aloud(video, cuts, tmp_path / "reel.mp4", cut=mode)
    wanted = expected_numbers(picture_times(video), cuts, Fraction(30))
    assert shown(tmp_path / "reel.mp4") == wanted
    assert {0, 1} >= {first - number for first, number in zip((10, 255), (wanted[0], wanted[30]), strict=True)}
