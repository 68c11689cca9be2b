"""Several writers of one store, and what of a project moves."""

import threading

import moving
import pytest
from faulty_proxy import faulty_proxy
from hypothesis import given
from hypothesis import strategies as st
from stored import FILES, stored, tree, write

from hlkit import stores
from hlkit.inventory import EVERYTHING, Selection
from hlkit.locks import in_turn
from hlkit.manifest import Manifest, update_manifest
from hlkit.project import HlkitError, HlkitWarning
from hlkit.storage import open_store, pull, push
from hlkit.stores import ChangedMeanwhileError, FileRecord, FolderStore, Store


def some(prefix: str, number: int = 5) -> dict[str, bytes]:
    return {f"labels/{prefix}{i}.csv": f"{prefix} {i}".encode() for i in range(number)}


def test_two_processes_that_push_different_files_both_end_up_in_the_manifest(address, tmp_path, s3):
    files = [some(f"writer{i}") for i in range(4)]
    roots = [write(tmp_path / f"project{i}", mine) for i, mine in enumerate(files)]
    processes = [moving.start(moving.push_all, root, address) for root in roots]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == {key: data for mine in files for key, data in mine.items()}


def between(monkeypatch, kind: type[Store], act) -> None:
    """Have `act` done once, between the uploads of a push and its manifest."""
    real, acted = kind.write, []

    def late(self, key, data, version):
        if not acted:
            acted.append(key)
            act()
        return real(self, key, data, version)

    monkeypatch.setattr(kind, "write", late)


def test_a_writer_that_comes_second_keeps_the_first_ones_files(address, tmp_path, monkeypatch):
    mine, theirs = write(tmp_path / "mine", some("mine")), write(tmp_path / "theirs", some("theirs"))
    between(monkeypatch, type(open_store(address)), lambda: push(theirs, open_store(address), progress=False))
    push(mine, open_store(address), progress=False)
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == some("mine") | some("theirs")


def test_of_one_file_in_two_versions_what_is_there_counts(address, tmp_path, monkeypatch):
    mine = write(tmp_path / "mine", {"labels/a.csv": b"mine", "labels/b.csv": b"b"})
    theirs = write(tmp_path / "theirs", {"labels/a.csv": b"theirs"})
    between(monkeypatch, type(open_store(address)), lambda: push(theirs, open_store(address), progress=False))
    with pytest.warns(HlkitWarning, match=r"pushed labels/a\.csv at the same time: theirs is kept"):
        push(mine, open_store(address), progress=False)
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == {"labels/a.csv": b"theirs", "labels/b.csv": b"b"}


RECORD = FileRecord(1, "0" * 64)


def test_a_write_that_went_through_unanswered_is_not_taken_for_another_writers(s3, s3_endpoint, monkeypatch):
    plan = iter(["reset after"])
    with faulty_proxy(s3_endpoint, plan=lambda request: next(plan, None)) as (proxy, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        written = update_manifest(open_store(s3[2]), None, lambda manifest: Manifest({"a": RECORD}))
        assert [request.outcome for request in proxy.log] == ["reset after", "412", "200"]
        assert Manifest.read(open_store(s3[2])) == written


def test_a_store_refuses_to_replace_what_another_has_written(address):
    store = open_store(address)
    first = store.write("manifest.json", b"1", None)
    second = store.write("manifest.json", b"2", first)
    for version in (None, first):
        with pytest.raises(ChangedMeanwhileError):
            store.write("manifest.json", b"3", version)
    found = store.read("manifest.json")
    assert found == stores.Snapshot(b"2", second)


def test_a_server_without_conditional_writes_is_read_again_and_that_is_said(s3, s3_endpoint, tmp_path, monkeypatch):
    """Between the reading and the writing another writer comes; it is found in the reading after."""
    mine = write(tmp_path / "mine", some("mine"))
    theirs = Manifest({"labels/theirs.csv": RECORD})
    rude = []

    def plan(request):
        conditional = {"if-match", "if-none-match"} & request.headers.keys()
        if not conditional and request.method == "PUT" and request.path.endswith("manifest.json"):
            rude.append(request.number)
        return "501" if conditional else None

    def watch(request, moment):
        if moment == "done" and rude == [request.number]:
            client.put_object(Bucket=bucket, Key="my/stream/manifest.json", Body=theirs.to_json())

    client, bucket, address = s3
    with faulty_proxy(s3_endpoint, plan=plan, watch=watch) as (_, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        with pytest.warns(HlkitWarning, match="has no conditional writes: .* push from one place at a time") as said:
            push(mine, open_store(address), progress=False)
        assert len(said) == 1
        manifest = Manifest.read(open_store(address))
    assert manifest is not None
    assert sorted(manifest.files) == sorted([*some("mine"), "labels/theirs.csv"])


def test_a_server_that_pays_no_heed_to_conditions_is_found_out(s3, s3_endpoint, tmp_path, monkeypatch):
    client, _, address = s3
    root = write(tmp_path / "project", some("mine"))
    push(root, open_store(address), progress=False)
    write(root, some("more"))
    with faulty_proxy(s3_endpoint, dropped=("if-match", "if-none-match")) as (_, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        with pytest.warns(HlkitWarning, match="has no conditional writes"):
            push(root, open_store(address), progress=False)
        store = open_store(address)
        with pytest.warns(HlkitWarning), pytest.raises(ChangedMeanwhileError):
            store.write("manifest.json", b"", '"stale"')
    assert stored(address, client).keys() == {*some("mine"), *some("more"), "manifest.json"}


def test_a_folder_that_can_not_be_locked_is_said(tmp_path, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(HlkitWarning, match="can't be locked .* push from one place"):
        push(write(tmp_path / "project", FILES), FolderStore(tmp_path / "store"), progress=False)


def test_a_folders_lock_keeps_others_out(tmp_path):
    store, order = FolderStore(tmp_path), []
    with in_turn(tmp_path / stores.LOCK, advice="wait"):
        thread = threading.Thread(target=lambda: order.append(store.write("manifest.json", b"", None)))
        thread.start()
        thread.join(0.2)
        order.append("released")
    thread.join()
    assert order[0] == "released"
    assert len(order) == 2


def test_a_manifest_that_others_keep_writing_is_given_up(tmp_path, monkeypatch):
    def refuse(*args):
        raise ChangedMeanwhileError("x")

    monkeypatch.setattr(FolderStore, "write", refuse)
    with pytest.raises(HlkitError, match="Others keep writing"):
        update_manifest(FolderStore(tmp_path), None, lambda manifest: manifest)


# --- what of a project moves ---

KEYS = [
    *("videos/a.mp4", "videos/a.json", "videos/a.chat.parquet", "videos/b.mp4", "frames/a/00000.tar"),
    *("frames/b/00000.tar", "labels/a.csv", "models/one/model.ckpt", "models/two/model.ckpt", "scores/one/a.parquet"),
    *("scores/two/b.parquet", "reels/b.mp4", "project.toml", ".stages/x.json"),
]


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (EVERYTHING, KEYS),
        (Selection(parts=["frames"], videos=["a", "b"]), ["frames/a/00000.tar", "frames/b/00000.tar"]),
        (Selection(parts="models", runs="two"), ["models/two/model.ckpt"]),
        (Selection(parts=["models"]), ["models/one/model.ckpt", "models/two/model.ckpt"]),
        (
            Selection(videos=["a"]),
            [key for key in KEYS if "/a" in key],
        ),
        (Selection(runs=["two"]), ["models/two/model.ckpt", "scores/two/b.parquet"]),
        (Selection(videos=["b"], parts=["scores", "reels"]), ["reels/b.mp4", "scores/two/b.parquet"]),
        (Selection(videos=["a"], runs=["two"], parts=["models", "scores"]), ["models/two/model.ckpt"]),
        (Selection(parts=["reels"], videos=["a"]), []),
    ],
)
def test_selection(selection, meant):
    assert selection.of(KEYS) == sorted({*meant, ".stages/x.json"})


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection(parts=["model"]), "There is no part model. Choose from: .*models"),
        (Selection(videos=["c"]), r"There is no video c\. Choose from: a, .*b\."),
        (Selection(runs=["three"]), r"There is no run three\. Choose from: one, two\."),
    ],
)
def test_what_is_not_there_is_named(selection, reason):
    with pytest.raises(HlkitError, match=reason):
        selection.of(KEYS)


@given(st.sets(st.sampled_from(["a", "b"])), st.sets(st.sampled_from(["one", "two"])))
def test_a_selection_never_means_what_belongs_to_another(videos, runs):
    for key in Selection(videos=videos, runs=runs).of(KEYS):
        assert not any(f"/{other}" in key for other in {"a", "b"} - videos if key.startswith(("videos", "frames")))
        assert not any(f"models/{other}/" in key for other in {"one", "two"} - runs)
