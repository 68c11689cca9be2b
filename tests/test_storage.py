from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import FILES, KEYS, SECRET, stored, tree, write

from hlkit import inventory, object_store, storage
from hlkit.inventory import Selection, project_files
from hlkit.project import HlkitError
from hlkit.storage import open_store, pull, push
from hlkit.stores import FileRecord, FolderStore, arriving_file, check_key, file_at

HIDDEN = {".cache/x": b"1", "frames/.part-abc/00001.tar": b"2", "reels/.part-9": b"3", ".stages/.part-1/a.json": b"4"}


# --- names ---


BAD_KEYS = [
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\\b",
    "C:/x",
    "a\nb",
    "a\x00b",
    "x" * 901,
]
BAD_KEYS += [".bashrc", "frames/.x", ".stages", ".stages/../x", ".stages/.x", ".stages/", "manifest.json", "\udcff"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_unsafe_keys_are_refused(key):
    with pytest.raises(HlkitError, match=r"is not allowed|is hidden"):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "a b/ö.mp4", ".stages/x.json", "a..b/c..", "models/manifest.json", "-rf", "~/x"])
def test_plain_keys_are_allowed(key):
    assert check_key(key) == key


@given(st.text(st.sampled_from("a./\\:~\x00C"), max_size=12))
def test_an_allowed_key_stays_inside(key):
    root = Path("/project")
    try:
        path = file_at(root, key)
    except HlkitError:
        return
    assert root in Path(os.path.normpath(path)).parents


@pytest.mark.parametrize(
    "address", ["", "  ", "gs://bucket/x", "https://user:hunter2@host/x", "r2://", "s3://Bad_Name/x"]
)
def test_addresses_of_no_store(address):
    with pytest.raises(HlkitError, match="Give ") as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["../x", "a//b", ".x"])
def test_prefixes_are_checked(prefix, s3):
    with pytest.raises(HlkitError, match="name"):
        open_store(f"r2://bucket/{prefix}")


# --- there and back ---


def test_round_trip_is_byte_for_byte(address, tmp_path):
    root = write(tmp_path / "project", FILES | HIDDEN)
    assert push(root, open_store(address), progress=False) == sorted(FILES)
    assert pull(open_store(address), tmp_path / "copy", progress=False) == sorted(FILES)
    assert tree(tmp_path / "copy") == FILES
    assert tree(root) == FILES | HIDDEN


def test_only_what_changed_moves(address, tmp_path):
    root, copy = write(tmp_path / "project", FILES), tmp_path / "copy"
    push(root, open_store(address), progress=False)
    pull(open_store(address), copy, progress=False)
    assert push(root, open_store(address), progress=False) == []
    assert pull(open_store(address), copy, progress=False) == []
    write(root, {"labels/vod_a.csv": b"new", "scores/first/vod_a.parquet": b"scores"})
    moved = ["labels/vod_a.csv", "scores/first/vod_a.parquet"]
    assert push(root, open_store(address), progress=False) == moved
    assert pull(open_store(address), copy, progress=False) == moved
    assert tree(copy) == tree(root)


def test_a_file_is_read_again_only_after_it_changed(tmp_path, monkeypatch):
    root = write(tmp_path / "project", FILES)
    for name in FILES:
        os.utime(root / name, (1_000_000_000, 1_000_000_000))
    store, read = FolderStore(tmp_path / "store"), []
    push(root, store, progress=False)
    real = inventory.file_record
    monkeypatch.setattr(inventory, "file_record", lambda path: read.append(path.name) or real(path))
    push(root, store, progress=False)
    assert read == []
    (root / "models/first/model.ckpt").write_bytes(b"WEIGHTS" * 999)
    assert push(root, store, progress=False) == ["models/first/model.ckpt"]
    assert set(read) == {"model.ckpt"}
    (root / inventory.HASHES).write_text("[broken")
    assert push(root, store, progress=False) == []


def test_the_manifest_is_exact_and_the_same_each_time(tmp_path):
    root = write(tmp_path / "project", {"labels/b.csv": b"b", "labels/a.csv": b""})
    push(root, FolderStore(tmp_path / "store"), progress=False)
    manifest = (tmp_path / "store/manifest.json").read_bytes()
    assert json.loads(manifest) == {
        "version": 1,
        "files": {
            "labels/a.csv": {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
            "labels/b.csv": {"size": 1, "sha256": hashlib.sha256(b"b").hexdigest()},
        },
    }
    push(root, FolderStore(tmp_path / "other"), selection=Selection(["labels"]), progress=False)
    assert (tmp_path / "other/manifest.json").read_bytes() == manifest


def test_selection_by_part(address, tmp_path):
    root = write(tmp_path / "project", FILES)
    assert push(root, open_store(address), selection=Selection(["models", "labels"]), progress=False) == [
        ".stages/frames-vod_a.json",
        "labels/smörgås & börd.csv",
        "labels/vod_a.csv",
        "models/first/model.ckpt",
    ]
    push(root, open_store(address), selection=Selection(["project.toml", "frames"]), progress=False)
    pull(open_store(address), tmp_path / "copy", selection=Selection(("models",)), progress=False)
    assert set(tree(tmp_path / "copy")) == {".stages/frames-vod_a.json", "models/first/model.ckpt"}
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == {k: v for k, v in FILES.items() if not k.startswith("videos/")}
    assert pull(open_store(address), tmp_path / "copy", selection=Selection(["videos"]), progress=False) == []
    with pytest.raises(HlkitError, match=r"There is no part model\. Choose from: .*models"):
        push(root, open_store(address), selection=Selection(["model"]), progress=False)


def test_what_the_project_lost_stays_in_the_store(address, tmp_path):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(address), progress=False)
    (root / "videos/vod_a.mp4").unlink()
    push(root, open_store(address), progress=False)
    assert pull(open_store(address), root, progress=False) == ["videos/vod_a.mp4"]
    assert tree(root) == FILES


def test_a_large_object_goes_in_equal_parts(s3, tmp_path, monkeypatch):
    client, bucket, address = s3
    monkeypatch.setattr(object_store, "MULTIPART_BYTES", 5 << 20)
    data = random.Random(1).randbytes(12 << 20)
    root = write(tmp_path / "project", {"videos/a.mp4": data})
    push(root, open_store(address), progress=False)
    head = client.head_object(Bucket=bucket, Key="my/stream/videos/a.mp4")
    assert head["ETag"].strip('"').endswith("-3")
    assert head["Metadata"] == {"sha256": hashlib.sha256(data).hexdigest()}
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == {"videos/a.mp4": data}


def test_progress_counts_every_byte(address, tmp_path, capsys):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(address))
    total = sum(map(len, FILES.values()))
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("push: 100%")
    assert f"{total / 1000:.0f}k/{total / 1000:.0f}k" in last


# --- damage and malice ---


def test_a_wrong_byte_in_the_store_is_found(address, tmp_path, request):
    root, copy = write(tmp_path / "project", FILES), write(tmp_path / "copy", {"models/first/model.ckpt": b"mine"})
    push(root, open_store(address), progress=False)
    wrong = b"Weights" + FILES["models/first/model.ckpt"][7:]
    if address.startswith("r2:"):
        client, bucket, _ = request.getfixturevalue("s3")
        client.put_object(Bucket=bucket, Key="my/stream/models/first/model.ckpt", Body=wrong)
    else:
        write(Path(address), {"models/first/model.ckpt": wrong})
    with pytest.raises(HlkitError, match=r"models/first/model\.ckpt in .* does not match its SHA-256"):
        pull(open_store(address), copy, selection=Selection(["models"]), progress=False)
    assert tree(copy) == {"models/first/model.ckpt": b"mine"}


def test_a_body_that_arrives_damaged_once_is_fetched_again(tmp_path):
    class Flaky(FolderStore):
        calls = 0

        def download(self, key, file, on_bytes):
            self.calls += 1
            file.write(b"wrong") if self.calls == 1 else super().download(key, file, on_bytes)

    root = write(tmp_path / "project", {"labels/a.csv": b"a" * 10})
    store = Flaky(tmp_path / "store")
    push(root, store, progress=False)
    assert pull(store, tmp_path / "copy", progress=False) == ["labels/a.csv"]
    assert tree(tmp_path / "copy") == {"labels/a.csv": b"a" * 10}
    assert store.calls == 2


def test_an_object_that_is_gone_is_named(address, tmp_path, request):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(address), progress=False)
    if address.startswith("r2:"):
        client, bucket, _ = request.getfixturevalue("s3")
        client.delete_object(Bucket=bucket, Key="my/stream/labels/vod_a.csv")
    else:
        (Path(address) / "labels/vod_a.csv").unlink()
    with pytest.raises(HlkitError, match=r"labels/vod_a\.csv"):
        pull(open_store(address), tmp_path / "copy", selection=Selection(["labels"]), progress=False)


@pytest.mark.parametrize("key", ["../evil", "/tmp/evil", ".bashrc", "a\\..\\b", ".hashes.json"])
def test_a_manifest_can_not_reach_outside(key, tmp_path):
    record = {"size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}
    store = write(tmp_path / "store", {"manifest.json": json.dumps({"files": {key: record}}).encode(), "evil": b"evil"})
    with pytest.raises(HlkitError, match="can't be used"):
        pull(FolderStore(store), tmp_path / "deep/project", progress=False)
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"files": []}',
        b'{"files": {"a": {}}}',
        b'{"files": {"a": {"size": 1, "sha256": "x"}}}',
        b'{"files": {"a": {"size": "1", "sha256": "%s"}}}' % (b"0" * 64),
    ],
)
def test_a_damaged_manifest_is_named(manifest, tmp_path):
    store = FolderStore(write(tmp_path / "store", {"manifest.json": manifest}))
    root = write(tmp_path / "project", FILES)
    for move in (lambda: pull(store, root, progress=False), lambda: push(root, store, progress=False)):
        with pytest.raises(HlkitError, match=r"manifest\.json of .* can't be used"):
            move()


def test_links_are_not_followed(tmp_path):
    write(tmp_path, {"secret.txt": b"secret"})
    root = write(tmp_path / "project", {"labels/a.csv": b"a"})
    push(root, FolderStore(tmp_path / "store"), progress=False)
    (root / "labels/b.csv").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(HlkitError, match=r"b\.csv is a link"):
        push(root, FolderStore(tmp_path / "store"), progress=False)
    (tmp_path / "copy").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy/labels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HlkitError, match="labels is a link"):
        pull(FolderStore(tmp_path / "store"), tmp_path / "copy", progress=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "store/labels/a.csv").unlink()
    (tmp_path / "store/labels/a.csv").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(HlkitError, match=r"a\.csv is a link"):
        pull(FolderStore(tmp_path / "store"), tmp_path / "other", progress=False)


def test_a_pipe_in_the_project_is_refused(tmp_path):
    root = write(tmp_path / "project", {"labels/a.csv": b"a"})
    os.mkfifo(root / "labels/pipe")
    with pytest.raises(HlkitError, match="pipe is not a plain file"):
        project_files(root)


def test_project_and_store_must_be_apart(tmp_path):
    root = write(tmp_path / "project", FILES)
    for store in (root, root / "store", tmp_path):
        with pytest.raises(HlkitError, match="lie in one another"):
            push(root, FolderStore(store), progress=False)


def test_empty_ends_say_what_to_do(address, tmp_path):
    with pytest.raises(HlkitError, match="Nothing has been pushed to"):
        pull(open_store(address), tmp_path / "copy", progress=False)
    with pytest.raises(HlkitError, match="There is no project at"):
        push(tmp_path / "missing", open_store(address), progress=False)
    assert not (tmp_path / "copy").exists()


def test_no_room_on_the_disk(tmp_path, monkeypatch):
    push(write(tmp_path / "project", FILES), FolderStore(tmp_path / "store"), progress=False)
    monkeypatch.setattr(storage, "free_disk", lambda path: 1000)
    with pytest.raises(HlkitError, match=r"The pull needs 0\.00 GB .* Make room"):
        pull(FolderStore(tmp_path / "store"), tmp_path / "copy", progress=False)


def test_a_full_or_lost_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(FolderStore, "upload", full)
    with pytest.raises(HlkitError, match="No space left on device"):
        push(write(tmp_path / "project", FILES), FolderStore(tmp_path / "store"), progress=False)
    assert not (tmp_path / "store/manifest.json").exists()


# --- files that change meanwhile ---


class _Changing(FolderStore):
    def __init__(self, root, victim, times):
        super().__init__(root)
        self.victim, self.times = victim, times

    def upload(self, key, path, record, on_bytes):
        if path == self.victim and self.times:
            self.times -= 1
            path.write_bytes(b"changed %d" % self.times)
        super().upload(key, path, record, on_bytes)


def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_became(tmp_path):
    root = write(tmp_path / "project", FILES)
    victim = root / "models/first/model.ckpt"
    push(root, _Changing(tmp_path / "store", victim, 2), progress=False)
    pull(FolderStore(tmp_path / "store"), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == FILES | {"models/first/model.ckpt": b"changed 0"}


def test_an_upload_that_took_another_version_is_noticed(s3, tmp_path, monkeypatch):
    root = write(tmp_path / "project", FILES)
    victim, real, calls = root / "models/first/model.ckpt", object_store.S3Store.upload, []

    def upload(self, key, path, record, on_bytes):
        if path == victim:
            calls.append(key)
            if len(calls) == 1:
                path.write_bytes(b"changed")
        real(self, key, path, record, on_bytes)

    monkeypatch.setattr(object_store.S3Store, "upload", upload)
    push(root, open_store(s3[2]), progress=False)
    assert len(calls) == 2
    pull(open_store(s3[2]), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == FILES | {"models/first/model.ckpt": b"changed"}


def test_a_file_that_keeps_changing_is_named(tmp_path):
    root = write(tmp_path / "project", FILES)
    with pytest.raises(HlkitError, match=r"models/first/model\.ckpt keeps changing"):
        push(root, _Changing(tmp_path / "store", root / "models/first/model.ckpt", 99), progress=False)
    assert not (tmp_path / "store/manifest.json").exists()


def test_an_object_under_way_is_taken_in_either_version(tmp_path):
    class Dies(FolderStore):
        def upload(self, key, path, record, on_bytes):
            if key == "labels/b.csv":
                raise KeyboardInterrupt
            super().upload(key, path, record, on_bytes)

    root = write(tmp_path / "project", {"labels/a.csv": b"old a", "labels/b.csv": b"old b"})
    push(root, FolderStore(tmp_path / "store"), progress=False)
    clean = tree(tmp_path / "store")
    write(root, {"labels/a.csv": b"new a!", "labels/b.csv": b"new b!"})
    with pytest.raises(KeyboardInterrupt):
        push(root, Dies(tmp_path / "store"), progress=False)
    pull(FolderStore(tmp_path / "store"), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy")["labels/b.csv"] == b"old b"
    assert tree(tmp_path / "copy")["labels/a.csv"] in (b"old a", b"new a!")
    assert push(root, FolderStore(tmp_path / "store"), progress=False) == ["labels/a.csv", "labels/b.csv"]
    assert pull(FolderStore(tmp_path / "store"), tmp_path / "copy", progress=False)[-1:] == ["labels/b.csv"]
    assert tree(tmp_path / "copy") == tree(root)
    assert set(tree(tmp_path / "store")) == set(clean)
    assert "arriving" not in json.loads((tmp_path / "store/manifest.json").read_text())


def test_what_a_killed_copy_left_is_taken_up(tmp_path):
    record = FileRecord(6, hashlib.sha256(b"abcdef").hexdigest())
    with arriving_file(tmp_path / "x", record) as file:
        file.write(b"abcdef")
        (part,) = tmp_path.glob(".part-*")
    (tmp_path / "x").unlink()
    part.write_bytes(b"abc and more than there should be")
    with arriving_file(tmp_path / "x", record) as file:
        file.write(b"abcdef")
    assert tree(tmp_path) == {"x": b"abcdef"}


def test_stale_parts_go_and_fresh_ones_stay(tmp_path):
    names = [f".part-{digit * 24}" for digit in "01"] + [".part-of-someone-else"]
    store = write(tmp_path / "store", {f"frames/{name}": b"x" for name in names})
    for name in names[1:]:
        os.utime(store / "frames" / name, (time.time() - 7200,) * 2)
    push(write(tmp_path / "project", {"a": b"a"}), FolderStore(store), progress=False)
    assert sorted(path.name for path in (store / "frames").iterdir()) == [names[0], names[2]]


# --- keys and secrets ---


@pytest.mark.parametrize(
    ("address", "given", "named"),
    [
        ("r2://bucket", {}, ["R2_ACCOUNT_ID", "HLKIT_S3_ENDPOINT"]),
        ("r2://bucket", {"R2_ACCOUNT_ID": "evil.example/", **KEYS}, ["R2_ACCOUNT_ID is malformed"]),
        ("r2://bucket", {"R2_ACCOUNT_ID": "ab12"}, ["R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]),
        ("s3://bucket", {"R2_SECRET_ACCESS_KEY": SECRET}, ["R2_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
        ("s3://bucket", {"R2_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": "a"}, ["AWS_SECRET_ACCESS_KEY"]),
        ("s3://bucket", {"HLKIT_S3_ENDPOINT": f"http://me:{SECRET}@host", **KEYS}, ["HLKIT_S3_ENDPOINT is malformed"]),
    ],
)
def test_missing_variables_are_named_and_secrets_are_not(address, given, named, monkeypatch):
    for name in object_store.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HlkitError) as caught:
        open_store(address)
    assert all(name in str(caught.value) for name in named)
    assert SECRET not in str(caught.value)


def test_endpoint_and_keys(monkeypatch):
    for name in object_store.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"R2_ACCOUNT_ID": "ab12\n", **KEYS, "R2_SECRET_ACCESS_KEY": f" {SECRET}\r\n"}.items():
        monkeypatch.setenv(name, value)
    store = open_store("r2://bucket/prefix/")
    assert isinstance(store, object_store.S3Store)
    assert store.address == "r2://bucket/prefix"
    client = store._client
    assert client.meta.endpoint_url == "https://ab12.r2.cloudflarestorage.com"
    assert client._request_signer._credentials.secret_key == SECRET
    config = client.meta.config
    assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"
    assert config.max_pool_connections == 2 * object_store.THREADS == 32
    assert config.retries == {"total_max_attempts": 8, "mode": "standard"}
    assert (config.connect_timeout, config.read_timeout) == (20, 60)
    assert open_store("s3://bucket")._client.meta.endpoint_url == "https://s3.amazonaws.com"


def test_a_missing_bucket_says_so(s3, tmp_path):
    root = write(tmp_path / "project", FILES)
    with pytest.raises(HlkitError, match=r"NoSuchBucket.*Create the bucket first") as caught:
        push(root, open_store("r2://no-such-bucket/x"), progress=False)
    assert caught.value.__context__ is None


def test_a_secret_in_the_servers_answer_is_struck_out(s3, monkeypatch, caplog):
    from botocore.exceptions import ClientError

    store = open_store(s3[2])
    answer = {"Error": {"Code": "SignatureDoesNotMatch", "Message": f"{KEYS['R2_ACCESS_KEY_ID']} {SECRET} is wrong"}}

    def refuse(**kwargs):
        raise ClientError(answer, "PutObject")

    monkeypatch.setattr(store._client, "put_object", refuse)
    with pytest.raises(HlkitError, match=r"\*\*\* \*\*\* is wrong.*Check R2_ACCESS_KEY_ID") as caught:
        store.write("manifest.json", b"", None)
    assert SECRET not in repr(caught.value) + repr(vars(store)["address"]) + repr(store) + caplog.text


def test_secrets_reach_no_file(s3, tmp_path):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(s3[2]), progress=False)
    pull(open_store(s3[2]), tmp_path / "copy", progress=False)
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything
    assert KEYS["R2_ACCESS_KEY_ID"].encode() not in everything


# --- kill -9 ---

CHILD = """
import os, sys
from pathlib import Path
from hlkit.storage import open_store, push
store = open_store(sys.argv[2])
def loud(call):
    def wrapped(*args):
        os.write(1, b".\\n")
        result = call(*args)
        os.write(1, b".\\n")
        return result
    return wrapped
for name in ("read", "sizes", "write", "upload"):
    setattr(store, name, loud(getattr(store, name)))
push(Path(sys.argv[1]), store, progress=False)
"""


def kill_a_push(root: Path, address: str, words: int) -> int:
    """Push in a process of its own and kill -9 it when it has said so many words; its exit status."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root), address], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(words):
        assert child.stdout.readline() in (b".\n", b"")
    child.kill()
    child.stdout.close()
    return child.wait()


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_pushes_end_as_one_clean_push(address, kills, tmp_path, request):
    client = request.getfixturevalue("s3")[0]
    dice = random.Random(kills)
    files = {f"frames/v/{i:05d}.tar": dice.randbytes(dice.randrange(200_000)) for i in range(40)}
    root = write(tmp_path / "project", files)
    push(root, open_store(f"{address}-clean1"), progress=False)
    # Two words each for every file's `upload`, for one list, and for one `read` and one `write` of the manifest.
    words = 2 * len(files) + 6
    statuses = [kill_a_push(root, address, dice.randrange(1, words)) for _ in range(kills)]
    assert -9 in statuses
    push(root, open_store(address), progress=False)
    assert stored(address, client) == stored(f"{address}-clean1", client)

    # The same with a store that already has older versions: at no moment is it unreadable.
    changed = {name: dice.randbytes(len(data)) for name, data in list(files.items())[::2]}
    write(root, changed)
    for number in range(kills):
        kill_a_push(root, address, dice.randrange(1, words // 2 + 3))
        pull(open_store(address), tmp_path / f"copy{number}", progress=False)
        for name, data in tree(tmp_path / f"copy{number}").items():
            assert data in (files[name], changed.get(name))
    push(root, open_store(address), progress=False)
    push(root, open_store(f"{address}-clean2"), progress=False)
    assert stored(address, client) == stored(f"{address}-clean2", client)


def test_a_push_after_a_kill_sends_again_only_what_was_under_way(address, tmp_path, monkeypatch):
    root = write(tmp_path / "project", FILES)
    store, sent, tried = open_store(address), [], []
    real = type(store).upload

    def upload(self, key, path, record, on_bytes):
        tried.append(key)
        if key == "videos/vod_a.mp4" and tried.count(key) == 1:
            raise KeyboardInterrupt
        real(self, key, path, record, on_bytes)
        sent.append(key)

    monkeypatch.setattr(type(store), "upload", upload)
    with pytest.raises(KeyboardInterrupt):
        push(root, store, progress=False)
    arrived = list(sent)
    assert "videos/vod_a.mp4" not in arrived
    assert push(root, store, progress=False) == sorted(FILES)
    assert sorted(sent) == sorted(FILES)
    assert sent[: len(arrived)] == arrived
