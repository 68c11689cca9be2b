"""How fast highlights are cut out of a long recording: by a filter graph, by smart cut, at keyframes.

`benchmarks/video.py` runs these tables. A short recording (H.264) is repeated, copied packet by packet, to the wanted
lengths in a temporary folder, and ten cuts are spread over it. `long` cuts a long one in the same way.

The filter graph is what ffmpeg-python's users write: `trim` and `atrim` for each cut, `concat`, one output; the whole
file is decoded. It takes minutes, so that it runs fewer times than the others.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from hlkit.cuts import Cut, reel_rate
from hlkit.project import need_disk
from hlkit.reel import write_reel
from hlkit.video import probe, run_ffmpeg

CUTS = 10
CUT_SECONDS = 8


def reel(source: Path, *, minutes: float, runs: int, slow_runs: int, peer: Path | None = None) -> None:
    """Ten cuts of 8 s: the graph, smart cut, keyframe cut."""
    with tempfile.TemporaryDirectory() as folder:
        recording, target = Path(folder) / "recording.mp4", Path(folder) / "reel.mp4"
        repeat(source, recording, minutes * 60)
        cuts = spread(recording)
        ways: dict[str, Callable[[], object]] = {
            "smart cut": lambda: write_reel(recording, cuts, target, cut="smart", progress=False),
            "keyframe cut": lambda: write_reel(recording, cuts, target, cut="keyframe", progress=False),
            "every cut encoded": lambda: write_reel(recording, cuts, target, cut="encode", progress=False),
            "trim+concat graph": lambda: trim_and_concat(recording, cuts, target),
        }
        if peer is not None:
            edges = ",".join(f"{edge:.6f}" for cut in cuts for edge in (cut.start, cut.end))
            ways["smartcut package"] = lambda: subprocess.run([peer, recording, target, "--keep", edges], check=True)
        slow: dict[str, int] = dict.fromkeys(("every cut encoded", "trim+concat graph"), slow_runs)
        seconds = measure(ways, {name: slow.get(name, runs) for name in ways})
    median = {name: statistics.median(values) for name, values in seconds.items()}
    graph = median["trim+concat graph"]
    print(f"{CUTS} cuts of {CUT_SECONDS} s out of {minutes:g} min of {probe(source)}.")
    print("| | s | runs | graph / it |\n|---|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {median[name]:.2f} | {len(values)} | {graph / median[name]:.1f} |", flush=True)


def long_reel(source: Path, *, minutes: Sequence[float], runs: int) -> None:
    """Smart cut of a short and a long recording, the same ten cuts in both and ten spread over the long one."""
    with tempfile.TemporaryDirectory() as folder:
        need_disk(Path(folder), sum(minutes) * 60 * source.stat().st_size / probe(source).duration, what="This table")
        short, long = (Path(folder) / f"{each:g}.mp4" for each in minutes)
        for recording, each in zip((short, long), minutes, strict=True):
            repeat(source, recording, each * 60)
        target, cuts = Path(folder) / "reel.mp4", spread(short)
        ways: dict[str, Callable[[], object]] = {
            f"of {minutes[0]:g} min": lambda: write_reel(short, cuts, target, progress=False),
            f"the same, of {minutes[1]:g} min": lambda: write_reel(long, cuts, target, progress=False),
            f"spread over {minutes[1]:g} min": lambda: write_reel(long, spread(long), target, progress=False),
        }
        seconds = measure(ways, dict.fromkeys(ways, runs))
    median = [statistics.median(values) for values in seconds.values()]
    print("| smart cut | s | / the short one |\n|---|---|---|")
    for name, value in zip(seconds, median, strict=True):
        print(f"| {name} | {value:.2f} | {value / median[0]:.2f} |", flush=True)


def repeat(source: Path, target: Path, seconds: float) -> None:
    """Copy the packets of `source` again and again, each time later by the exact length of its pictures."""
    import av

    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in container.streams}
        pictures = container.streams.video[0]
        assert pictures.duration is not None and pictures.time_base is not None
        length = pictures.duration * pictures.time_base
        packets = [(packet, bytes(packet), packet.time_base) for packet in container.demux() if packet.size]
        later = Fraction(0)
        while later < seconds:
            for packet, data, tick in packets:
                assert packet.pts is not None and packet.dts is not None and tick is not None
                if packet.pts * tick < length and packet.pts * tick + later < seconds:
                    copy = av.Packet(data)
                    copy.stream, copy.time_base, copy.duration = copies[packet.stream.index], tick, packet.duration
                    copy.pts, copy.dts = packet.pts + round(later / tick), packet.dts + round(later / tick)
                    copy.is_keyframe = packet.is_keyframe
                    output.mux(copy)
            later += length


def spread(recording: Path) -> list[Cut]:
    """Cuts at even distances, each at another place in its GOP, on picture borders."""
    info = probe(recording)
    rate = reel_rate(info)
    step = (info.duration - 2 * CUT_SECONDS) / CUTS
    starts = [Fraction(round((number * (step + 0.173)) * rate)) / rate for number in range(CUTS)]
    return [Cut(float(start), float(start + CUT_SECONDS)) for start in starts]


def trim_and_concat(recording: Path, cuts: Sequence[Cut], target: Path) -> None:
    """The graph, with the encoder's settings of `write_reel`."""
    import ffmpeg

    source = ffmpeg.input(str(recording))
    pictures, sound = source.video.filter_multi_output("split"), source.audio.filter_multi_output("asplit")
    parts: list[Any] = []
    for number, cut in enumerate(cuts):
        parts.append(pictures[number].filter("trim", start=cut.start, end=cut.end).filter("setpts", "PTS-STARTPTS"))
        parts.append(sound[number].filter("atrim", start=cut.start, end=cut.end).filter("asetpts", "PTS-STARTPTS"))
    joined = ffmpeg.concat(*parts, v=1, a=1).node
    options = {"c:v": "libx264", "preset": "veryfast", "crf": 20, "c:a": "aac", "b:a": "160k"}
    run_ffmpeg(ffmpeg.output(joined[0], joined[1], str(target), **options), progress=False)


def measure(ways: dict[str, Callable[[], object]], runs: dict[str, int]) -> dict[str, list[float]]:
    """Seconds of each run, the ways in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(max(runs.values())):
        for name, way in ways.items():
            if turn < runs[name]:
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
    return seconds
