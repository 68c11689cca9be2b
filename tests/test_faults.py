"""Push and pull over a bad line: faults that a proxy injects, and kill -9 at counted moments."""

import os
import random
import signal

import moving
import pytest
from faulty_proxy import FAULTS, any_fault, faulty_proxy, one_fault
from stored import FILES, stored, tree, write

from hlkit import object_store
from hlkit.storage import open_store, pull, push

LATENCY = 0.03


def many_files(seed: int, *, number: int = 12, size: int = 60_000) -> dict[str, bytes]:
    dice = random.Random(seed)
    return {f"frames/v/{i:05d}.tar": dice.randbytes(dice.randrange(size)) for i in range(number)}


@pytest.mark.parametrize("fault", [*FAULTS, "any"])
def test_push_and_pull_over_a_bad_line_end_byte_identical(fault, s3, s3_endpoint, tmp_path, monkeypatch, impatient):
    client, _, address = s3
    monkeypatch.setattr(object_store, "MULTIPART_BYTES", 5 << 20)
    files = FILES | many_files(1) | {"videos/big.mp4": random.Random(2).randbytes(11 << 20)}
    root = write(tmp_path / "project", files)
    plan = any_fault(0.3, 3) if fault == "any" else one_fault(fault, 0.3, 3)
    with faulty_proxy(s3_endpoint, plan=plan, latency=LATENCY) as (proxy, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        push(root, open_store(address), progress=False)
        pushed = len(proxy.log)
        there = stored(address, client)
        there.pop("manifest.json")
        assert there == files
        write(root, {"labels/vod_a.csv": b"changed"})
        assert push(root, open_store(address), progress=False) == ["labels/vod_a.csv"]
        pull(open_store(address), tmp_path / "copy", progress=False)
    assert tree(tmp_path / "copy") == tree(root)
    assert sum(request.outcome in FAULTS for request in proxy.log[:pushed]) >= 3
    assert sum(request.outcome in FAULTS for request in proxy.log[pushed:]) >= 2


# --- kill -9 ---


def kill_at(proxy, moment, work, root, address) -> int:
    """Run `work` in a process that dies at a moment of its n-th request; its exit status."""
    first = len(proxy.log)
    child = []

    def watch(request, name):
        if (request.number - first, name) == moment:
            os.kill(child[0].pid, signal.SIGKILL)

    with proxy.watched(watch):
        child.append(moving.start(work, root, address))
        child[0].join()
        proxy.wait_until_idle()
    return child[0].exitcode


def moments(seed: int, requests: int, number: int) -> list[tuple[int, str]]:
    dice = random.Random(seed)
    return [(dice.randrange(requests), dice.choice(["asked", "half", "done"])) for _ in range(number)]


def names(requests, method: str, prefix: str) -> list[str]:
    found = [request.path.partition(f"/{prefix}/")[2] for request in requests if request.method == method]
    return [key for key in found if key and not key.startswith("manifest.json")]


@pytest.mark.parametrize("number", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_push_loses_nothing_and_sends_no_whole_file_again(number, s3, s3_endpoint, tmp_path, monkeypatch):
    client, bucket, _ = s3
    files = many_files(5)
    root, statuses, again = write(tmp_path / "project", files), [], 0
    with faulty_proxy(s3_endpoint) as (proxy, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        for attempt, moment in enumerate(moments(6, len(files) + 3, number)):
            address = f"r2://{bucket}/{attempt}"
            statuses.append(kill_at(proxy, moment, moving.push_all, root, address))
            there, first = stored(address, client), len(proxy.log)
            push(root, open_store(address), progress=False)
            sent = names(proxy.log[first:], "PUT", str(attempt))
            whole = {key for key in there if there[key] == files.get(key)}
            assert sorted(sent) == sorted(files.keys() - whole)
            after = stored(address, client)
            manifest = after.pop("manifest.json")
            assert after == files
            assert b"arriving" not in manifest
            again += len(sent)
    assert statuses == [-signal.SIGKILL] * number
    assert again < number * len(files)


@pytest.mark.parametrize("number", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_a_push_that_is_killed_while_it_replaces_leaves_a_store_that_can_be_pulled(
    number, s3, s3_endpoint, tmp_path, monkeypatch
):
    client, bucket, _ = s3
    old, new = many_files(7), many_files(8)
    statuses = []
    with faulty_proxy(s3_endpoint) as (proxy, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        for attempt, moment in enumerate(moments(9, len(old) + 5, number)):
            address, root = f"r2://{bucket}/{attempt}", write(tmp_path / f"project{attempt}", old)
            push(root, open_store(address), progress=False)
            write(root, new)
            statuses.append(kill_at(proxy, moment, moving.push_all, root, address))
            pull(open_store(address), tmp_path / f"between{attempt}", progress=False)
            between = tree(tmp_path / f"between{attempt}")
            assert between.keys() == old.keys()
            assert all(between[key] in (old[key], new[key]) for key in old)
            there, first = stored(address, client), len(proxy.log)
            push(root, open_store(address), progress=False)
            assert not {key for key in names(proxy.log[first:], "PUT", str(attempt)) if there[key] == new[key]}
            after = stored(address, client)
            assert b"arriving" not in after.pop("manifest.json")
            assert after == new
    assert statuses == [-signal.SIGKILL] * number


@pytest.mark.parametrize("number", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_a_killed_pull_fetches_no_whole_file_again(number, s3, s3_endpoint, tmp_path, monkeypatch):
    _, bucket, _ = s3
    files, statuses = many_files(10), []
    address = f"r2://{bucket}/x"
    push(write(tmp_path / "project", files), open_store(address), progress=False)
    with faulty_proxy(s3_endpoint) as (proxy, endpoint):
        monkeypatch.setenv("HLKIT_S3_ENDPOINT", endpoint)
        for attempt, moment in enumerate(moments(11, len(files) + 1, number)):
            copy = tmp_path / f"copy{attempt}"
            statuses.append(kill_at(proxy, moment, moving.pull_all, copy, address))
            here = {key for key, data in tree(copy).items() if data == files.get(key)} if copy.exists() else set()
            first = len(proxy.log)
            assert pull(open_store(address), copy, progress=False) == sorted(files.keys() - here)
            assert set(names(proxy.log[first:], "GET", "x")) == files.keys() - here
            assert tree(copy) == files
    assert statuses == [-signal.SIGKILL] * number
