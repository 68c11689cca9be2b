"""Status, verify, delete, links and the cost line, as functions and as stages."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from stored import FILES, SECRET, stored, tree, write

from hlkit import stages
from hlkit.inventory import EVERYTHING, Selection
from hlkit.prices import R2, Prices, Usage, cost_line, push_usage
from hlkit.project import HlkitError, Project
from hlkit.storage import open_store, pull, push
from hlkit.upkeep import delete, status, verify


def spoil(address: str, key: str, data: bytes | None, client) -> None:
    """Put other bytes in the place of an object, or remove it, behind hlkit's back."""
    if not address.startswith("r2:"):
        (Path(address) / key).unlink() if data is None else (Path(address) / key).write_bytes(data)
        return
    bucket, _, prefix = address.removeprefix("r2://").partition("/")
    if data is None:
        client.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
    else:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=data)


WEIGHTS = "models/first/model.ckpt"


def test_status_names_each_state(address, tmp_path, s3):
    root = write(tmp_path / "project", FILES)
    assert set(status(root, open_store(address), progress=False)["state"]) == {"new"}
    push(root, open_store(address), progress=False)
    table = status(root, open_store(address), progress=False)
    assert table["key"].to_list() == sorted(FILES)
    assert table["size"].to_list() == [len(FILES[key]) for key in sorted(FILES)]
    assert set(table["state"]) == {"same"}

    write(root, {"labels/vod_a.csv": b"changed", "labels/new.csv": b"1"})
    (root / "project.toml").unlink()
    spoil(address, WEIGHTS, None, s3[0])
    spoil(address, "frames/vod_a/index.parquet", b"short", s3[0])
    spoil(address, "frames/vod_a/00000.tar", b"short", s3[0])
    rows = dict(status(root, open_store(address), progress=False).select("key", "state").iter_rows())
    assert {key: state for key, state in rows.items() if state != "same"} == {
        "labels/vod_a.csv": "changed",
        "labels/new.csv": "new",
        "project.toml": "only in store",
        WEIGHTS: "lost in store",
        "frames/vod_a/00000.tar": "lost in store",
    }
    assert push(root, open_store(address), progress=False) == sorted(
        {"labels/vod_a.csv", "labels/new.csv", WEIGHTS, "frames/vod_a/00000.tar"}
    )
    assert set(status(root, open_store(address), progress=False)["state"]) == {"same", "only in store"}
    labels = status(root, open_store(address), selection=Selection(parts=["labels"]), progress=False)
    assert labels["key"].str.starts_with("labels/").sum() == 3
    assert status(tmp_path / "none", open_store(f"{address}-none"), progress=False).is_empty()


def test_verify_finds_a_wrong_byte_and_repairs_it_from_the_project(address, tmp_path, s3):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(address), progress=False)
    assert set(verify(open_store(address), progress=False)["verdict"]) == {"sound"}
    wrong = FILES[WEIGHTS][:100] + b"!" + FILES[WEIGHTS][101:]
    spoil(address, WEIGHTS, wrong, s3[0])
    spoil(address, "labels/vod_a.csv", None, s3[0])
    found = dict(verify(open_store(address), root, progress=False).iter_rows())
    assert {key: verdict for key, verdict in found.items() if verdict != "sound"} == {
        WEIGHTS: "wrong",
        "labels/vod_a.csv": "missing",
    }
    repaired = dict(verify(open_store(address), root, repair=True, progress=False).iter_rows())
    assert repaired[WEIGHTS] == repaired["labels/vod_a.csv"] == "repaired"
    assert set(verify(open_store(address), progress=False)["verdict"]) == {"sound"}
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == FILES


def test_what_the_project_has_in_another_version_is_lost_and_named(address, tmp_path, s3):
    project = Project(write(tmp_path / "project", FILES))
    stages.push(project, address, progress=False, say=lambda line: None)
    spoil(address, WEIGHTS, b"wrong", s3[0])
    write(project.root, {WEIGHTS: b"trained on"})
    with pytest.raises(HlkitError, match=rf"1 files in .* missing: {WEIGHTS}\. They are lost unless another machine"):
        stages.verify(project, repair=True, progress=False)
    with pytest.raises(HlkitError, match=r"hlkit verify --repair"):
        stages.verify(project, progress=False)
    stages.push(project, progress=False, say=lambda line: None)
    said = []
    stages.verify(project, progress=False, say=said.append)
    assert said == [f"{address}: 8 files, every byte as it was pushed."]


def test_a_dry_run_deletes_nothing(address, tmp_path, s3):
    push(write(tmp_path / "project", FILES), open_store(address), progress=False)
    before = stored(address, s3[0])
    assert delete(open_store(address), selection=EVERYTHING) == sorted(FILES)
    assert stored(address, s3[0]) == before


def test_deleting_forgets_and_removes_what_was_meant_alone(address, tmp_path, s3):
    root = write(tmp_path / "project", FILES)
    push(root, open_store(address), progress=False)
    gone = delete(open_store(address), selection=Selection(parts=["frames"], videos=["vod_a"]), dry_run=False)
    assert gone == ["frames/vod_a/00000.tar", "frames/vod_a/index.parquet"]
    assert stored(address, s3[0]).keys() - {"manifest.json"} == FILES.keys() - set(gone)
    pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy").keys() == FILES.keys() - set(gone)
    assert tree(root) == FILES
    delete(open_store(address), selection=EVERYTHING, dry_run=False)
    assert stored(address, s3[0]).keys() == {"manifest.json"}


def test_the_delete_stage_wants_a_yes(address, tmp_path, s3):
    project, said = Project(write(tmp_path / "project", FILES)), []
    stages.push(project, address, progress=False, say=lambda line: None)
    before = stored(address, s3[0])
    stages.delete(project, only=["models"], say=said.append)
    assert said == [
        f"would delete  {WEIGHTS}",
        f"{address}: 1 files would be deleted; nothing was. Say yes (--yes) to do it.",
    ]
    assert stored(address, s3[0]) == before
    stages.delete(project, only=["models"], yes=True, say=said.append)
    assert said[2:] == [f"deleted  {WEIGHTS}", f"{address}: 1 files deleted."]


def test_the_status_stage_says_what_differs(address, tmp_path):
    project, said = Project(write(tmp_path / "project", {"labels/a.csv": b"a", "labels/b.csv": b"b"})), []
    stages.push(project, address, progress=False, say=lambda line: None)
    write(project.root, {"labels/b.csv": b"B", "labels/c.csv": b"c"})
    stages.status(project, progress=False, say=said.append)
    assert said[:2] == ["changed        labels/b.csv", "new            labels/c.csv"]
    assert said[2] == f"{address}: 1 new, 1 changed, 2 same."


# --- links ---


def test_a_link_gives_the_reel_to_anyone_and_is_kept_nowhere(s3, tmp_path):
    project, said = Project(write(tmp_path / "project", FILES | {"reels/vod_a.mp4": b"a reel"})), []
    stages.push(project, s3[2], progress=False, say=lambda line: None)
    address = stages.link(project, "vod_a", hours=2, say=said.append)
    assert said == [address]
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"a reel"
    assert "X-Amz-Expires=7200" in address
    assert SECRET not in address
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", address)
    assert signature is not None
    written = b"".join(tree(tmp_path).values()) + b"".join(stored(s3[2], s3[0]).values())
    assert signature[1].encode() not in written


def test_a_link_into_a_folder_is_the_file(tmp_path):
    project = Project(write(tmp_path / "project", {"reels/a b.mp4": b"a reel"}))
    stages.push(project, str(tmp_path / "store"), progress=False, say=lambda line: None)
    with urllib.request.urlopen(stages.link(project, "a b", say=lambda line: None)) as answer:
        assert answer.read() == b"a reel"


@pytest.mark.parametrize("hours", [0, -1, 169, float("nan")])
def test_how_long_a_link_may_hold(hours, tmp_path):
    with pytest.raises(HlkitError, match="at most 168"):
        stages.link(Project(tmp_path), "a", str(tmp_path), hours=hours)


def test_a_reel_that_is_not_there_has_no_link(address, tmp_path):
    project = Project(write(tmp_path / "project", FILES))
    stages.push(project, address, progress=False, say=lambda line: None)
    with pytest.raises(HlkitError, match=r"has no reel of 'vod_a'\. Cut it and push it first"):
        stages.link(project, "vod_a")


# --- cost ---


def test_writes_are_counted_as_the_server_counts_them():
    assert push_usage([5_000, 40_000_000], part_bytes=16 << 20) == Usage(files=2, size=40_005_000, writes=8, reads=1)
    assert push_usage([], part_bytes=1) == Usage(0, 0, 2, 1)
    assert push_usage([10, 9], part_bytes=10).writes == 3 + 1 + 2


def test_what_is_free_costs_nothing_and_the_rest_its_price():
    assert Usage(1, 10 * 10**9, 1_000_000, 10_000_000).monthly() == 0.0
    assert Usage(1, 110 * 10**9, 0, 0).monthly() == pytest.approx(1.50)
    assert Usage(1, 0, 2_000_000, 11_000_000).once() == pytest.approx(4.50 + 0.36)
    assert (R2.gb_month, R2.million_writes, R2.million_reads) == (0.015, 4.50, 0.36)
    assert Usage(1, 10**9, 0, 0).monthly(Prices(gb_month=1, free_gb_months=0)) == 1.0


def test_the_cost_line():
    line = cost_line(Usage(400, 20_500_000_000, 1_900, 1))
    assert line == (
        "400 files, 20.50 GB, 1,900 writes: $0.16 a month and $0.00 once at R2's prices of August 2026, "
        "if nothing else is in the account (10 GB and 1 million writes a month are free)."
    )
    assert ": $0 at R2's prices" in cost_line(Usage(4, 10**9, 6, 1))


def test_the_cost_is_said_before_the_first_push_to_r2_alone(s3, tmp_path):
    project, said = Project(write(tmp_path / "project", FILES)), []
    stages.push(project, s3[2], progress=False, say=said.append)
    assert said[0].startswith(f"{len(FILES)} files, 0.00 GB, {len(FILES) + 2} writes: $0 at R2's prices")
    assert len(said) == 2
    stages.push(project, s3[2], progress=False, say=said.append)
    stages.push(project, str(tmp_path / "store"), progress=False, say=said.append)
    assert len(said) == 4
