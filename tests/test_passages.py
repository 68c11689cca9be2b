import os
import random
import subprocess
import tempfile
import threading
from itertools import repeat

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_numbered

from hlkit import passages
from hlkit.faults import find_faults, find_holes
from hlkit.frames import extract_frames
from hlkit.passages import PASSAGE_SECONDS, long_mp4, stretches
from hlkit.project import HlkitError, HlkitWarning
from hlkit.sample_tables import BLOCK_SAMPLES, CHUNK_SAMPLES, Samples, _Runs
from hlkit.video import find_ffmpeg, probe

SECONDS = 12
ORDINARY = {
    "plain.mp4": {},
    "sound.mp4": {"fps": "60000/1001", "sound": True},
    "variable.mp4": {"vfr": True, "sound": True},
    "late.mp4": {"sound": True, "start": 0.7},
    "pyramid.mp4": {"fps": 60, "gop": 250, "bframes": 3},
    "open_gop.mp4": {"options": {"x264-params": "open-gop=1"}},
    "refreshed.mp4": {"bframes": 0, "options": {"x264-params": "intra-refresh=1"}},
    "in_order.mp4": {"bframes": 0, "gop": 7},
    "keyframes_alone.mp4": {"gop": 1},
    "index_first.mp4": {"sound": True, "container_options": {"movflags": "faststart"}},
    "no_edits.mp4": {"container_options": {"use_editlist": "0"}},
    "negative_offsets.mp4": {"container_options": {"movflags": "negative_cts_offsets"}},
    "ticks.mp4": {"container_options": {"video_track_timescale": "90000"}},
    "quicktime.mov": {"sound": True},
}


@pytest.fixture
def every_index_is_long(monkeypatch):
    monkeypatch.setattr(passages, "LONG_INDEX_BYTES", 0)
    passages._long_mp4.cache_clear()
    yield
    passages._long_mp4.cache_clear()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinary")
    for name, options in ORDINARY.items():
        make_numbered(folder / name, seconds=SECONDS, **options)
    return folder


def packets(opened):
    """Of the picture packets: timestamp in seconds, whether it is a keyframe, and the data."""
    with av.open(str(opened), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        found = [packet for packet in container.demux(stream) if packet.pts is not None]
        return [(float(each.pts * stream.time_base), each.is_keyframe, bytes(each)) for each in found]


@pytest.mark.parametrize("name", ORDINARY)
def test_a_passage_has_the_packets_of_the_whole_with_their_times(recordings, every_index_is_long, name):
    path = recordings / name
    whole, long = packets(path), long_mp4(path)
    with av.open(str(path)) as container:
        whole = [(time - container.start_time / 1e6, key, data) for time, key, data in whole]
    for start, stop in [(0, SECONDS), (0, 3), (2.5, 3), (4 + 1 / 3, 8), (11.5, SECONDS)]:
        with long.passage(start, stop) as passage:
            found = [(time - passage.origin, *rest) for time, *rest in packets(passage.url)]
        keys = [i for i, (time, key, _) in enumerate(whole) if key and time <= start]
        first = [0, *keys][-2:][0]  # with the last group the one before it
        # Of an open group, pictures shown before its keyframe can't be decoded without the group before.
        wanted = [each for each in whole[first:] if first == 0 or each[0] >= whole[first][0]]
        assert [each[1:] for each in found] == [each[1:] for each in wanted[: len(found)]]
        assert [each[0] for each in found] == pytest.approx([each[0] for each in wanted[: len(found)]], abs=1e-9)
        assert len(found) == len(wanted) or max(time for time, *_ in found) > stop


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_said_of_a_recording_is_the_same_though_its_index_is_not_read(recordings, monkeypatch, name):
    path = recordings / name
    whole, brand = probe(path), path.read_bytes()[8:12]
    monkeypatch.setattr(passages, "LONG_INDEX_BYTES", 0)
    passages._long_mp4.cache_clear()
    with long_mp4(path).beginning() as url, av.open(url, metadata_errors="ignore") as container:
        assert container.metadata["major_brand"].encode() == brand
    monkeypatch.setattr(passages, "FIRST_SAMPLES", 40)
    assert probe(path) == whole
    passages._long_mp4.cache_clear()


def shards(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.tar")}


@pytest.mark.parametrize("name", ["sound.mp4", "variable.mp4", "open_gop.mp4", "refreshed.mp4"])
def test_frames_by_passages_are_those_of_the_whole(recordings, tmp_path, monkeypatch, name):
    options = {"video_id": "a", "fps": 3, "size": 32, "shard_seconds": 2, "progress": False}
    whole = extract_frames(recordings / name, tmp_path / "whole", **options)
    opened = []
    original = passages.LongMP4.passage
    monkeypatch.setattr(passages.LongMP4, "passage", lambda *args: opened.append(args[1:]) or original(*args))
    monkeypatch.setattr(passages, "LONG_INDEX_BYTES", 0)
    monkeypatch.setattr(passages, "PASSAGE_SECONDS", 5)
    passages._long_mp4.cache_clear()
    parts = extract_frames(recordings / name, tmp_path / "parts", **options)
    passages._long_mp4.cache_clear()
    assert parts.equals(whole)
    assert shards(tmp_path / "parts") == shards(tmp_path / "whole")
    # Two shards of two seconds fit into five; holes are looked for from 0, 5 and 10 s on.
    assert sorted(start for start, _ in opened) == [0, 0, 4, 5, 8, 10]


def test_of_a_recording_that_was_cut_off_the_same_is_missing(recordings, tmp_path, monkeypatch):
    content = (recordings / "index_first.mp4").read_bytes()
    options = {"video_id": "a", "size": 32, "shard_seconds": 1, "progress": False}
    path = tmp_path / "a.mp4"
    path.write_bytes(content[: len(content) * 2 // 3])
    whole = find_holes(path), find_faults(path)
    with pytest.warns(HlkitWarning, match="can't be decoded from 0:00:0"):
        frames = extract_frames(path, tmp_path / "whole", **options)
    monkeypatch.setattr(passages, "LONG_INDEX_BYTES", 0)
    monkeypatch.setattr(passages, "PASSAGE_SECONDS", 2)
    passages._long_mp4.cache_clear()
    assert long_mp4(path) is not None
    for found, wanted in zip((find_holes(path), find_faults(path)), whole, strict=True):
        assert np.ravel(found) == pytest.approx(np.ravel(wanted), abs=1e-9)
    with pytest.warns(HlkitWarning, match="can't be decoded from 0:00:0"):
        assert extract_frames(path, tmp_path / "parts", **options).equals(frames)
    passages._long_mp4.cache_clear()
    assert 12 < len(frames) < 3 * SECONDS - 6


@pytest.mark.parametrize("damaged", [0, 3])
@pytest.mark.parametrize("long_index", [0, passages.LONG_INDEX_BYTES])
def test_a_damaged_keyframe_takes_its_group_with_it_wherever_a_passage_begins(
    recordings, tmp_path, monkeypatch, damaged, long_index
):
    content, path = bytearray((recordings / "plain.mp4").read_bytes()), tmp_path / "a.mp4"
    with av.open(str(recordings / "plain.mp4")) as container:
        keyframe = [packet for packet in container.demux(video=0) if packet.is_keyframe][damaged]
        content[keyframe.pos : keyframe.pos + keyframe.size] = bytes(keyframe.size)
    path.write_bytes(content)
    monkeypatch.setattr(passages, "LONG_INDEX_BYTES", long_index)
    monkeypatch.setattr(passages, "PASSAGE_SECONDS", 1)
    passages._long_mp4.cache_clear()
    with pytest.warns(HlkitWarning, match=f"from 0:00:0{damaged}.0 to 0:00:0{damaged + 1}.0"):
        frames = extract_frames(path, tmp_path / "a", video_id="a", size=32, shard_seconds=1, end=5.0, progress=False)
    passages._long_mp4.cache_clear()
    assert frames["frame"].to_list() == [frame for frame in range(15) if frame // 3 != damaged]


def remake(source, target, *options):
    command = [find_ffmpeg(), "-y", "-loglevel", "error", *options[:-1], "-i", source, *options[-1], target]
    subprocess.run(list(map(str, command)), check=True)
    return target


def harmed(content, kind, place, value):
    """The first box of that kind, with other bytes at a place in it."""
    found = content.index(kind) + 4 + place
    return content[:found] + value + content[found + len(value) :]


def test_what_is_not_an_ordinary_mp4_is_opened_whole(recordings, tmp_path, every_index_is_long):
    plain = recordings / "plain.mp4"
    content = plain.read_bytes()
    strange = [
        remake(plain, tmp_path / "a.mkv", ["-c", "copy"]),
        remake(plain, tmp_path / "fragments.mp4", ["-c", "copy", "-movflags", "frag_keyframe+empty_moov"]),
        remake(plain, tmp_path / "trimmed.mp4", "-ss", "2.1", ["-c", "copy"]),
        remake(plain, tmp_path / "twice.mp4", ["-map", "0:v", "-map", "0:v", "-c", "copy"]),
        remake(plain, tmp_path / "sound.mp4", "-f", "lavfi", "-i", "sine=d=2", ["-map", "0:a", "-c:a", "aac"]),
        tmp_path / "a|b.mp4",
        tmp_path / "missing.mp4",
    ]
    (tmp_path / "a|b.mp4").write_bytes(content)
    for name, harm in {
        "edit_speed.mp4": (b"elst", 16, b"\0\2"),
        "no_keyframe_first.mp4": (b"stss", 8, b"\0\0\0\2"),
        "edits.mp4": (b"elst", 4, b"\x7f\xff\xff\xff"),
        "empty_chunk.mp4": (b"stsc", 12, b"\0\0\0\0"),
        "counts.mp4": (b"stsz", 8, b"\0\0\0\7"),
        "steps.mp4": (b"stts", 12, b"\xff\0\0\0"),
        "shifts.mp4": (b"ctts", 12, b"\x70\0\0\0"),
        "box.mp4": (b"stts", -8, b"\0\0\0\1"),
        "no_table.mp4": (b"stsc", -4, b"free"),
        "size.mp4": (b"moov", -8, b"\x70\0\0\0"),
    }.items():
        (tmp_path / name).write_bytes(harmed(content, *harm))
        strange.append(tmp_path / name)
    assert [path.name for path in strange if long_mp4(path) is not None] == []
    assert long_mp4(plain) is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    pipe, said = tmp_path / "a.mp4", []
    os.mkfifo(pipe)

    def look():
        with pytest.raises(HlkitError, match="no video file"):
            probe(pipe)
        said.append(True)

    looking = threading.Thread(target=look)
    looking.start()
    looking.join(20)
    said_by_itself = list(said)
    if looking.is_alive():
        os.close(os.open(pipe, os.O_WRONLY))
    looking.join()
    assert said_by_itself == [True]


def test_names_that_no_file_has_and_names_as_text(recordings):
    assert long_mp4(recordings / "a\0.mp4") is None
    assert probe(str(recordings / "plain.mp4")) == probe(recordings / "plain.mp4")


def test_short_ones_are_opened_whole(recordings):
    assert long_mp4(recordings / "plain.mp4") is None
    assert stretches(recordings / "plain.mp4", 1.0, 9.0) == [(1.0, 9.0)]


def test_stretches_of_a_long_one_follow_each_other(recordings, every_index_is_long):
    path, end = recordings / "plain.mp4", 2.5 * PASSAGE_SECONDS
    assert stretches(path, 0.0, end) == [
        (0, PASSAGE_SECONDS),
        (PASSAGE_SECONDS, 2 * PASSAGE_SECONDS),
        (2 * PASSAGE_SECONDS, end),
    ]
    assert stretches(path, 5.0, PASSAGE_SECONDS + 5.0) == [(5, PASSAGE_SECONDS + 5)]


def test_what_a_damaged_clock_promises_is_opened_in_one_go(recordings, every_index_is_long):
    assert stretches(recordings / "plain.mp4", 0.0, 1e9) == [(0, 1e9)]


def test_of_sound_without_compression_no_more_is_held_at_once(recordings, tmp_path, every_index_is_long):
    tone, sound = ("-f", "lavfi", "-i", f"sine=r=48000:d={SECONDS}"), ["-c:v", "copy", "-c:a", "pcm_s16le"]
    path = remake(recordings / "plain.mp4", tmp_path / "a.mov", *tone, sound)
    track = next(track for track in long_mp4(path).tracks if track.kind == b"soun")
    with path.open("rb") as file:
        lengths = [len(samples) for samples in track.samples(file)]
    assert sum(lengths) == SECONDS * 48_000
    assert max(lengths) < BLOCK_SAMPLES + CHUNK_SAMPLES


@pytest.mark.parametrize("change", ["gone", "shorter", "overwritten"])
def test_a_recording_that_changes_on_the_way_is_told(recordings, tmp_path, every_index_is_long, change):
    path, content = tmp_path / "a.mp4", (recordings / "plain.mp4").read_bytes()
    path.write_bytes(content)
    long = long_mp4(path)
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:100] if change == "shorter" else bytes(len(content)))
    for opened in (long.passage(0, 1), long.beginning()):
        with pytest.raises(HlkitError, match=r"a\.mp4 was changed while it was read"), opened:
            pass


def test_nothing_is_left_behind_whatever_ends_it(recordings, tmp_path, monkeypatch, every_index_is_long):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for end in (KeyboardInterrupt, ValueError):
        with pytest.raises(end), long_mp4(recordings / "plain.mp4").passage(0, 1):
            assert [folder.name[:6] for folder in tmp_path.iterdir()] == ["hlkit-"]
            raise end
    assert list(tmp_path.iterdir()) == []


def test_damaged_tables_are_told_by_no_exception(recordings, tmp_path, every_index_is_long):
    content = (recordings / "index_first.mp4").read_bytes()
    begin = content.index(b"moov") + 4
    end = content.index(b"mdat")
    understood = 0
    for seed in range(300):
        dice, harmful = random.Random(seed), bytearray(content)
        for _ in range(dice.choice([1, 3, 20])):
            harmful[dice.randrange(begin, end)] ^= 1 << dice.randrange(8)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(harmful)
        understood += long_mp4(path) is not None
        path.unlink()
    assert 30 < understood < 270


run = st.tuples(st.integers(0, 9), st.integers(-5, 5))


@given(blocks=st.lists(st.lists(run, max_size=5), max_size=4), counts=st.lists(st.integers(0, 12), max_size=8))
def test_runs_give_their_values_however_they_are_taken(blocks, counts):
    values = [value for block in blocks for count, value in block for value in repeat(value, count)]
    runs = _Runs(np.array(block, np.int64).reshape(-1, 2) for block in blocks)
    taken = 0
    for count in counts:
        if taken + count > len(values):
            with pytest.raises(ValueError, match="ends too early"):
                runs.take(count)
            return
        assert runs.take(count).tolist() == values[taken : taken + count]
        taken += count
    assert runs.is_empty() == (taken == len(values))


@pytest.mark.parametrize("block", [1, 3, 7, 8192])
def test_blocks_of_any_length_hold_the_same_samples(recordings, every_index_is_long, monkeypatch, block):
    from hlkit import sample_tables

    track = long_mp4(recordings / "variable.mp4").pictures
    with (recordings / "variable.mp4").open("rb") as file:
        wanted = Samples.joined(list(track.samples(file)))
        monkeypatch.setattr(sample_tables, "BLOCK", block)
        monkeypatch.setattr(sample_tables, "BLOCK_SAMPLES", 10 * block)
        found = list(track.samples(file))
    assert len(found) >= len(wanted) // block // 10
    for column, its in zip(Samples.joined(found)._columns(), wanted._columns(), strict=True):
        assert column.tolist() == its.tolist()
