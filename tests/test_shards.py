import io
import itertools
import pickle
import tarfile
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hlkit import shards
from hlkit.project import HlkitError
from hlkit.shards import (
    FrameReader,
    consecutive,
    find_members,
    member_header,
    plan_shards,
    shard_name,
    write_shard,
)

JPEGS = [b"\xff\xd8first", b"\xff\xd8second" * 100, b"\xff\xd8third"]


@example(count=877, top=44, bottom=1001, shard_seconds=44)
@given(
    count=st.integers(1, 5000),
    top=st.integers(1, 60_000),
    bottom=st.sampled_from([1, 7, 1000, 1001]),
    shard_seconds=st.integers(1, 700),
)
def test_a_shard_holds_a_fixed_stretch_of_time(count, top, bottom, shard_seconds):
    fps = Fraction(top, bottom)
    if not (fps <= 240 and fps * shard_seconds >= 1):
        return
    plan = plan_shards(count, fps, shard_seconds)
    assert [frame for frames in plan for frame in frames] == list(range(count))
    for number, frames in enumerate(plan):
        assert frames
        assert {frame / fps // shard_seconds for frame in (frames[0], frames[-1])} == {number}


def test_plan_by_hand():
    assert plan_shards(7, 3, 1) == [range(0, 3), range(3, 6), range(6, 7)]
    assert plan_shards(4, "3/2", 1) == [range(0, 2), range(2, 3), range(3, 4)]


def test_a_shard_shorter_than_a_frame_is_refused():
    with pytest.raises(HlkitError, match="holds no frame"):
        plan_shards(10, "0.5", 1)


@given(st.sets(st.integers(0, 100)))
def test_consecutive(numbers):
    runs = consecutive(sorted(numbers))
    assert [number for run in runs for number in run] == sorted(numbers)
    assert all(run == list(range(run[0], run[-1] + 1)) for run in runs)
    assert all(after[0] > before[-1] + 1 for before, after in itertools.pairwise(runs))


def test_a_shard_is_a_plain_tar_that_is_read_by_offset(tmp_path):
    places = write_shard(tmp_path / "a" / shard_name(3), range(40, 43), iter(JPEGS))
    with tarfile.open(tmp_path / "a" / "00003.tar") as tar:
        assert tar.getnames() == ["00000040.jpg", "00000041.jpg", "00000042.jpg"]
        assert [tar.extractfile(name).read() for name in tar.getnames()] == JPEGS
        assert {member.mtime for member in tar} == {0}
    reader = FrameReader(tmp_path)
    assert [reader.read("a", "00003.tar", *place) for place in places.tolist()] == JPEGS
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read("a", "00003.tar", *places[1].tolist()) == JPEGS[1]


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**9))
def test_a_members_header_is_that_of_pythons_own_tar(frame, size):
    member = tarfile.TarInfo(f"{frame:08d}.jpg")
    member.size = size
    assert member_header(frame, size) == member.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("count", [1, 3, 18, 19, 40])
def test_a_shard_is_byte_for_byte_pythons_own_tar(tmp_path, count):
    jpegs = [b"\xff\xd8" * (number * 7 + 1) for number in range(count)]
    write_shard(tmp_path / "00000.tar", range(count), iter(jpegs))
    with tarfile.open(tmp_path / "own.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, jpeg in enumerate(jpegs):
            member = tarfile.TarInfo(f"{number:08d}.jpg")
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
    assert (tmp_path / "00000.tar").read_bytes() == (tmp_path / "own.tar").read_bytes()


def test_too_few_pictures_leave_no_shard(tmp_path):
    with pytest.raises(HlkitError, match="not written whole"):
        write_shard(tmp_path / "00000.tar", range(4), iter(JPEGS))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 100, 1024, 1530, 3000, 3074])
def test_a_shard_that_is_cut_off_is_not_whole(tmp_path, keep):
    shard = tmp_path / "00000.tar"
    write_shard(shard, range(3), iter(JPEGS))
    assert find_members(shard, range(3)) is not None
    assert find_members(shard, range(1, 4)) is None
    assert find_members(shard, range(2)) is None
    shard.write_bytes(shard.read_bytes()[:keep])
    assert find_members(shard, range(3)) is None


def test_no_shard_is_not_whole(tmp_path):
    assert find_members(tmp_path / "00000.tar", range(3)) is None
    (tmp_path / "00000.tar").write_bytes(b"no tar" * 1000)
    assert find_members(tmp_path / "00000.tar", range(3)) is None


def test_a_damaged_shard_is_named_with_what_to_do(tmp_path):
    places = write_shard(tmp_path / "a" / "00000.tar", range(3), iter(JPEGS)).tolist()
    shard = tmp_path / "a" / "00000.tar"
    whole = shard.read_bytes()
    for content in (whole[: places[2][0] + 3], whole.replace(JPEGS[2], b"nothing."), b""):
        shard.write_bytes(content)
        with pytest.raises(HlkitError, match=r"a/00000\.tar is damaged: .* Delete it and run `hlkit frames` again"):
            FrameReader(tmp_path).read("a", "00000.tar", *places[2])
    shard.unlink()
    with pytest.raises(HlkitError, match="is missing or empty"):
        FrameReader(tmp_path).read("a", "00000.tar", *places[2])


@pytest.mark.parametrize(("video", "shard"), [("..", "x.jpg"), ("a", "../../x.jpg"), ("/", "x.jpg"), ("a", "/x.jpg")])
def test_nothing_outside_the_root_is_read(tmp_path, video, shard):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "x.jpg").write_bytes(JPEGS[0])
    with pytest.raises(HlkitError, match="outside"):
        FrameReader(tmp_path / "root").read(video, shard, 0, len(JPEGS[0]))


def test_only_so_many_shards_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    places = [write_shard(tmp_path / "a" / shard_name(n), range(n, n + 1), iter([JPEGS[n]])) for n in range(3)]
    reader = FrameReader(tmp_path)
    for number in (0, 1, 2, 0, 2, 1, 1, 0):
        assert reader.read("a", shard_name(number), *places[number][0].tolist()) == JPEGS[number]
        assert len(reader._maps) <= 2
