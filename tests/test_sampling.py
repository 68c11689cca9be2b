import shutil
from fractions import Fraction

import ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_numbered, number_at, read_number

from hlkit import sampling
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sampling import HOLD_SECONDS, TIMESTAMP_TOLERANCE, choose_accelerator, halvings, has_cuda, sampled
from hlkit.video import FFmpegError, open_ffmpeg, probe, run_ffmpeg

RECORDINGS = {
    "30.mp4": {"fps": 30},
    "ntsc_film.mp4": {"fps": "24000/1001"},
    "ntsc_60.mp4": {"fps": "60000/1001", "sound": True},
    "milliseconds.mkv": {"fps": 30},
    "ntsc_60.mkv": {"fps": "60000/1001"},
    "start_offset.ts": {"fps": 30},
    "film.ts": {"fps": "24000/1001"},
    "ntsc_60.ts": {"fps": "60000/1001", "sound": True},
    "variable.mp4": {"fps": 30, "vfr": True},
    "variable.mkv": {"fps": 30, "vfr": True},
    "pictures_late.mp4": {"fps": 30, "sound": True, "start": 0.7},
    "pictures_late.mkv": {"fps": 30, "sound": True, "start": 0.7},
    "pictures_late.ts": {"fps": 30, "sound": True, "start": 0.7},
    "pyramid.mp4": {"fps": 60, "gop": 250, "bframes": 3},
    "slow.mp4": {"fps": 5, "gop": 250, "bframes": 3},
    "open_gop.mp4": {"fps": 30, "options": {"x264-params": "open-gop=1"}},
    "rare_keyframes.ts": {"fps": 30, "gop": 140},
}


def pictures(stream, size, **options) -> np.ndarray:
    with open_ffmpeg(stream.output("pipe:", format="rawvideo", pix_fmt="rgb24", **options)) as process:
        return np.frombuffer(process.stdout.read(), np.uint8).reshape(-1, size, size, 3)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_picture_is_the_one_on_screen(tmp_path, name):
    path = tmp_path / name
    times = make_numbered(path, seconds=6, **RECORDINGS[name])
    end = probe(path).duration
    for fps, start in [(3, Fraction(0)), (3, Fraction(10, 3)), (Fraction(30000, 1001), Fraction("4.5"))]:
        shown = pictures(sampled(path, fps=fps, size=32, start=start), 32)
        wanted = [start + n / Fraction(fps) for n in range(len(shown))]
        assert wanted[-1] > end - 1 / Fraction(fps)
        on_screen = [number_at(times, time + Fraction(TIMESTAMP_TOLERANCE)) for time in wanted]
        assert [read_number(picture) for picture in shown] == on_screen


REMADE = {
    "edit_list.mp4": (["-ss", "2.1"], ["-c", "copy"]),
    "fragments.mp4": ([], ["-c", "copy", "-movflags", "frag_keyframe+empty_moov"]),
    "turned.mp4": (["-display_rotation", "90"], ["-c", "copy"]),
    "ten_bits.mp4": ([], ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
    "hevc.mp4": ([], ["-c:v", "libx265", "-x265-params", "log-level=error"]),
    "hevc_ten_bits.mkv": ([], ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error"]),
    "av1.mkv": ([], ["-c:v", "libaom-av1", "-cpu-used", "8"]),
    "vp9.webm": ([], ["-c:v", "libvpx-vp9", "-deadline", "realtime"]),
    "playlist.m3u8": ([], ["-c", "copy", "-hls_time", "2", "-hls_list_size", "0"]),
    "fragments.m3u8": ([], ["-c", "copy", "-hls_time", "2", "-hls_list_size", "0", "-hls_segment_type", "fmp4"]),
}


@pytest.mark.parametrize("name", REMADE)
def test_whatever_the_container_and_the_codec_the_picture_is_the_one_on_screen(tmp_path, name):
    times = make_numbered(tmp_path / "a.mp4", seconds=6, fps=30)
    before, after = REMADE[name]
    run_ffmpeg([*before, "-i", tmp_path / "a.mp4", *after, tmp_path / name], progress=False)
    cut = Fraction("2.1") if name == "edit_list.mp4" else 0
    assert probe(tmp_path / name).duration == pytest.approx(6 - float(cut), abs=0.001)
    for start in (Fraction(0), Fraction(4, 3)):
        shown = pictures(sampled(tmp_path / name, fps=3, size=32, start=start), 32)
        if name == "turned.mp4":
            shown = [np.rot90(picture, k=-1) for picture in shown]
        wanted = [cut + start + Fraction(n, 3) + Fraction(TIMESTAMP_TOLERANCE) for n in range(len(shown))]
        assert [read_number(picture) for picture in shown] == [number_at(times, time) for time in wanted]


def test_the_same_pictures_come_from_any_start(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=8, fps="60000/1001", gop=120)
    whole = pictures(sampled(tmp_path / "a.mp4", fps=3, size=32), 32)
    for first in (1, 7, 13, 20):
        rest = pictures(sampled(tmp_path / "a.mp4", fps=3, size=32, start=Fraction(first, 3)), 32)
        assert np.array_equal(rest, whole[first:])


def test_the_last_picture_stays_for_a_second(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=2)
    numbers = [read_number(picture) for picture in pictures(sampled(tmp_path / "a.mp4", fps=3, size=32), 32)]
    assert numbers == [0, 10, 20, 30, 40, 50] + [59] * 3 * HOLD_SECONDS


def test_a_box_cuts_a_part_out(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=1, first=0b0001, fps=1)  # the cell at the top left is white
    inside = pictures(sampled(tmp_path / "a.mp4", fps=1, size=16, box=(0, 0, 0.25, 0.25)), 16)
    outside = pictures(sampled(tmp_path / "a.mp4", fps=1, size=16, box=(0.25, 0.25, 1, 1)), 16)
    assert inside[0].mean() > 240
    assert outside[0].mean() < 15


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"fps": 0}, "frame rate"),
        ({"size": 4}, "picture size is 4"),
        ({"start": -1}, "start is -1 s"),
        ({"box": (0.5, 0, 0.5, 1)}, "box is"),
        ({"box": (0, 0, 1, 1.1)}, "box is"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, wrong, says):
    with pytest.raises(HlkitError, match=says):
        sampled(tmp_path / "a.mp4", **({"fps": 3, "size": 32} | wrong))


def test_a_name_is_never_an_option_or_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mp4", "concat:a|b.mp4", "it's [0] %d;.mp4"):
        make_numbered(tmp_path / name, seconds=1)
        assert len(pictures(sampled(tmp_path / name, fps=3, size=32), 32, **{"frames:v": 3})) == 3


def test_the_gpu_drops_and_shrinks_before_pictures_come_back(tmp_path):
    path = tmp_path / "a.mp4"
    make_numbered(path, seconds=3, fps=5, width=512, height=288)
    stream = sampled(path, fps="30000/1001", size=64, start=2.5, box=(0, 0.5, 0.5, 1), accelerator="cuda")
    assert ffmpeg.get_args(stream.output("pipe:", format="rawvideo")) == [
        *["-copyts", "-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-itsoffset", "-2.501000"],
        *["-noaccurate_seek", "-ss", "1.500000", "-i", f"file:{path}", "-filter_complex"],
        "[0:V:0]fps=fps=30000/1001:round=up:start_time=0[s0];"
        "[s0]scale_cuda=256:144:format=nv12:interp_algo=bilinear[s1];"
        "[s1]scale_cuda=128:144:format=nv12:interp_algo=bilinear[s2];"
        "[s2]hwdownload[s3];[s3]format=nv12[s4];[s4]tpad=stop_duration=1:stop_mode=clone[s5];"
        "[s5]crop=iw*0.500000:ih*0.500000:iw*0.000000:ih*0.500000[s6];[s6]scale=64:64:flags=bicubic[s7]",
        *["-map", "[s7]", "-f", "rawvideo", "pipe:"],
    ]


@pytest.mark.parametrize(
    ("width", "height", "cores", "threads"), [(284, 160, 2, ["-threads", "1"]), (284, 160, 4, []), (640, 360, 2, [])]
)
def test_small_pictures_are_decoded_in_one_thread_where_there_are_two_cores(
    tmp_path, monkeypatch, width, height, cores, threads
):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    make_numbered(tmp_path / "a.mp4", seconds=1, width=width, height=height)
    stream = sampled(tmp_path / "a.mp4", fps=3, size=32, decoding="fast", info=probe(tmp_path / "a.mp4"))
    assert ffmpeg.get_args(stream.output("pipe:", format="rawvideo"))[:-5] == [
        *[
            "-copyts",
            "-itsoffset",
            "-0.001000",
            "-skip_loop_filter",
            "all",
            *threads,
            "-i",
            f"file:{tmp_path / 'a.mp4'}",
        ],
        "-filter_complex",
        "[0:V:0]tpad=stop_duration=1:stop_mode=clone[s0];[s0]fps=fps=3:round=up:start_time=0[s1];"
        "[s1]scale=32:32:flags=bicubic[s2]",
    ]


@pytest.mark.parametrize(
    ("width", "height", "size", "steps"),
    [
        (1920, 1080, 128, [(960, 540), (480, 270), (240, 136)]),
        (640, 360, 128, [(320, 180), (160, 180)]),
        (160, 90, 128, [(160, 90)]),
        (256, 256, 128, [(128, 128)]),
    ],
)
def test_halvings(width, height, size, steps):
    assert halvings(width, height, size) == steps


@given(width=st.integers(16, 8000), height=st.integers(16, 8000), size=st.integers(8, 512))
def test_no_step_on_the_gpu_leaves_pixels_out(width, height, size):
    before = (width, height)
    for step in halvings(width, height, size):
        for old, new in zip(before, step, strict=True):
            assert new % 2 == 0
            assert 2 * new >= old - 1
            assert new >= min(size, old)
        before = step
    assert max(before) < 2 * size + 2


def test_without_a_gpu_the_cpu_is_taken_in_silence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    make_numbered(tmp_path / "a.mp4", seconds=1)
    assert choose_accelerator(tmp_path / "a.mp4") == "cpu"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU, which would decode the file")
def test_a_gpu_that_does_not_decode_the_file_is_passed_over_with_a_warning(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    make_numbered(tmp_path / "a.mp4", seconds=1)
    with pytest.warns(HlkitWarning, match="using the CPU"):
        assert choose_accelerator(tmp_path / "a.mp4") == "cpu"
    with (
        pytest.raises(FFmpegError),
        open_ffmpeg(
            sampled(tmp_path / "a.mp4", fps=3, size=32, accelerator="cuda").output("pipe:", format="rawvideo")
        ) as process,
    ):
        process.stdout.read()


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="there is no GPU")
@pytest.mark.parametrize("name", ["ntsc_60.mp4", "variable.mp4", "start_offset.ts"])
def test_a_gpu_shows_the_same_pictures(tmp_path, name):
    path = tmp_path / name
    times = make_numbered(path, seconds=6, width=256, height=256, **RECORDINGS[name])
    if not has_cuda(path):
        pytest.skip("the GPU does not decode H.264 here")
    shown = pictures(sampled(path, fps=3, size=32, start=4, accelerator="cuda"), 32, **{"frames:v": 6})
    assert [read_number(picture) for picture in shown] == [
        number_at(times, 4 + Fraction(n, 3) + Fraction(TIMESTAMP_TOLERANCE)) for n in range(6)
    ]


@pytest.mark.parametrize(("cpu", "cuda", "chosen"), [(10.0, 20.0, "cuda"), (20.0, 10.0, "cpu")])
def test_auto_takes_the_faster(tmp_path, monkeypatch, cpu, cuda, chosen):
    speeds = {"cpu": cpu, "cuda": cuda}
    monkeypatch.setattr(sampling, "has_cuda", lambda path: True)
    monkeypatch.setattr(sampling, "_speed", lambda path, kind, **_: speeds[kind])
    assert choose_accelerator(tmp_path / "a.mp4") == chosen
    assert choose_accelerator(tmp_path / "a.mp4", "cpu") == "cpu"
    assert choose_accelerator(tmp_path / "a.mp4", "cuda") == "cuda"


def test_the_trial_counts_pictures_a_second(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=4)
    assert sampling._speed(tmp_path / "a.mp4", "cpu", fps=Fraction(30), size=32) > 30
