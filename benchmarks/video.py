"""How fast recordings are read and cut, beside decoding alone, other programs and other ways.

    python benchmarks/video.py ../shared/vods                                 # every table
    python benchmarks/video.py ../shared/vods --tables reel --minutes 20 --long-minutes 300

The folder holds one stream in three renditions: `perf_1080p60.mp4`, `perf_360p30.mp4`, `perf_160p30.mp4`. Figures are
medians of runs that take turns in one process. `others` measures those of torchcodec, PyAV, OpenCV and decord that are
installed. On two idle cores each table takes less than twelve minutes: `reel` nine, `extraction` five, `long` and
`memory` four. While it runs, `long` needs 14 GB of disk for its recordings, the others 2 GB; `--work` says where.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from extraction import beside_others, memory, over_decoding, over_full_size, parts, renditions
from reels import long_reel, reel

from hlkit.video import find_ffmpeg


def main() -> None:
    """Print the machine, and the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the recordings")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--work", type=Path, help="a folder for recordings that are made; the system's unless given")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow-runs", type=int, default=1, help="of what takes minutes")
    parser.add_argument("--minutes", type=float, default=20, help="length of the recording that is cut")
    parser.add_argument("--long-minutes", type=float, default=300, help="of the one that shows whether time grows")
    parser.add_argument("--memory-minutes", type=float, default=360, help="of the one that shows whether memory grows")
    parser.add_argument(
        "--smartcut", type=Path, help="the program of the smartcut package, to measure beside smart cut"
    )
    arguments = parser.parse_args()
    if arguments.work is not None:
        tempfile.tempdir = str(arguments.work)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"ffmpeg: {Path(find_ffmpeg()).name}; load before: {load}")
    videos = dict(renditions(arguments.folder))
    for table in arguments.tables:
        print(f"\n{table}", flush=True)
        began = time.monotonic()
        TABLES[table](arguments, videos)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)


def _reel(arguments: argparse.Namespace, videos: dict[str, Path]) -> None:
    reel(
        videos["1080p60"],
        minutes=arguments.minutes,
        runs=arguments.runs,
        slow_runs=arguments.slow_runs,
        peer=arguments.smartcut,
    )


def _long(arguments: argparse.Namespace, videos: dict[str, Path]) -> None:
    minutes = (arguments.minutes, arguments.long_minutes)
    long_reel(videos["1080p60"], minutes=minutes, runs=arguments.runs)


TABLES: dict[str, Callable[[argparse.Namespace, dict[str, Path]], None]] = {
    "extraction": lambda arguments, videos: over_decoding(videos, arguments.runs),
    "parts": lambda arguments, videos: parts(videos, arguments.runs),
    "full-size": lambda arguments, videos: over_full_size(videos, arguments.runs),
    "others": lambda arguments, videos: beside_others(videos["360p30"], arguments.runs),
    "memory": lambda arguments, videos: memory(videos["160p30"], arguments.memory_minutes),
    "reel": _reel,
    "long": _long,
}


if __name__ == "__main__":
    main()
