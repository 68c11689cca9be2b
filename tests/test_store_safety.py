"""What a hostile store, project or server can't do, and a planted secret that must be found nowhere."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from faulty_proxy import faulty_proxy
from stored import FILES, KEYS, SECRET, tree, write

from hlkit import stages
from hlkit.inventory import EVERYTHING
from hlkit.project import HlkitError, Project
from hlkit.storage import pull, push
from hlkit.stores import FolderStore
from hlkit.upkeep import delete, status, verify

EVIL = b"evil"
RECORD = {"size": len(EVIL), "sha256": hashlib.sha256(EVIL).hexdigest()}
HOSTILE = [
    "../evil",
    "labels/../../evil",
    "/tmp/evil",
    "labels\\..\\..\\evil",
    "C:/evil",
    ".bashrc",
    "a\nb",
    "manifest.json",
]


@pytest.mark.parametrize("group", ["files", "arriving"])
@pytest.mark.parametrize("key", HOSTILE)
def test_no_command_believes_a_manifest_that_reaches_outside(key, group, tmp_path):
    """Neither to write there, nor to read from there, nor to delete there."""
    content = {"files": {}, group: {key: RECORD}}
    victim = write(tmp_path, {"deep/evil": EVIL, "evil": EVIL})
    store = FolderStore(write(tmp_path / "deep/store", {"manifest.json": json.dumps(content).encode()}))
    root = write(tmp_path / "deep/project", FILES)
    before = tree(victim)
    for work in (
        lambda: pull(store, root, progress=False),
        lambda: push(root, store, progress=False),
        lambda: status(root, store, progress=False),
        lambda: verify(store, root, repair=True, progress=False),
        lambda: delete(store, selection=EVERYTHING, dry_run=False),
    ):
        with pytest.raises(HlkitError, match="can't be used"):
            work()
    after = tree(victim)
    assert {key: data for key, data in after.items() if not key.endswith(".lock")} == before


def test_a_link_in_the_store_is_neither_read_nor_deleted_through(tmp_path):
    outside = write(tmp_path / "outside", {"evil": EVIL})
    store = write(tmp_path / "store", {"manifest.json": json.dumps({"files": {"labels/evil": RECORD}}).encode()})
    (store / "labels").symlink_to(outside)
    assert verify(FolderStore(store), progress=False)["verdict"].to_list() == ["missing"]
    for work in (
        lambda: pull(FolderStore(store), tmp_path / "copy", progress=False),
        lambda: delete(FolderStore(store), selection=EVERYTHING, dry_run=False),
    ):
        with pytest.raises(HlkitError, match="labels is a link"):
            work()
    assert tree(outside) == {"evil": EVIL}
    assert not (tmp_path / "copy/labels/evil").exists()


def test_a_link_in_the_project_is_not_repaired_from(tmp_path):
    root = write(tmp_path / "project", {"labels/a.csv": EVIL})
    push(root, FolderStore(tmp_path / "store"), progress=False)
    (tmp_path / "store/labels/a.csv").write_bytes(b"wrong")
    (root / "labels/a.csv").rename(tmp_path / "a.csv")
    (root / "labels/a.csv").symlink_to(tmp_path / "a.csv")
    with pytest.raises(HlkitError, match=r"a\.csv is a link"):
        verify(FolderStore(tmp_path / "store"), root, repair=True, progress=False)


@pytest.mark.parametrize("video", ["../../evil", "/etc/passwd", "a\\b"])
def test_a_link_leads_to_a_reel_alone(video, s3, tmp_path):
    project = Project(write(tmp_path / "project", FILES))
    stages.push(project, s3[2], progress=False, say=lambda line: None)
    with pytest.raises(HlkitError, match="has no reel of"):
        stages.link(project, video)


# --- a planted secret ---


def chain(error: BaseException | None) -> str:
    """Everything that an exception and those behind it can say, whether or not a traceback would show them."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception(error)) + repr(error.args) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


def work_on(address: str, root: Path) -> list[str]:
    """Push, pull and all the rest; what the exceptions hold."""
    project, held = Project(root), []
    for work in (
        lambda: stages.push(project, address),
        lambda: stages.status(project, address),
        lambda: stages.verify(project, address, repair=True),
        lambda: stages.pull(Project(root.with_name("copy")), address),
        lambda: stages.delete(project, address, yes=True),
        lambda: stages.link(project, "none", address),
    ):
        try:
            work()
        except HlkitError as error:
            held.append(chain(error))
    return held


@pytest.mark.parametrize("fault", [None, "403", "reset", "echo"])
def test_a_planted_secret_is_found_nowhere(fault, s3, s3_endpoint, tmp_path, monkeypatch, caplog, capsys, impatient):
    """With all of hlkit's own log on; boto3's own debug log quotes headers by design, and hlkit leaves it off."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "hlkit")
    root = write(tmp_path / "project", FILES)
    with faulty_proxy(s3_endpoint, plan=lambda request: fault) as (_, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        held = work_on(s3[2], root)
    assert len(held) == (1 if fault is None else 6)
    printed = capsys.readouterr()
    everything = [*held, caplog.text, printed.out, printed.err]
    everything += [data.decode(errors="replace") for data in tree(tmp_path).values()]
    for text in everything:
        for secret in (SECRET, KEYS["R2_ACCESS_KEY_ID"]):
            assert secret not in text
    assert fault != "echo" or any("***" in text for text in held)


@pytest.mark.parametrize("words", [["push", "--verbose"], ["link", "vod_a"]])
def test_the_command_shows_no_secret(words, s3, s3_endpoint, tmp_path, monkeypatch):
    root = write(tmp_path / "project", FILES)
    with faulty_proxy(s3_endpoint, plan=lambda request: "echo") as (_, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        command = [sys.executable, "-c", "from hlkit.cli import main; main()", *words, s3[2], "--project", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1
    assert "***" in done.stderr
    for secret in (SECRET, KEYS["R2_ACCESS_KEY_ID"]):
        assert secret not in done.stdout + done.stderr
