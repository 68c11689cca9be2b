"""What the tests of storing share: keys, files of a project, and what lies where."""

from pathlib import Path
from typing import Any

from hlkit import inventory

SECRET = "s3cr3t/With+Signs="
KEYS = {"R2_ACCESS_KEY_ID": "AKIDEXAMPLE0001", "R2_SECRET_ACCESS_KEY": SECRET}

FILES = {
    "project.toml": b'videos = ["vod_a"]\n',
    "videos/vod_a.mp4": bytes(range(256)) * 2000,
    "frames/vod_a/00000.tar": b"shard" * 5000,
    "frames/vod_a/index.parquet": b"index",
    "labels/vod_a.csv": b"",
    "labels/sm\u00f6rg\u00e5s & b\u00f6rd.csv": b"x",
    "models/first/model.ckpt": b"weights" * 999,
    ".stages/frames-vod_a.json": b"{}",
}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, but the cache of hashes and a folder's lock."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in (inventory.HASHES, ".lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def stored(address: str, client: Any = None) -> dict[str, bytes]:
    """Every object of a store; a bucket's are asked for with `client`."""
    if not address.startswith("r2:"):
        return tree(Path(address))
    bucket, _, prefix = address.removeprefix("r2://").partition("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    bodies = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    return {key.removeprefix(f"{prefix}/"): body for key, body in bodies.items()}
