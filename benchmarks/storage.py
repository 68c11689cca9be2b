"""How fast frames reach an object store: as hlkit's shards, one object a frame, and as one plain upload.

    python benchmarks/storage.py

An hour of frames (3 a second, random bytes of a JPEG's size) goes to one server on this machine that waits before each
answer. Prints medians of interleaved runs, the requests of each way, and the machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from counting_server import counting_server

from hlkit.object_store import THREADS
from hlkit.shards import write_shard
from hlkit.storage import open_store, push
from hlkit.stores import Store

FPS = 3
SHARD_SECONDS = 600


def main() -> None:
    """Make the frames, time the three ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--frame-bytes", type=int, default=5_000)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before each answer")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    dice = random.Random(0)
    number = arguments.minutes * 60 * FPS
    frames = [dice.randbytes(arguments.frame_bytes) for _ in range(number)]
    with tempfile.TemporaryDirectory() as folder, counting_server(arguments.latency) as server:
        root = Path(folder)
        make_shards(root, frames)
        os.environ |= {"HLKIT_S3_ENDPOINT": server, "R2_ACCESS_KEY_ID": "x", "R2_SECRET_ACCESS_KEY": "x"}
        os.environ["NO_PROXY"] = "127.0.0.1"
        client, store = plain_client(server), open_store("r2://bucket")
        ways: dict[str, Callable[[str], object]] = {
            "hlkit push": lambda _: push_shards(root / "project", store),
            "one plain upload": lambda bucket: client.upload_file(str(root / "all.tar"), bucket, "all.tar"),
            "one object a frame": lambda bucket: put_frames(client, bucket, frames),
        }
        report(arguments, number, measure(ways, arguments.runs, client, server))


def make_shards(root: Path, frames: list[bytes]) -> None:
    """Write the frame store of one video, and all its bytes once more as one file."""
    store, step = root / "project/frames/hour", FPS * SHARD_SECONDS
    store.mkdir(parents=True)
    for shard, first in enumerate(range(0, len(frames), step)):
        numbers = range(first, min(first + step, len(frames)))
        write_shard(store / f"{shard:05d}.tar", numbers, (frames[number] for number in numbers))
    (store / "index.parquet").write_bytes(random.Random(1).randbytes(100_000))
    (root / "all.tar").write_bytes(b"".join(path.read_bytes() for path in sorted(store.iterdir())))


def plain_client(server: str) -> Any:
    """boto3 as it comes, but for the pool that the same number of threads needs."""
    import boto3
    from botocore.config import Config

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "auto"}
    config = Config(
        max_pool_connections=2 * THREADS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return boto3.client("s3", endpoint_url=server, config=config, **keys)


def push_shards(project: Path, store: Store) -> None:
    """A first push: nothing is known of the files yet."""
    (project / ".hashes.json").unlink(missing_ok=True)
    push(project, store, progress=False)


def put_frames(client: Any, bucket: str, frames: list[bytes]) -> None:
    """One put a frame, as many at once as hlkit has threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        names = (f"{number:06d}.jpg" for number in range(len(frames)))
        list(pool.map(lambda name, body: client.put_object(Bucket=bucket, Key=name, Body=body), names, frames))


def measure(
    ways: dict[str, Callable[[str], object]], runs: int, client: Any, server: str
) -> dict[str, tuple[float, int]]:
    """Median seconds and the number of requests of each way; the cheap ones run three times in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    requests = dict.fromkeys(ways, 0)
    for _ in range(runs):
        for name in [*(list(ways)[:2] * 3), list(ways)[2]]:
            counts(server)
            start = time.perf_counter()
            ways[name]("bucket")
            seconds[name].append(time.perf_counter() - start)
            requests[name] = counts(server)["bucket"]
            client.delete_bucket(Bucket="bucket")
    return {name: (statistics.median(seconds[name]), requests[name]) for name in ways}


def counts(server: str) -> dict[str, int]:
    """Requests a bucket since this was last asked."""
    connection = http.client.HTTPConnection(server.removeprefix("http://"))
    connection.request("GET", "/-/counts")
    return json.loads(connection.getresponse().read())


def report(arguments: argparse.Namespace, frames: int, results: dict[str, tuple[float, int]]) -> None:
    """Print one line a way, and the ratios."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{frames:,} frames of {arguments.frame_bytes:,} bytes, {arguments.latency * 1000:.0f} ms before each answer")
    for name, (seconds, requests) in results.items():
        print(f"{name:20} {seconds:8.2f} s {requests:8,} requests")
    (push_s, push_n), (plain_s, _), (frames_s, frames_n) = results.values()
    print(f"shards beside frames: {frames_s / push_s:.0f} times faster, {frames_n / push_n:,.0f} times fewer requests")
    print(f"hlkit push beside one plain upload: {push_s / plain_s:.2f} times its time")


if __name__ == "__main__":
    main()
