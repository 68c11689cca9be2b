import errno
import fcntl
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import ffmpeg
import numpy as np
import polars as pl
import psutil
import pytest
from PIL import Image
from recordings import make_numbered, number_at, read_number

from hlkit import extraction
from hlkit.frames import (
    FRAME_SCHEMA,
    FrameReader,
    extract_frames,
    gaps,
    read_index,
    stream_pictures,
)
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sampling import TIMESTAMP_TOLERANCE
from hlkit.video import FFmpegError, probe, run_ffmpeg

PLACE = ("video", "shard", "offset", "size")


def ffmpegs() -> list[psutil.Process]:
    """The ffmpeg programs that this process runs; servers of other tests may run beside them."""
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def extract(video: Path, folder: Path, **options) -> pl.DataFrame:
    return extract_frames(
        video, folder, **({"video_id": folder.name, "size": 32, "shard_seconds": 4, "progress": False} | options)
    )


def numbers(root: Path, index: pl.DataFrame) -> list[int]:
    reader = FrameReader(root)
    return [read_number(reader.read(*row)) for row in index.select(PLACE).rows()]


def on_screen(times: list[Fraction], fps, count: int) -> list[int]:
    return [number_at(times, n / Fraction(fps) + Fraction(TIMESTAMP_TOLERANCE)) for n in range(count)]


def content(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, list[Fraction]]:
    path = tmp_path_factory.mktemp("recording") / "a.mp4"
    return path, make_numbered(path, seconds=13, fps="60000/1001", sound=True)


@pytest.fixture(scope="module")
def clean(recording, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "a"
    extract(recording[0], folder)
    return folder


def test_stored_frames_are_what_was_on_screen(recording, clean):
    index = read_index(clean)
    assert dict(index.schema) == FRAME_SCHEMA
    assert index["frame"].to_list() == list(range(39))
    assert index["time"].to_list() == [frame / 3 for frame in range(39)]
    assert index["video"].unique().to_list() == ["a"]
    assert index["shard"].to_list() == [f"{frame // 12:05d}.tar" for frame in range(39)]
    assert numbers(clean.parent, index) == on_screen(recording[1], 3, 39)


@pytest.mark.parametrize(
    ("name", "fps", "options"),
    [
        ("film.mp4", "30000/1001", {"fps": "24000/1001"}),
        ("variable.mkv", 5, {"vfr": True}),
        ("late.ts", 3, {"start": 1}),
    ],
)
def test_times_hold_across_shards_whatever_the_rates(tmp_path, name, fps, options):
    times = make_numbered(tmp_path / name, seconds=5, sound=True, **options)
    index = extract(tmp_path / name, tmp_path / "frames" / "a", fps=fps, shard_seconds=2)
    assert numbers(tmp_path / "frames", index) == on_screen(times, fps, len(index))
    assert index["time"].to_list() == [float(frame / Fraction(fps)) for frame in range(len(index))]


def test_the_index_points_into_plain_tars(clean):
    index, reader = read_index(clean), FrameReader(clean.parent)
    for (shard,), rows in index.group_by("shard"):
        with tarfile.open(clean / shard) as tar:
            assert tar.getnames() == [f"{frame:08d}.jpg" for frame in rows["frame"]]
            for name, row in zip(tar.getnames(), rows.select(PLACE).rows(), strict=True):
                assert reader.read(*row) == tar.extractfile(name).read()


def test_a_second_run_keeps_everything(recording, clean, tmp_path):
    folder = tmp_path / "a"
    first = extract(recording[0], folder)
    before = {file.name: file.stat().st_ino for file in folder.glob("*.tar")}
    assert extract(recording[0], folder).equals(first)
    assert {file.name: file.stat().st_ino for file in folder.glob("*.tar")} == before
    assert content(folder) == content(clean)


def _lose(folder: Path) -> None:
    for name in ("00001.tar", "00003.tar", "index.parquet"):
        (folder / name).unlink()


def _cut(folder: Path) -> None:
    shard = folder / "00002.tar"
    shard.write_bytes(shard.read_bytes()[:3000])


def _swap(folder: Path) -> None:
    (folder / "00000.tar").replace(folder / "00001.tar")


def _leave_parts(folder: Path) -> None:
    (folder / ".part-abc").mkdir()
    (folder / ".part-abc" / "00003.tar").write_bytes(b"half")
    (folder / "00003.tar").unlink()


def _spoil_index(folder: Path) -> None:
    (folder / "index.parquet").write_bytes(b"PAR1 no index")


def _spoil_record(folder: Path) -> None:
    (folder / "extraction.json").write_text("{")


@pytest.mark.parametrize("harm", [_lose, _cut, _swap, _leave_parts, _spoil_index, _spoil_record])
def test_a_run_again_mends_what_is_not_whole(recording, clean, tmp_path, harm):
    folder = tmp_path / "a"
    extract(recording[0], folder)
    harm(folder)
    extract(recording[0], folder)
    assert content(folder) == content(clean)


@pytest.mark.parametrize("change", [{"fps": 2}, {"size": 48}, {"quality": 9}, {"shard_seconds": 3}, {"end": 6.5}])
def test_other_settings_start_over(recording, tmp_path, change):
    extract(recording[0], tmp_path / "changed" / "a")
    extract(recording[0], tmp_path / "changed" / "a", **change)
    extract(recording[0], tmp_path / "clean" / "a", **change)
    assert content(tmp_path / "changed") == content(tmp_path / "clean")


def test_another_recording_starts_over(recording, tmp_path):
    extract(recording[0], tmp_path / "frames" / "a")
    times = make_numbered(tmp_path / "b.mp4", seconds=13, fps=30, first=1000)
    index = extract(tmp_path / "b.mp4", tmp_path / "frames" / "a")
    assert numbers(tmp_path / "frames", index) == [1000 + number for number in on_screen(times, 3, 39)]


RUN = """
import sys
from pathlib import Path
from hlkit.frames import extract_frames
print("ready", flush=True)
options = {"fps": 10, "size": 32, "shard_seconds": 1, "progress": False}
extract_frames(Path(sys.argv[1]), Path(sys.argv[2]), video_id="a", **options)
"""


def start_run(video: Path, folder: Path) -> subprocess.Popen:
    run = subprocess.Popen([sys.executable, "-c", RUN, video, folder], stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"ready\n"
    return run


def finish(run: subprocess.Popen) -> None:
    run.stdout.close()
    run.wait()


def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(recording, tmp_path):
    whole = start_run(recording[0], tmp_path / "clean")
    began = time.monotonic()
    finish(whole)
    length = time.monotonic() - began
    assert whole.returncode == 0

    dice, folder, kills = random.Random(7), tmp_path / "killed", 0
    for _ in range(5):
        run = start_run(recording[0], folder)
        try:
            run.wait(timeout=dice.uniform(0, length * 0.6))
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            kills += 1
        finish(run)
        finished = content(tmp_path / "clean")
        for name, digest in content(folder).items():
            assert name.startswith(".part-") or finished[name] == digest
    assert kills > 0
    last = start_run(recording[0], folder)
    finish(last)
    assert last.returncode == 0
    assert content(folder) == content(tmp_path / "clean")
    assert sorted(folder.iterdir()) == [folder / name for name in sorted(content(tmp_path / "clean"))]


HELD = """
import sys
from pathlib import Path
from hlkit import extraction
from hlkit.frames import extract_frames
real = extraction.write_shard
def waits(target, *args, **options):
    if target.name == "00001.tar":
        print("at work", flush=True)
        sys.stdin.readline()
    return real(target, *args, **options)
extraction.write_shard = waits
options = {"size": 32, "shard_seconds": 4, "progress": False}
extract_frames(Path(sys.argv[1]), Path(sys.argv[2]), video_id="a", **options)
"""


@pytest.mark.parametrize("redo", [False, True])
def test_a_second_run_at_the_same_time_says_so_and_harms_nothing(recording, clean, tmp_path, redo):
    folder, pipe = tmp_path / "a", {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", HELD, recording[0], folder], **pipe)
    assert first.stdout.readline() == "at work\n"
    before = content(folder)
    assert "00000.tar" in before
    second = RUN.replace('"fps": 10, "size": 32, "shard_seconds": 1', f'"redo": {redo}')
    run = subprocess.run([sys.executable, "-c", second, recording[0], folder], capture_output=True, text=True)
    assert run.returncode == 1
    says = "The frames of a are being made in another notebook or terminal. Wait until that is done, or stop it there"
    assert says in run.stderr.splitlines()[-1]
    assert content(folder) == before
    first.communicate("go on\n")
    assert first.returncode == 0
    assert content(folder) == content(clean)


def test_a_run_that_is_killed_keeps_nobody_out(recording, clean, tmp_path):
    folder, pipe = tmp_path / "a", {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", HELD, recording[0], folder], **pipe)
    assert first.stdout.readline() == "at work\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    extract(recording[0], folder)
    assert content(folder) == content(clean)


def test_a_disk_that_can_not_hold_folders_is_told(recording, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(HlkitWarning, match=r"can't be locked \(.*Operation not supported\); run this in one place"):
        assert len(extract(recording[0], tmp_path / "a")) == 39


def test_redo_makes_every_shard_again(recording, clean, tmp_path):
    extract(recording[0], tmp_path / "a")
    for file in (tmp_path / "a").iterdir():
        os.utime(file, (0, 0))
    extract(recording[0], tmp_path / "a", redo=True)
    assert all(file.stat().st_mtime > 0 for file in (tmp_path / "a").iterdir())
    assert content(tmp_path / "a") == content(clean)


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_run_keeps_its_whole_shards_and_no_index(recording, clean, tmp_path, monkeypatch, written):
    folder, real, calls = tmp_path / "a", extraction.write_shard, itertools.count()

    def interrupted(target, frames, jpegs, **options):
        if next(calls) == written:
            jpegs = itertools.chain(itertools.islice(jpegs, 2), _interrupt())
        return real(target, frames, jpegs, **options)

    monkeypatch.setattr(extraction, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(recording[0], folder)
    assert sorted(content(folder)) == [*(f"{n:05d}.tar" for n in range(written)), "extraction.json"]
    assert ffmpegs() == []
    made = []
    monkeypatch.setattr(extraction, "write_shard", lambda *args, **each: made.append(args[1]) or real(*args, **each))
    extract(recording[0], folder)
    assert content(folder) == content(clean)
    # The shard at which it was interrupted is all that is made twice.
    assert made == [range(start, min(start + 12, 39)) for start in range(12 * written, 39, 12)]


def test_a_run_that_mends_a_finished_folder_has_no_index_until_it_is_done(recording, clean, tmp_path, monkeypatch):
    folder = tmp_path / "a"
    extract(recording[0], folder)
    (folder / "00002.tar").unlink()
    monkeypatch.setattr(extraction, "write_shard", lambda *_, **__: next(_interrupt()))
    with pytest.raises(KeyboardInterrupt):
        extract(recording[0], folder)
    assert sorted(content(folder)) == ["00000.tar", "00001.tar", "00003.tar", "extraction.json"]


def _interrupt():
    raise KeyboardInterrupt
    yield


def test_no_space_left_leaves_whole_shards_only(recording, clean, tmp_path):
    limited = f"""
import resource
from pathlib import Path
from hlkit.frames import extract_frames
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
options = {{"video_id": "a", "size": 32, "shard_seconds": 4, "progress": False}}
try:
    extract_frames(Path({str(recording[0])!r}), Path({str(tmp_path / "a")!r}), **options)
except OSError as error:
    print(error.strerror)
"""
    run = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert run.stdout == "File too large\n"
    assert list(content(tmp_path / "a")) == ["extraction.json"]
    extract(recording[0], tmp_path / "a")
    assert content(tmp_path / "a") == content(clean)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_recording_that_was_cut_off_the_rest_is_kept(tmp_path, name):
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    times = make_numbered(tmp_path / name, seconds=12, fps=30, container_options=options)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 75 // 100])
    says = r"a\.m.. can't be decoded from 0:00:0[6-9]\.\d to 0:00:12\.0; these \d+ frames are left out"
    with pytest.warns(HlkitWarning, match=says):
        index = extract(tmp_path / name, tmp_path / "frames" / "a")
    assert index["frame"].to_list() == list(range(len(index)))
    assert 18 <= len(index) < 28
    shown = on_screen(times, 3, len(index))
    # Less than a second before the end the last picture may stay.
    assert all(0 <= want - got <= 30 for got, want in zip(numbers(tmp_path / "frames", index), shown, strict=True))
    assert gaps(index, range(36), 3) == [(len(index) / 3, 12)]
    assert read_index(tmp_path / "frames" / "a").equals(index)
    with pytest.raises(HlkitError, match=r"was cut off.*keep what there is"):
        list(stream_pictures(tmp_path / name, fps=3, size=32))


def test_a_stretch_is_stored_with_the_numbers_and_shards_of_the_whole(recording, clean, tmp_path):
    whole = read_index(clean)
    part = extract(recording[0], tmp_path / "a", start=4.5, end=9.1)
    assert part["frame"].to_list() == list(range(14, 28))
    expected = whole.filter(pl.col("frame").is_between(14, 27))
    assert part.select("video", "frame", "time", "shard").equals(expected.select("video", "frame", "time", "shard"))
    assert numbers(tmp_path, part) == numbers(clean.parent, expected)
    assert sorted(file.name for file in (tmp_path / "a").glob("*.tar")) == ["00001.tar", "00002.tar"]
    before = content(tmp_path / "a")
    extract(recording[0], tmp_path / "a", start=4.5, end=9.1)
    assert content(tmp_path / "a") == before


def test_a_box_is_all_that_is_stored(tmp_path):
    # Left half dark, right half bright.
    path = tmp_path / "a.mkv"
    halves = ["-f", "lavfi", "-i", "color=black:s=64x64:d=2:r=30", "-vf", "drawbox=32:0:32:64:white:fill", str(path)]
    run_ffmpeg(halves, progress=False)
    reader = FrameReader(tmp_path)
    for name, box, grey in (("left", (0, 0, 0.5, 1), 0), ("right", (0.5, 0.25, 1, 0.75), 255)):
        index = extract(path, tmp_path / name, box=box)
        picture = np.asarray(Image.open(BytesIO(reader.read(*index.select(PLACE).row(0)))))
        assert abs(picture[8:24, 8:24].astype(int) - grey).max() <= 3
    assert json.loads((tmp_path / "left" / "extraction.json").read_text())["box"] == [0, 0, 0.5, 1]


@pytest.mark.parametrize(("matrix", "colours"), [(6, []), (1, ["format", "scale"])])
def test_the_whole_command_of_an_extraction_on_the_gpu(tmp_path, monkeypatch, matrix, colours):
    said = []

    def note(output, *_, **__):
        said.append(ffmpeg.get_args(output))
        raise FFmpegError("there is no GPU")

    monkeypatch.setattr(extraction, "open_ffmpeg", note)
    make_numbered(tmp_path / "a.mp4", seconds=2, width=512, height=288)
    real = probe(tmp_path / "a.mp4")
    monkeypatch.setattr("hlkit.frames.probe", lambda path: replace(real, matrix=matrix))
    with pytest.raises(FFmpegError, match="there is no GPU"):
        extract(tmp_path / "a.mp4", tmp_path / "frames" / "a", size=128, accelerator="cuda")
    stretched = "" if colours else ":out_range=full"
    by_rgb = "[s6]format=rgb24[s7];[s7]scale=out_color_matrix=bt601:out_range=full[s8];[s8]" if colours else "[s6]"
    last = "s9" if colours else "s7"
    assert said == [
        [
            *["-copyts", "-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-itsoffset", "-0.001000"],
            *["-i", f"file:{tmp_path / 'a.mp4'}", "-filter_complex"],
            "[0:V:0]fps=fps=3:round=up:start_time=0[s0];"
            "[s0]scale_cuda=256:144:format=nv12:interp_algo=bilinear[s1];"
            "[s1]scale_cuda=128:144:format=nv12:interp_algo=bilinear[s2];"
            "[s2]hwdownload[s3];[s3]format=nv12[s4];[s4]tpad=stop_duration=1:stop_mode=clone[s5];"
            f"[s5]scale=128:128:flags=bicubic{stretched}[s6];{by_rgb}format=yuvj420p[{last}]",
            *["-map", f"[{last}]", "-f", "nut", "-flags:v", "+bitexact", "-frames:v", "6"],
            *["-huffman", "default", "-q:v", "3"],
            *["-threads", "1", "-vcodec", "mjpeg", "pipe:"],
        ]
    ]


def test_exact_decoding_shows_the_same_pictures(recording, clean, tmp_path):
    index = extract(recording[0], tmp_path / "a", decoding="exact")
    assert numbers(tmp_path, index) == numbers(clean.parent, read_index(clean))
    assert content(tmp_path / "a") != content(clean)


def test_a_length_that_is_a_little_too_long_shows_the_last_picture(tmp_path):
    make_numbered(tmp_path / "a.flv", seconds=2.05, fps=20, bframes=0, sound=np.zeros(int(48_000 * 2.9)))
    index = extract(tmp_path / "a.flv", tmp_path / "frames" / "a")
    assert numbers(tmp_path / "frames", index) == [0, 6, 13, 20, 26, 33, 40, 40, 40]


@pytest.mark.parametrize(
    ("make", "says"),
    [(lambda path: None, "There is no video file"), (Path.touch, "is empty"), (Path.mkdir, "There is no video file")],
)
def test_what_is_no_video_leaves_nothing_behind(tmp_path, make, says):
    make(tmp_path / "a.mp4")
    with pytest.raises(HlkitError, match=says):
        extract(tmp_path / "a.mp4", tmp_path / "frames" / "a")
    assert not (tmp_path / "frames").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"fps": "x"}, "frame rate is 'x'"),
        ({"quality": 1}, "JPEG quality is 1"),
        ({"end": 0}, "no pictures from 0 s to 0 s"),
        ({"size": 0}, "picture size is 0"),
        ({"fps": "0.1"}, "holds no frame"),
        ({"start": 20}, "no pictures from 20 s to"),
        ({"start": -1}, "no pictures from -1 s to"),
        ({"start": 5, "end": 5}, "no pictures from 5 s to 5 s"),
        ({"box": (0, 0, 1.5, 1)}, "The box is"),
        ({"decoding": "quick"}, "exact and fast"),
    ],
)
def test_wrong_settings_are_named(recording, tmp_path, wrong, says):
    with pytest.raises(HlkitError, match=says):
        extract(recording[0], tmp_path / "a", **wrong)
    assert not list(tmp_path.rglob("*.tar"))


# The matrix's number, and red in it: brightness, blue and red difference.
@pytest.mark.parametrize(("matrix", "red_in_it"), [(1, (63, 102, 240)), (2, (81, 90, 240)), (6, (81, 90, 240))])
def test_stored_and_streamed_pictures_have_the_recordings_colours(tmp_path, matrix, red_in_it):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
        red = np.full((96, 64), red_in_it[0], np.uint8)
        red[64:80], red[80:] = red_in_it[1:]
        packets = [p for _ in range(10) for p in stream.encode(av.VideoFrame.from_ndarray(red, format="yuv420p"))]
        container.mux(packets + stream.encode(None))
    index = extract(tmp_path / "a.mp4", tmp_path / "frames" / "a")
    stored = FrameReader(tmp_path / "frames").read(*index.select(PLACE).row(0))
    streamed = next(stream_pictures(tmp_path / "a.mp4", fps=3, size=32))[0]
    for picture in (np.asarray(Image.open(BytesIO(stored))), streamed):
        assert np.abs(picture.astype(int) - (255, 0, 0)).max() <= 4


def test_streamed_pictures_are_the_stored_ones(recording, clean):
    batches = list(stream_pictures(recording[0], fps=3, size=32, batch_size=16))
    assert [batch.shape for batch in batches] == [(16, 32, 32, 3), (16, 32, 32, 3), (7, 32, 32, 3)]
    assert batches[0].dtype == np.uint8
    assert [read_number(p) for p in np.concatenate(batches)] == numbers(clean.parent, read_index(clean))


def test_a_stretch_is_streamed_from_its_start(recording):
    (batch,) = stream_pictures(recording[0], fps=10, size=32, start=5.05, end=7)
    times = [Fraction("5.05") + Fraction(n, 10) + Fraction(TIMESTAMP_TOLERANCE) for n in range(20)]
    assert [read_number(picture) for picture in batch] == [number_at(recording[1], time) for time in times]


@pytest.mark.parametrize("stretch", [{"start": 13.5}, {"start": 5.0, "end": 5.0}, {"start": -1.0}])
def test_a_stretch_outside_the_recording_is_refused_at_once(recording, stretch):
    with pytest.raises(HlkitError, match="has no pictures from"):
        stream_pictures(recording[0], fps=3, size=32, **stretch)


def test_a_stream_that_is_left_early_stops_ffmpeg(recording):
    stream = stream_pictures(recording[0], fps=30, size=64, batch_size=2)
    assert next(stream).shape == (2, 64, 64, 3)
    assert len(ffmpegs()) == 1
    stream.close()
    assert ffmpegs() == []


def test_an_index_that_can_not_be_used_says_so(tmp_path):
    with pytest.raises(HlkitError, match="has no finished frames"):
        read_index(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"nothing")
    with pytest.raises(HlkitError, match="is damaged"):
        read_index(tmp_path)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "index.parquet")
    with pytest.raises(HlkitError, match="is no frame index"):
        read_index(tmp_path)


@pytest.mark.slow
def test_six_hours_need_the_memory_of_ten_minutes(tmp_path):
    from hlkit.video import run_ffmpeg

    make_numbered(tmp_path / "minute.mp4", seconds=60, fps=10, sound=True)
    measure = RUN.replace("10,", "3,") + "import resource\nfor who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):"
    measure += "\n    print(resource.getrusage(who).ru_maxrss)\n"
    peaks = []
    for minutes in (10, 360):
        video = tmp_path / f"{minutes}.mp4"
        loop = ["-stream_loop", minutes - 1, "-i", tmp_path / "minute.mp4", "-c", "copy", video]
        run_ffmpeg(loop, progress=False)
        script = measure.replace('"shard_seconds": 1', '"shard_seconds": 600')
        run = subprocess.run(
            [sys.executable, "-c", script, video, tmp_path / str(minutes)], capture_output=True, check=True
        )
        peaks.append(sum(map(int, run.stdout.split()[-2:])))
        frames = json.loads((tmp_path / str(minutes) / "extraction.json").read_text())["frames"]
        assert round(frames / 180) == minutes
    assert peaks[1] < 1.2 * peaks[0], peaks
