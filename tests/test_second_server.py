"""The same against s3rver, a server by other people that checks every signature: `npm install --global s3rver`."""

import random
import re
import shutil
import subprocess
import urllib.request

import pytest
from stored import FILES, tree, write

from hlkit import object_store
from hlkit.inventory import EVERYTHING
from hlkit.project import HlkitWarning
from hlkit.storage import open_store, pull, push
from hlkit.upkeep import delete, verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("s3rver") is None, reason="s3rver is not installed"),
]


@pytest.fixture
def address(tmp_path, monkeypatch):
    words = ["s3rver", "-d", str(tmp_path / "data"), "-a", "127.0.0.1", "-p", "0", "--configure-bucket", "bucket"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        port = next(found[1] for found in (re.search(r"listening on \S+:(\d+)", line) for line in lines) if found)
        # The one pair of keys that it knows.
        keys = {"R2_ACCESS_KEY_ID": "S3RVER", "R2_SECRET_ACCESS_KEY": "S3RVER", "NO_PROXY": "127.0.0.1"}
        for name, value in {**keys, "HLKIT_S3_ENDPOINT": f"http://127.0.0.1:{port}"}.items():
            monkeypatch.setenv(name, value)
        yield "r2://bucket/my/stream"
        server.terminate()


def test_all_that_a_store_is_asked_for(address, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "MULTIPART_BYTES", 5 << 20)
    root = write(tmp_path / "project", FILES | {"videos/big.mp4": random.Random(1).randbytes(12 << 20)})
    push(root, open_store(address), progress=False)
    assert push(root, open_store(address), progress=False) == []
    write(root, {"labels/vod_a.csv": b"new"})
    with pytest.warns(HlkitWarning, match="has no conditional writes"):
        assert push(root, open_store(address), progress=False) == ["labels/vod_a.csv"]
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == tree(root)
    assert set(verify(open_store(address), progress=False)["verdict"]) == {"sound"}
    with urllib.request.urlopen(open_store(address).link("labels/vod_a.csv", seconds=60)) as answer:
        assert answer.read() == b"new"
    with pytest.warns(HlkitWarning):
        delete(open_store(address), selection=EVERYTHING, dry_run=False)
    assert open_store(address).sizes().keys() == {"manifest.json"}
