"""How fast, and in how much memory, a recording becomes frames; `benchmarks/video.py` runs these tables.

All give the pictures at 3 a second as 224 x 224 pixels. Runs of the ways that are compared take turns in one process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hlkit.faults import find_holes
from hlkit.frames import extract_frames, stream_pictures
from hlkit.sampling import Decoding, decodes_in_one_thread
from hlkit.video import find_ffmpeg, probe

FPS, SIZE = 3, 224
RENDITIONS = ("1080p60", "360p30", "160p30")
DECODINGS: tuple[Decoding, ...] = ("exact", "fast")


def in_turns(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The median seconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def decode(video: Path, decoding: Decoding) -> None:
    """Decode all pictures and drop them, with hlkit's settings of the decoder."""
    options = ["-skip_loop_filter", "all"] if decoding == "fast" else []
    options += ["-threads", "1"] if decodes_in_one_thread(probe(video), os.cpu_count() or 1) else []
    run(*options, "-i", video, "-map", "0:v:0", "-f", "null", "-")


def run(*arguments: str | Path) -> None:
    """ffmpeg, to its end."""
    subprocess.run([find_ffmpeg(), "-v", "error", "-nostdin", *arguments], check=True)


def store(video: Path, decoding: Decoding = "exact") -> None:
    """hlkit's frame store, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"fps": FPS, "size": SIZE, "decoding": decoding, "progress": False}
        extract_frames(video, Path(folder) / "frames", video_id="frames", **options)  # pyright: ignore[reportArgumentType]


def over_decoding(videos: Mapping[str, Path], runs: int) -> None:
    """Extraction beside decoding alone with the same settings of the decoder."""
    print("| rendition | decoding | decoding alone, s | hlkit, s | hlkit / decoding |\n|---|---|---|---|---|")
    for name, video in videos.items():
        ways: dict[str, Callable[[], object]] = {}
        for kind in DECODINGS:
            ways[f"{kind} alone"] = partial(decode, video, kind)
            ways[kind] = partial(store, video, kind)
        found = in_turns(ways, runs)
        for kind in DECODINGS:
            alone, ours = found[f"{kind} alone"], found[kind]
            print(f"| {name} | {kind} | {alone:.2f} | {ours:.2f} | {ours / alone:.2f} |", flush=True)


def parts(videos: Mapping[str, Path], runs: int) -> None:
    """What becomes of the time beside decoding, which is fast: each step of ffmpeg's part added to those before."""
    dropped = "tpad=stop_mode=clone:stop_duration=1,fps=3:round=up:start_time=0"
    small = f"{dropped},scale={SIZE}:{SIZE}:flags=bicubic:out_range=full,format=yuvj420p"
    null = ("-f", "null", "-")
    jpegs = ("-c:v", "mjpeg", "-q:v", "3", "-huffman", "default", "-threads", "1", "-f", "nut", "-y", "/dev/null")
    print("| rendition | | s | / decoding | CPU s | / decoding |\n|---|---|---|---|---|---|")
    for name in RENDITIONS[1:]:
        single = ("-threads", "1") if decodes_in_one_thread(probe(videos[name]), os.cpu_count() or 1) else ()
        start = ("-skip_loop_filter", "all", *single, "-i", videos[name], "-map", "0:v:0")
        ways: dict[str, Callable[[], object]] = {
            "decoding alone": partial(run, *start, *null),
            "+ 3 pictures a second": partial(run, *start, "-vf", dropped, *null),
            f"+ made {SIZE} x {SIZE}": partial(run, *start, "-vf", small, *null),
            "+ made JPEGs: what ffmpeg does": partial(run, *start, "-vf", small, *jpegs),
            "hlkit: + checked, stored with an index": partial(store, videos[name], "fast"),
            "of it, reading the packets for holes": partial(find_holes, videos[name]),
            "of each, ffmpeg's start": partial(run, "-f", "lavfi", "-i", "color=s=16x16:d=0.1", *null),
        }
        used: dict[str, list[float]] = {step: [] for step in ways}
        found = in_turns({step: partial(with_cpu, way, used[step]) for step, way in ways.items()}, runs)
        for step, seconds in found.items():
            cpu, alone = (statistics.median(used[each]) for each in (step, "decoding alone"))
            ratios = f"{seconds / found['decoding alone']:.2f} | {cpu:.3f} | {cpu / alone:.2f}"
            print(f"| {name} | {step} | {seconds:.3f} | {ratios} |", flush=True)


def with_cpu(way: Callable[[], object], used: list[float]) -> None:
    """Do it, and note the CPU seconds that this process and those that it started took."""
    before = os.times()
    way()
    after = os.times()
    used.append(sum(after[:4]) - sum(before[:4]))


def full_size(video: Path) -> None:
    """The first systems' command: a full-size JPEG a file."""
    with tempfile.TemporaryDirectory() as folder:
        run("-i", video, "-vf", "fps=3", "-q:v", "25", Path(folder) / "%06d.jpg")


def over_full_size(videos: Mapping[str, Path], runs: int) -> None:
    """The first systems' command on the source rendition, over hlkit on the low ones of the same stream."""
    ways: dict[str, Callable[[], object]] = {"full": lambda: full_size(videos["1080p60"])}
    for name in RENDITIONS[1:]:
        for kind in DECODINGS:
            ways[f"{name}, {kind}"] = partial(store, videos[name], kind)
    found = in_turns(ways, runs)
    print(f"Full-size JPEGs of the 1080p60 source: {found['full']:.2f} s.")
    print("| hlkit on | s | full-size JPEGs / hlkit |\n|---|---|---|")
    for name in list(ways)[1:]:
        print(f"| {name} | {found[name]:.2f} | {found['full'] / found[name]:.1f} |", flush=True)


def beside_others(video: Path, runs: int) -> None:
    """The same pictures by other libraries, those that are installed; arrays in memory, and hlkit's also stored."""
    times = [number / FPS for number in range(int(probe(video).duration * FPS))]
    ways: dict[str, Callable[[], object]] = {
        f"hlkit, arrays, {kind}": lambda kind=kind: np.concatenate(
            list(stream_pictures(video, fps=FPS, size=SIZE, decoding=kind))
        )
        for kind in DECODINGS
    }
    ways |= {f"hlkit, stored, {kind}": partial(store, video, kind) for kind in DECODINGS}
    others = {"torchcodec": by_torchcodec, "av": by_pyav, "cv2": by_opencv, "decord": by_decord}
    ways |= {name: partial(measure, video, times) for name, measure in others.items() if find_spec(name)}
    found = in_turns(ways, runs)
    print("| | s | / hlkit, arrays, fast |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.2f} | {seconds / found['hlkit, arrays, fast']:.2f} |", flush=True)


def by_torchcodec(video: Path, times: list[float]) -> np.ndarray:
    """Frames on screen at the times, resized by its own transform."""
    import torch
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
    from torchvision.transforms.v2 import Resize

    decoder = VideoDecoder(str(video), num_ffmpeg_threads=0, seek_mode="approximate", transforms=[Resize((SIZE, SIZE))])
    frames: torch.Tensor = decoder.get_frames_played_at(times).data
    return frames.permute(0, 2, 3, 1).numpy()


def by_pyav(video: Path, times: list[float]) -> np.ndarray:
    """Every frame decoded with threads; the wanted ones scaled."""
    import av

    pictures, wanted = [], iter([*times, float("inf")])
    due, shown = next(wanted), None
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            while shown is not None and frame.time is not None and frame.time > due:
                pictures.append(shown.to_ndarray(format="rgb24", width=SIZE, height=SIZE))
                due = next(wanted)
            shown = frame
    return np.stack(pictures)


def by_opencv(video: Path, times: list[float]) -> np.ndarray:
    """Every frame grabbed; the wanted ones retrieved and resized."""
    import cv2  # pyright: ignore[reportMissingImports]

    capture, pictures, number = cv2.VideoCapture(str(video)), [], 0
    rate = capture.get(cv2.CAP_PROP_FPS)
    wanted = {int(time * rate + 1e-6) for time in times}
    while capture.grab():
        if number in wanted:
            picture = cv2.resize(capture.retrieve()[1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        number += 1
    return np.stack(pictures)


def by_decord(video: Path, times: list[float]) -> np.ndarray:
    """Frames by number, resized while decoding."""
    import decord  # pyright: ignore[reportMissingImports]

    reader = decord.VideoReader(str(video), width=SIZE, height=SIZE)
    return reader.get_batch([int(time * reader.get_avg_fps() + 1e-6) for time in times]).asnumpy()


MEMORY = """
import resource, subprocess, sys
from pathlib import Path
from hlkit.frames import extract_frames
from hlkit.video import find_ffmpeg
if sys.argv[1] == "extract":
    extract_frames(Path(sys.argv[2]), Path(sys.argv[3]), video_id="x", fps=3, size=224, progress=False)
else:
    opening = [find_ffmpeg(), "-v", "error", "-nostdin", "-i", sys.argv[2], "-frames:v", "1", "-f", "null", "-"]
    subprocess.run(opening, check=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def memory(video: Path, long_minutes: float) -> None:
    """Peak memory of extracting hours and ten minutes of the same recording, repeated by copying its packets.

    Beside it that of ffmpeg when it only opens the recording and shows its first picture.
    """
    print("| recording | hlkit, MB | its ffmpeg, MB | both / those of ten minutes | opening alone, MB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("mp4", "mkv"):
            short = 0.0
            for minutes in (10, long_minutes):
                long = Path(folder) / f"{minutes:g}.{suffix}"
                turns = int(minutes * 60 / probe(video).duration)
                run("-stream_loop", str(turns - 1), "-i", video, "-c", "copy", long)
                ours, its = _peaks("extract", long, f"{folder}/{minutes:g}-{suffix}")
                short = short or ours + its
                _, opening = _peaks("open", long, "")
                name = f"{minutes:g} min, {suffix}"
                print(f"| {name} | {ours:.0f} | {its:.0f} | {(ours + its) / short:.2f} | {opening:.0f} |", flush=True)
                long.unlink()


def _peaks(what: str, video: Path, folder: str) -> tuple[float, float]:
    """The peak memory of a process of its own and of the largest that it starts, in MB."""
    command = [sys.executable, "-c", MEMORY, what, str(video), folder]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours, its = (int(number) / 1024 for number in said.split())
    return ours, its


def renditions(folder: Path) -> Iterator[tuple[str, Path]]:
    """The recordings of one stream that the folder has, by name."""
    yield from ((name, folder / f"perf_{name}.mp4") for name in RENDITIONS)
