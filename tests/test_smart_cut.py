"""Reels of copied GOPs and encoded edges: every picture, whatever the container, and what can't be copied."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import SOUND_RATE, make_numbered
from test_reel import bursts, check_sync, decode, spans, write_aloud

from hlkit import coded, packets, soundtrack, splice
from hlkit.cuts import Cut, plan_cuts, reel_rate
from hlkit.h264 import PPS, SPS, ParameterSets, kind, split_units
from hlkit.project import HlkitError
from hlkit.reel import write_reel
from hlkit.splice import UnsafeError
from hlkit.video import find_ffmpeg, open_container, open_ffmpeg, probe


def slices(path: Path) -> list[bytes]:
    """What a recording's pictures are made of, without parameter sets and what only separates."""
    with open_container(path) as (container, stream):
        _, size = ParameterSets.of_extradata(stream.codec_context.extradata)
        packets = (split_units(bytes(packet), size) for packet in container.demux(stream) if packet.size)
        return [b"".join(unit for unit in units if kind(unit) in (1, 5)) for units in packets]


def copied(source: Path, target: Path) -> int:
    """How many of the reel's pictures are the source's own."""
    known = set(slices(source))
    return sum(each in known for each in slices(target))


def numbers_of(cuts, rate) -> list[int]:
    return [n for cut in cuts for n in range(round(cut.start * rate), round(cut.end * rate))]


def check_decodes(path: Path) -> None:
    """ffmpeg's own program decodes the whole reel without a complaint."""
    run = subprocess.run(
        [find_ffmpeg(), "-v", "warning", "-xerror", "-err_detect", "explode", "-i", path, "-f", "null", "-"],
        capture_output=True,
        check=True,
    )
    assert run.stderr == b""


def convert(source: Path, target: Path, *options: str) -> Path:
    with open_ffmpeg(["-i", source, *options, target]) as process:
        process.wait()
    return target


# --- every picture ---


@pytest.mark.parametrize(
    ("suffix", "fps", "options"),
    [
        ("mp4", "30", {}),
        ("mp4", "24000/1001", {"bframes": 5, "gop": 24}),
        ("mkv", "60000/1001", {"gop": 50}),
        ("ts", "30", {}),
        ("flv", "30", {}),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("mp4", "60", {"gop": 120}),
                ("mp4", "60000/1001", {"bframes": 0}),
                ("mp4", "30", {"options": {"profile": "baseline"}}),
                ("mp4", "30", {"options": {"profile": "main", "level": "3.1", "x264-params": "sps-id=31"}}),
                ("mp4", "30", {"gop": 1, "bframes": 0}),
                ("mkv", "30", {}),
                ("mkv", "24000/1001", {"bframes": 0}),
                ("ts", "60", {"bframes": 0}),
                ("ts", "24000/1001", {"gop": 48}),
                ("mov", "60000/1001", {}),
            )
        ),
    ],
)
def test_cuts_at_random_places_are_exact(suffix, fps, options, tmp_path):
    source, target, rate = tmp_path / f"a.{suffix}", tmp_path / "reel.mp4", Fraction(fps)
    make_numbered(source, seconds=8, fps=fps, sound=True, **options)
    dice = random.Random(f"{suffix}{fps}")
    starts = [0.0, *(dice.uniform(0, 4) for _ in range(5))]
    cuts = [plan_cuts(spans((start, start + dice.uniform(0.05, 3.5))), probe(source))[0] for start in starts]
    assert write_aloud(source, cuts, target) == []
    numbers, times, sound = decode(target)
    assert numbers == numbers_of(cuts, rate)
    assert times == [n / rate for n in range(len(numbers))]
    assert len(sound) / SOUND_RATE == pytest.approx(len(numbers) / rate, abs=1024 / SOUND_RATE)
    assert copied(source, target) > len(numbers) / 3
    check_decodes(target)


def test_a_fragmented_file_with_an_init_segment(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof+delay_moov"}
    make_numbered(source, seconds=10, sound=True, container_options=flags)
    cuts = [Cut(0.5, 3.2), Cut(4.0, 7.7), Cut(8.9, 9.9)]
    assert write_aloud(source, cuts, target) == []
    numbers = decode(target)[0]
    assert numbers == numbers_of(cuts, 30)
    assert copied(source, target) >= 100
    check_decodes(target)


def test_parameter_sets_stand_in_the_files_head_and_nowhere_else(tmp_path):
    make_numbered(tmp_path / "a.ts", seconds=6, sound=True)
    write_reel(tmp_path / "a.ts", [Cut(0.5, 2.5), Cut(3.5, 5.2), Cut(4.1, 4.4)], tmp_path / "reel.mp4", progress=False)
    with open_container(tmp_path / "reel.mp4") as (container, stream):
        sets, size = ParameterSets.of_extradata(stream.codec_context.extradata)
        kinds = {kind(unit) for packet in container.demux(stream) for unit in split_units(bytes(packet), size)}
    # The source's, two for the edges of neighbours, and one for the cut that lies within a GOP.
    assert sorted(sets.sequences) == sorted(sets.pictures) == [0, 29, 30, 31]
    assert not kinds & {SPS, PPS}
    assert (tmp_path / "reel.mp4").read_bytes().count(b"avc1") > 0


def test_only_the_edges_are_encoded(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=12, gop=30, bframes=2)
    cuts = [Cut(0.5, 6.5), Cut(7.0, 11.0)]
    write_reel(tmp_path / "a.mp4", cuts, tmp_path / "reel.mp4", progress=False)
    # 15 before the first keyframe, and at most two at each end that are coded after one which is shown later.
    assert copied(tmp_path / "a.mp4", tmp_path / "reel.mp4") >= 300 - 15 - 4
    assert decode(tmp_path / "reel.mp4")[0] == numbers_of(cuts, 30)


def test_the_pixels_of_copied_pictures_are_the_sources_own(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=4, width=128, height=96)
    write_reel(source, [Cut(0.7, 3.5)], target, progress=False)
    with av.open(str(source)) as one, av.open(str(target)) as other:
        wanted = [frame.to_ndarray() for frame in one.decode(video=0)][21:105]
        shown = [frame.to_ndarray() for frame in other.decode(video=0)]
    same = [np.array_equal(*pair) for pair in zip(wanted, shown, strict=True)]
    assert same[9:-2] == [True] * 73
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(wanted, shown, strict=True)) < 3


def test_size_colours_and_pixel_aspect_stay(tmp_path):
    make_numbered(tmp_path / "b.mp4", seconds=4, width=96, height=64)
    options = ["-c:v", "libx264", "-g", "30", "-vf", "setsar=4/3", "-profile:v", "main"]
    colours = ["-x264-params", "colorprim=bt709:transfer=bt709:colormatrix=bt709"]
    source = convert(tmp_path / "b.mp4", tmp_path / "a.mp4", *options, *colours)
    assert write_aloud(source, [Cut(0.5, 3.5)], tmp_path / "reel.mp4") == []
    with av.open(str(tmp_path / "reel.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.width, codec.height, codec.pix_fmt) == (96, 64, "yuv420p")
        assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (1, 1, 1)
        assert codec.sample_aspect_ratio == Fraction(4, 3)
        frames = list(container.decode(video=0))
    assert {(frame.colorspace, frame.color_range) for frame in frames} == {(1, 1)}
    assert len(frames) == 90


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "fps"), [("mp4", "30"), ("mkv", "60000/1001"), ("ts", "24000/1001")])
def test_beeps_stay_with_their_flashes_before_and_after_each_of_forty_cuts(suffix, fps, tmp_path):
    source, sound = tmp_path / f"a.{suffix}", bursts(90, 0.25)
    make_numbered(source, seconds=90, fps=fps, sound=sound, gop=48)
    dice = random.Random(3)
    starts = [2 * n + dice.uniform(0, 0.5) for n in range(40)]
    cuts = [plan_cuts(spans((start, start + dice.uniform(3.0, 5.0))), probe(source))[0] for start in starts]
    assert write_aloud(source, cuts, tmp_path / "reel.mp4") == []
    # At the beginning and at the end of each.
    halves = [part for cut in cuts for part in halved(cut, reel_rate(probe(source)))]
    lags = check_sync(source, sound, halves, tmp_path / "reel.mp4")
    late = 1024 if suffix == "ts" else 0
    assert len(lags) == 80
    assert max(abs(each - late) for each in lags) / SOUND_RATE < 0.010, lags


def halved(cut: Cut, rate: Fraction) -> list[Cut]:
    middle = float(round((cut.start + cut.end) / 2 * rate) / rate)
    return [Cut(cut.start, middle), Cut(middle, cut.end)]


def test_the_first_of_several_sound_tracks_is_taken(tmp_path):
    sound = bursts(6, 0.25)
    make_numbered(tmp_path / "b.mp4", seconds=6, sound=sound)
    mix = ["-f", "lavfi", "-i", "sine=1000:duration=6", "-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "aac"]
    source = convert(tmp_path / "b.mp4", tmp_path / "a.mkv", *mix)
    with av.open(str(source)) as container:
        assert len(container.streams.audio) == 2
    cuts = [Cut(0.5, 2.5), Cut(3.2, 5.0)]
    assert write_aloud(source, cuts, tmp_path / "reel.mp4") == []
    lags = check_sync(source, sound, cuts, tmp_path / "reel.mp4")
    # Encoded twice, and Matroska rounds times to a millisecond.
    assert max(abs(each) for each in lags) / SOUND_RATE < 0.010


# --- keyframes ---


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_cuts_that_snap_to_keyframes_copy_every_picture(suffix, tmp_path):
    source, target = tmp_path / f"a.{suffix}", tmp_path / "reel.mp4"
    make_numbered(source, seconds=10, sound=True)
    cuts = [Cut(1.2, 1.9, 0.5), Cut(3.5, 4.5, 0.25), Cut(5.0, 5.1, 0.75), Cut(7.0, 8.0), Cut(9.5, 9.7)]
    shown = write_reel(source, cuts, target, cut="keyframe", progress=False)
    # 3.5 to 4.5 becomes 3 to 5, which touches 5 to 6: one cut, with the higher score.
    assert [(round(cut.start, 3), round(cut.end, 3), cut.score) for cut in shown] == [
        (1, 2, 0.5),
        (3, 6, 0.75),
        (7, 8, None),
        (9, 10, None),
    ]
    numbers, times, sound = decode(target)
    assert numbers == [*range(30, 60), *range(90, 180), *range(210, 240), *range(270, 300)]
    assert times == [Fraction(n, 30) for n in range(len(numbers))]
    assert copied(source, target) == len(numbers) == 180
    assert len(sound) / SOUND_RATE == pytest.approx(6, abs=1024 / SOUND_RATE)
    check_decodes(target)


def test_sound_goes_with_the_snapped_cuts(tmp_path):
    source, sound = tmp_path / "a.mp4", bursts(12, 0.25)
    make_numbered(source, seconds=12, sound=sound)
    shown = write_reel(source, [Cut(1.3, 2.1), Cut(6.4, 8.8)], tmp_path / "reel.mp4", cut="keyframe", progress=False)
    assert [abs(each) <= 2 for each in check_sync(source, sound, shown, tmp_path / "reel.mp4")] == [True, True]


# --- what can't be copied ---

H264 = ["-c:v", "libx264", "-g", "30", "-preset", "veryfast"]


@pytest.mark.parametrize(
    ("suffix", "options", "reason"),
    [
        (
            "mp4",
            ["-c:v", "libx265", "-x265-params", "log-level=none"],
            "its pictures are hevc, and only h264 can be copied",
        ),
        ("mp4", ["-c:v", "mpeg4"], "its pictures are mpeg4, and only h264 can be copied"),
        ("mp4", [*H264, "-pix_fmt", "yuv420p10le"], "its pictures are yuv420p10le, and only yuv420p can be copied"),
        ("mp4", [*H264, "-pix_fmt", "yuv444p"], "its pictures are yuv444p, and only yuv420p can be copied"),
        ("mp4", [*H264, "-flags", "+ildct+ilme"], "its pictures are interlaced"),
        ("mp4", [*H264, "-vf", "scale=out_range=pc", "-color_range", "pc"], "its colours are of full range"),
        ("avi", [*H264], "its container keeps no times of pictures"),
    ],
)
def test_other_kinds_of_pictures_are_encoded_aloud(suffix, options, reason, tmp_path):
    make_numbered(tmp_path / "b.mp4", seconds=5, sound=True)
    source = convert(tmp_path / "b.mp4", tmp_path / f"a.{suffix}", *options)
    cuts, target = [Cut(0.5, 2.2), Cut(2.5, 4.5)], tmp_path / "reel.mp4"
    assert write_aloud(source, cuts, target) == [f"2 of 2 cuts are encoded in place of copied: {reason}."]
    numbers = decode(target)[0]
    late = numbers[0] - 15
    assert abs(late) <= 2
    assert numbers == [n + late for n in numbers_of(cuts, 30)]
    assert write_aloud(source, cuts, target, cut="keyframe") == [
        f"2 of 2 cuts are encoded in place of copied: {reason}."
    ]
    assert len(decode(target)[0]) == 111


def test_rotated_pictures_are_encoded_aloud(tmp_path):
    make_numbered(tmp_path / "b.mp4", seconds=3)
    with open_ffmpeg(
        ["-display_rotation", "90", "-i", tmp_path / "b.mp4", "-c", "copy", tmp_path / "a.mp4"]
    ) as process:
        process.wait()
    said = write_aloud(tmp_path / "a.mp4", [Cut(0.5, 2.5)], tmp_path / "reel.mp4")
    assert said == ["1 of 1 cuts are encoded in place of copied: its pictures are rotated."]


def test_a_cut_in_which_the_parameters_change_is_encoded_and_the_others_are_copied(tmp_path):
    make_numbered(tmp_path / "1.ts", seconds=6, sound=True)
    make_numbered(tmp_path / "2.ts", seconds=6, sound=True, first=180, options={"refs": "1", "profile": "main"})
    with (tmp_path / "a.ts").open("wb") as file:
        for number, path in enumerate((tmp_path / "1.ts", tmp_path / "2.ts")):
            file.write(
                convert(
                    path, tmp_path / f"{number}.ts", "-c", "copy", "-output_ts_offset", f"{6 * number}"
                ).read_bytes()
            )
    cuts, target = [Cut(1.5, 4.5), Cut(5.0, 7.0)], tmp_path / "reel.mp4"
    said = write_aloud(tmp_path / "a.ts", cuts, target)
    assert said == ["1 of 2 cuts are encoded in place of copied: the parameters of its pictures change."]
    numbers = decode(target)[0]
    assert numbers[:90] == list(range(45, 135))
    assert len(numbers) == 150
    assert 70 < copied(tmp_path / "a.ts", target) <= 90
    check_decodes(target)


def test_a_copy_that_can_not_be_decoded_is_encoded_aloud(tmp_path, monkeypatch):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=8)
    real, damaged = splice.read_pictures, []

    def damage(*args):
        for picture in real(*args):
            if picture.number == 45 and not damaged:
                damaged.append(picture.number)
                picture = picture._replace(data=picture.data[:10] + b"\xff" * (len(picture.data) - 10))
            yield picture

    monkeypatch.setattr(splice, "read_pictures", damage)
    cuts = [Cut(0.5, 3.5), Cut(4.5, 7.5)]
    said = write_aloud(source, cuts, target)
    assert len(said) == 1
    assert said[0].startswith("1 of 2 cuts are encoded in place of copied: ")
    assert damaged == [45]
    assert decode(target)[0] == numbers_of(cuts, 30)
    check_decodes(target)


@pytest.mark.parametrize("lost", [20, 47])
def test_a_copy_in_which_a_picture_is_missing_is_noticed(lost, tmp_path, monkeypatch):
    source, target = tmp_path / "a.mp4", tmp_path / "reel.mp4"
    make_numbered(source, seconds=4)
    real = splice.read_pictures
    monkeypatch.setattr(splice, "read_pictures", lambda *args: (each for each in real(*args) if each.number != lost))
    assert len(write_aloud(source, [Cut(0.5, 3.5)], target)) == 1
    assert decode(target)[0] == list(range(15, 105))


# --- the work does not grow with the recording ---


def test_a_source_ten_times_as_long_is_read_no_more(tmp_path, monkeypatch):
    make_numbered(tmp_path / "1.mp4", seconds=20, sound=True)
    loops = ["-stream_loop", "9", "-i", tmp_path / "1.mp4", "-c", "copy"]
    cuts, counted = [Cut(3.3, 6.1), Cut(12.0, 15.5)], {}
    for suffix in ("mp4", "mkv", "ts"):
        with open_ffmpeg([*loops, tmp_path / f"10.{suffix}"]) as process:
            process.wait()
        convert(tmp_path / "1.mp4", tmp_path / f"1.{suffix}", "-c", "copy") if suffix != "mp4" else None
        for length in (1, 10):
            seen = []
            with monkeypatch.context() as patch:
                for module, name in ((coded, "_read"), (soundtrack, "_packets"), (packets, "_packets")):
                    patch.setattr(module, name, counting(getattr(module, name), seen))
                said = write_aloud(tmp_path / f"{length}.{suffix}", cuts, tmp_path / "reel.mp4")
            assert said == []
            counted[suffix, length] = len(seen)
        # Packets of sound are stored a little differently.
        assert abs(counted[suffix, 10] - counted[suffix, 1]) <= 3


def counting(real, seen):
    def wrapper(*args):
        for each in real(*args):
            seen.append(each)
            yield each

    return wrapper


# --- faults ---


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    make_numbered(path, seconds=5, sound=True)
    return path


@pytest.mark.parametrize("mode", ["smart", "keyframe"])
def test_an_overlay_needs_encoding(source, mode, tmp_path):
    with pytest.raises(
        HlkitError, match=f"Copied pictures can't have an overlay. Choose cut 'encode' in place of '{mode}'"
    ):
        write_reel(source, [Cut(1, 2)], tmp_path / "reel.mp4", cut=mode, overlay="score", progress=False)
    with pytest.raises(HlkitError, match="The way of cutting is 'fast'; smart, keyframe and encode are allowed"):
        write_reel(source, [Cut(1, 2)], tmp_path / "reel.mp4", cut="fast", progress=False)
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from pathlib import Path
from hlkit.project import HlkitError
from hlkit.reel import Cut, write_reel
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    write_reel(Path(sys.argv[1]), [Cut(0.5, 4.5)], Path(sys.argv[2]), progress=False)
except HlkitError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [2_000, 30_000, 60_000])
def test_a_disk_that_fills_up_leaves_an_earlier_reel_alone(source, limit, tmp_path):
    (tmp_path / "reel.mp4").write_bytes(b"earlier")
    command = [sys.executable, "-c", FULL, source, tmp_path / "reel.mp4", str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"The reel {tmp_path / 'reel.mp4'} can't be written: ")
    assert "File too large" in run.stdout or "File size limit exceeded" in run.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"reel.mp4": b"earlier"}


def test_a_source_that_vanishes(source, tmp_path, monkeypatch):
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(source.read_bytes())
    real = splice.read_style
    monkeypatch.setattr(splice, "read_style", lambda *args: (gone.unlink(), real(*args))[1])
    monkeypatch.setattr(splice, "survey", lambda *args, **options: (_ for _ in ()).throw(UnsafeError("it is gone")))
    with pytest.raises(HlkitError, match=r"There is no video file .*gone\.mp4"), pytest.warns(match="it is gone"):
        write_reel(gone, [Cut(1, 2)], tmp_path / "reel.mp4", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_cut_short_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.ts"
    make_numbered(path, seconds=20, sound=True, width=256, height=256)
    real = splice.write_splice

    def shorten(*args):
        os.truncate(path, path.stat().st_size // 2)
        return real(*args)

    monkeypatch.setattr("hlkit.reel.write_splice", shorten)
    with pytest.raises(HlkitError, match=r"a\.ts gave \d+ of the 90 pictures"):
        write_reel(path, [Cut(15.5, 18.5)], tmp_path / "reel.mp4", progress=False)
    assert [each.name for each in tmp_path.iterdir()] == ["a.ts"]


def test_a_folder_in_the_place_of_the_reel(source, tmp_path):
    (tmp_path / "reel.mp4").mkdir()
    with pytest.raises(HlkitError, match=r"can't be written: .*\. Choose another folder"):
        write_reel(source, [Cut(1, 1.5)], tmp_path / "reel.mp4", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["reel.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(source, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(HlkitError, match="can't be written: Permission denied"):
        write_reel(source, [Cut(1, 1.5)], tmp_path / "reel.mp4", progress=False)
