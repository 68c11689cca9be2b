import re
import shutil
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import draw_number, make_numbered, read_number

from hlkit.project import HlkitError
from hlkit.video import FFmpegError, VideoInfo, find_ffmpeg, frame_count, frame_rate, open_ffmpeg, probe, run_ffmpeg

ENDLESS = ["-f", "lavfi", "-i", "color=size=16x16", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:"]


@pytest.fixture
def no_cache():
    find_ffmpeg.cache_clear()
    yield
    find_ffmpeg.cache_clear()


@given(number=st.integers(0, 65535), width=st.integers(8, 80), height=st.integers(8, 80))
def test_a_drawn_number_is_read_back(number, width, height):
    assert read_number(draw_number(number, width * 2, height * 2)) == number


def test_probe_reads_what_the_container_says(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=2.002, fps="24000/1001", width=96, height=64, sound=True)
    assert probe(tmp_path / "a.mp4") == VideoInfo(
        path=tmp_path / "a.mp4",
        duration=2.002,
        width=96,
        height=64,
        fps=Fraction(24000, 1001),
        start_time=0.0,
        codec="h264",
        has_audio=True,
        matrix=2,
        container="mov,mp4,m4a,3gp,3g2,mj2",
    )
    assert str(probe(tmp_path / "a.mp4")) == "a.mp4: 0:00:02, 96x64 at 23.976 fps, h264, with sound"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_length_is_that_of_the_pictures_not_of_the_sound(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    make_numbered(path, seconds=2, sound=np.zeros(48_000 * 5))
    assert probe(path).duration == pytest.approx(2.0, abs=0.001)


def test_time_0_is_the_start_of_the_containers_clock(tmp_path):
    make_numbered(tmp_path / "a.ts", seconds=2)
    info = probe(tmp_path / "a.ts")
    assert info.start_time > 0
    assert info.duration == pytest.approx(2.0, abs=0.001)


def _no_file(path: Path) -> None:
    path.unlink(missing_ok=True)


def _cut_off(path: Path) -> None:
    make_numbered(path, seconds=2)
    path.write_bytes(path.read_bytes()[:1000])


def _sound_only(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))


def _song_with_a_cover(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        tone, cover = container.add_stream("aac", rate=48_000, layout="mono"), container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(tone.encode(frame) + tone.encode(None))
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture.reformat(format="yuvj420p")) + cover.encode(None))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_no_file, "There is no video file"),
        (Path.mkdir, "There is no video file"),
        (Path.touch, "is empty"),
        (lambda path: path.write_bytes(b"no video" * 1000), "can't be read as a video"),
        (_cut_off, "can't be read as a video"),
        (_sound_only, "holds no pictures"),
        (_song_with_a_cover, "holds no pictures"),
    ],
)
def test_what_is_no_video_gets_one_clear_sentence(tmp_path, make, says):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(HlkitError, match=f"(?s){says}") as caught:
        probe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"duration": 0.0}, {"duration": float("nan")}, {"width": 0}, {"fps": Fraction(0)}])
def test_a_record_checks_itself(change):
    right = {"duration": 1.0, "width": 2, "height": 2, "fps": Fraction(3), "start_time": 0.0}
    with pytest.raises(HlkitError):
        VideoInfo(path=Path("a.mp4"), codec="h264", has_audio=False, **(right | change))


@pytest.mark.parametrize(("value", "rate"), [(3, 3), ("30000/1001", Fraction(30000, 1001)), (0.1, Fraction(1, 10))])
def test_frame_rates_are_exact(value, rate):
    assert frame_rate(value) == rate


@pytest.mark.parametrize("value", ["fast", "0", -3, "1/0", 241, float("nan"), float("inf"), ""])
def test_what_is_no_frame_rate_is_refused(value):
    with pytest.raises(HlkitError, match="frame rate"):
        frame_rate(value)


@pytest.mark.parametrize(
    ("duration", "fps", "count"),
    [(1.0, 3, 3), (1.1, 3, 4), (0.001, 3, 1), (600.0, "30000/1001", 17983), (10.000001, 3, 30), (0.0, 3, 0)],
)
def test_frame_count(duration, fps, count):
    assert frame_count(duration, fps) == count


@given(count=st.integers(1, 10**6), top=st.integers(1, 240_000), bottom=st.sampled_from([1, 1000, 1001]))
def test_frame_count_is_not_moved_by_float_noise(count, top, bottom):
    fps = Fraction(top, bottom)
    if fps <= 240 and count / fps < 10**6:
        assert frame_count(float(count / fps), fps) == count


def _program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_ffmpeg_is_the_one_named_then_the_systems_then_the_wheels(tmp_path, monkeypatch, no_cache):
    named, systems = _program(tmp_path / "named"), _program(tmp_path / "ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HLKIT_FFMPEG", str(named))
    assert find_ffmpeg() == str(named)
    find_ffmpeg.cache_clear()
    monkeypatch.delenv("HLKIT_FFMPEG")
    assert find_ffmpeg() == str(systems)
    find_ffmpeg.cache_clear()
    systems.unlink()
    assert "imageio_ffmpeg" in find_ffmpeg()
    find_ffmpeg.cache_clear()
    monkeypatch.setenv("HLKIT_FFMPEG", str(tmp_path / "nothing"))
    with pytest.raises(HlkitError, match=r"HLKIT_FFMPEG is '.*nothing'"):
        find_ffmpeg()


def test_a_failure_carries_ffmpegs_own_words(tmp_path):
    with pytest.raises(FFmpegError, match="No such file or directory"):
        run_ffmpeg(["-i", tmp_path / "nothing.mp4", tmp_path / "out.mp4"], progress=False)


def test_a_block_that_leaves_early_stops_ffmpeg_without_complaint():
    with open_ffmpeg(ENDLESS) as process:
        assert len(process.stdout.read(256)) == 256
    assert process.poll() is not None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_stops_ffmpeg_and_goes_on(error):
    with pytest.raises(error), open_ffmpeg(ENDLESS) as process:
        raise error
    assert process.poll() is not None


def test_a_failure_after_some_output_is_reported_at_the_end(tmp_path):
    make_numbered(tmp_path / "a.mkv", seconds=4)
    content = bytearray((tmp_path / "a.mkv").read_bytes())
    content[len(content) // 2 :: 7] = bytes(len(content[len(content) // 2 :: 7]))
    (tmp_path / "a.mkv").write_bytes(content)
    strict = ["-xerror", "-err_detect", "explode", "-i", tmp_path / "a.mkv", "-f", "rawvideo", "pipe:"]
    with pytest.raises(FFmpegError, match="status"), open_ffmpeg(strict) as process:
        assert len(process.stdout.read()) > 64 * 64


def test_many_complaints_do_not_stop_ffmpeg(tmp_path):
    out = tmp_path / "out.nut"
    talk = ["-loglevel", "trace", "-f", "lavfi", "-i", "testsrc=duration=20", "-f", "nut", str(out)]
    run_ffmpeg(talk, progress=False)
    assert out.stat().st_size > 0


def test_progress_counts_seconds_of_output(tmp_path, capsys):
    run_ffmpeg(["-f", "lavfi", "-i", "color=duration=4", "-f", "null", "-"], seconds=4.0, desc="reel")
    shown = capsys.readouterr().err
    assert re.search(r"reel: .*4\.0/4\.0", shown)
    run_ffmpeg(["-f", "lavfi", "-i", "color=duration=4", "-f", "null", "-"], seconds=4.0, progress=False)
    assert capsys.readouterr().err == ""


def test_a_stream_and_a_folder_to_run_in(tmp_path):
    import ffmpeg

    make_numbered(tmp_path / "a.mp4", seconds=1)
    stream = ffmpeg.input("a.mp4").output("b.mkv", c="copy")
    run_ffmpeg(stream, progress=False, cwd=tmp_path)
    assert probe(tmp_path / "b.mkv").duration == pytest.approx(1.0, abs=0.001)
    assert shutil.which(find_ffmpeg())


def test_where_no_large_pipe_is_to_be_had_a_small_one_serves(monkeypatch):
    monkeypatch.setattr("hlkit.video.PIPE_BYTES", 2**31 - 1)  # more than any system gives
    with open_ffmpeg(["-t", "1", *ENDLESS]) as process:
        assert process.stdout is not None
        assert len(process.stdout.read()) == 25 * 16 * 16
