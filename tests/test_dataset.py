import io
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_frames import encode, make_frames, with_parts
from torch.utils.data import DataLoader

from hlkit import dataset
from hlkit.clips import clip_windows
from hlkit.dataset import BalancedSampler, ClipDataset, FrameDataModule, FrameDataset, augment_pictures
from hlkit.project import HlkitError
from hlkit.split import rebalance

LABELS = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]


@pytest.fixture
def frames(tmp_path):
    return make_frames(tmp_path, "a", LABELS)


def as_pillow_sees(root, row, size=None):
    content = (root / row["video"] / row["shard"]).read_bytes()[row["offset"] :][: row["size"]]
    image = Image.open(io.BytesIO(content))
    return np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("cache", ["tensors", "jpeg", "none"])
def test_items_are_the_stored_pictures_and_their_labels(tmp_path, frames, cache):
    pictures = FrameDataset(frames, tmp_path, cache=cache)
    assert len(pictures) == 10
    for _ in range(2):  # the second time out of the cache
        for index, row in enumerate(frames.iter_rows(named=True)):
            picture, label = pictures[index]
            assert picture.dtype == torch.uint8
            assert np.array_equal(picture.permute(1, 2, 0).numpy(), as_pillow_sees(tmp_path, row))
            assert label == LABELS[index]
    (last, _), (first, _) = pictures.__getitems__([9, 0])
    assert torch.equal(last, pictures[-1][0])
    assert torch.equal(first, pictures[0][0])
    with pytest.raises(IndexError):
        pictures[10]


def test_the_cache_reads_each_picture_once(tmp_path, frames):
    for cache in ("tensors", "jpeg"):
        pictures = FrameDataset(frames, tmp_path, cache=cache)
        before = pictures.pictures(range(10)).clone()
        (tmp_path / "a" / "00000.tar").rename(tmp_path / "a" / "away")
        pictures.reader = None
        assert torch.equal(pictures.pictures(range(10)), before)
        (tmp_path / "a" / "away").rename(tmp_path / "a" / "00000.tar")


@pytest.mark.parametrize(("free", "cache"), [(10 * 32 * 32 * 12, "tensors"), (10 * 32 * 32 * 3, "jpeg"), (99, "none")])
def test_auto_takes_the_first_cache_that_fits_in_a_quarter_of_free_memory(tmp_path, frames, monkeypatch, free, cache):
    small = frames.with_columns(pl.lit(700).alias("size"))
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(dataset, "psutil", memory)
    assert FrameDataset(small, tmp_path, size=32).cache == cache


def test_pictures_without_labels_say_so(tmp_path, frames):
    assert FrameDataset(frames.drop("label"), tmp_path)[4][1] == -1


def test_size_brings_all_pictures_to_one_size(tmp_path, frames):
    other = make_frames(tmp_path, "b", [1], size=48)
    both = pl.concat([frames, other])
    pictures = FrameDataset(both, tmp_path, size=24)
    assert pictures.pictures([0, 10]).shape == (2, 3, 24, 24)
    expected = as_pillow_sees(tmp_path, both.row(10, named=True), size=24)
    assert np.array_equal(pictures[10][0].permute(1, 2, 0).numpy(), expected)
    with pytest.raises(HlkitError, match=r"byte 512 of b/00000.tar is 48x48 px, the first one 32x32.*size="):
        FrameDataset(both, tmp_path).pictures([0, 10])


def test_bad_input_is_named(tmp_path, frames):
    with pytest.raises(HlkitError, match="empty"):
        FrameDataset(frames.clear(), tmp_path)
    shard = tmp_path / "a" / "00000.tar"
    whole = shard.read_bytes()
    row = frames.row(3, named=True)
    broken = bytearray(whole)
    broken[row["offset"] + 2 : row["offset"] + row["size"]] = bytes(row["size"] - 2)
    shard.write_bytes(broken)
    with pytest.raises(HlkitError, match=rf"byte {row['offset']} of a/00000.tar is damaged"):
        FrameDataset(frames, tmp_path).pictures([3])
    shard.write_bytes(whole[: row["offset"] + 10])
    with pytest.raises(HlkitError, match=r"00000.tar"):
        FrameDataset(frames, tmp_path).pictures([3])


def test_worker_processes_read_the_same_pictures(tmp_path, frames):
    pictures = FrameDataset(frames, tmp_path, cache="none")
    batches = list(DataLoader(pictures, batch_size=4, num_workers=2))
    assert torch.equal(torch.cat([images for images, _ in batches]), pictures.pictures(range(10)))
    assert torch.cat([labels for _, labels in batches]).tolist() == LABELS


def table(rows):
    return pl.DataFrame(rows, schema=["video", "frame", "time"], orient="row")


def test_clips_at_edges_repeat_the_nearest_frame():
    three = table([("a", frame, frame / 3) for frame in range(3)])
    assert clip_windows(three, 4).tolist() == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 2]]
    assert clip_windows(three, 3).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    assert clip_windows(three, 1).tolist() == [[0], [1], [2]]
    assert clip_windows(three.clear(), 4).shape == (0, 4)
    assert clip_windows(three[[2, 0, 1]], 3).tolist() == [[2, 0, 0], [1, 1, 2], [1, 2, 0]]


def test_clips_end_at_gaps_in_frames_and_in_time():
    missing = table([("a", frame, frame / 3) for frame in (0, 1, 3, 4)])
    assert clip_windows(missing, 3).tolist() == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]
    paused = table([("a", 0, 0.0), ("a", 1, 0.5), ("a", 2, 1.3), ("a", 3, 1.8)])
    assert clip_windows(paused, 3).tolist() == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]


@st.composite
def odd_tables(draw):
    """Several videos with gaps, parts and shuffled rows; times are frame / fps."""
    rows = []
    for video in "abc"[: draw(st.integers(1, 3))]:
        fps = draw(st.sampled_from([Fraction(1, 2), Fraction(3), Fraction(30000, 1001)]))
        numbers = sorted(draw(st.sets(st.integers(0, 40), min_size=1)))
        parts = draw(st.lists(st.sampled_from(["train", "validation"]), min_size=len(numbers), max_size=len(numbers)))
        rows += [(video, n, float(n / fps), part) for n, part in zip(numbers, parts, strict=True)]
    rows = draw(st.permutations(rows))
    return pl.DataFrame(rows, schema=["video", "frame", "time", "part"], orient="row")


@given(odd_tables(), st.integers(1, 9))
def test_clips_cross_no_video_gap_or_part(frames, length):
    rows = frames.rows(named=True)
    windows = clip_windows(frames, length)
    assert windows.shape == (len(rows), length)
    for index, window in enumerate(windows.tolist()):
        assert window[length // 2] == index
        clip = [rows[place] for place in window]
        assert {(row["video"], row["part"]) for row in clip} == {(rows[index]["video"], rows[index]["part"])}
        numbers = [row["frame"] for row in clip]
        present = {row["frame"] for row in rows if (row["video"], row["part"]) == (clip[0]["video"], clip[0]["part"])}
        for offset, number in enumerate(numbers, start=-(length // 2)):
            wanted = rows[index]["frame"] + offset
            path = range(*sorted((rows[index]["frame"], wanted)))
            if wanted in present and present >= set(path):
                assert number == wanted
            else:  # the nearest frame that can be reached without a gap
                step = 1 if offset > 0 else -1
                assert number + step not in present
                assert min(rows[index]["frame"], wanted) <= number <= max(rows[index]["frame"], wanted)


@pytest.mark.parametrize("cache", ["tensors", "none"])
def test_a_clip_is_the_frames_of_its_window(tmp_path, cache):
    frames = make_frames(tmp_path, "a", LABELS, missing=[5])
    clips = ClipDataset(frames, tmp_path, num_frames_per_clip=4, cache=cache)
    singles = FrameDataset(frames, tmp_path)
    assert len(clips) == 9
    for index, window in enumerate(clip_windows(frames, 4)):
        clip, label = clips[index]
        assert torch.equal(clip, torch.stack([singles[int(place)][0] for place in window]))
        assert label == singles.labels[index]
    images, labels = next(iter(DataLoader(clips, batch_size=9)))
    assert images.shape == (9, 4, 3, 32, 32)
    assert labels.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    with pytest.raises(IndexError):
        clips[9]


@given(st.lists(st.integers(0, 1), min_size=2, max_size=60), st.integers(1, 90), st.integers(0, 3), st.integers(0, 3))
def test_each_row_is_drawn_as_often_as_its_weight_says(labels, draws, seed, epoch):
    if len(set(labels)) < 2:
        labels = [0, 1]
    weights = rebalance(np.array(labels), 0.3)
    sampler = BalancedSampler(weights, draws, seed)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == draws
    counts = np.bincount(drawn, minlength=len(labels))
    assert (np.abs(counts - draws * weights) < 1 + 1e-6).all()
    again = BalancedSampler(weights, draws, seed)
    list(again)  # an epoch that an unbroken run would have drawn first changes nothing
    again.set_epoch(epoch)
    assert list(again) == drawn


def test_epochs_and_seeds_draw_differently():
    weights = np.full(50, 1 / 50)
    draws = []
    for seed in range(3):
        sampler = BalancedSampler(weights, 50, seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            draws.append(tuple(sampler))
            assert sorted(draws[-1]) == list(range(50))
    assert len(set(draws)) == 9


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augmentation_flips_shifts_and_changes_light(monkeypatch):
    images = torch.randint(0, 256, (64, 3, 20, 20), dtype=torch.uint8, generator=generator())
    changed = augment_pictures(images, generator())
    assert (changed.dtype, changed.shape) == (torch.float32, images.shape)
    assert 0 <= changed.min() < 0.05 < 0.95 < changed.max() <= 1
    assert torch.equal(changed, augment_pictures(images, generator()))
    assert not torch.equal(changed, augment_pictures(images, generator(1)))

    monkeypatch.setattr(dataset, "MAX_CONTRAST", 0)
    monkeypatch.setattr(dataset, "MAX_BRIGHTNESS", 0)
    reach = math.ceil(dataset.MAX_SHIFT * 20)
    padded = torch.nn.functional.pad(images / 255, (reach,) * 4, mode="replicate")
    for image, around in zip(augment_pictures(images, generator()), padded, strict=True):
        crops = [around[:, y : y + 20, x : x + 20] for y in range(2 * reach + 1) for x in range(2 * reach + 1)]
        assert any(torch.allclose(image, crop) or torch.allclose(image, crop.flip(2)) for crop in crops)

    monkeypatch.setattr(dataset, "MAX_SHIFT", 0)
    results = augment_pictures(images, generator())
    same = [torch.allclose(a, b) for a, b in zip(results, images / 255, strict=True)]
    mirrored = [torch.allclose(a, b) for a, b in zip(results, images.flip(3) / 255, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


def test_all_frames_of_a_clip_change_alike():
    image = torch.randint(0, 256, (5, 1, 3, 16, 16), dtype=torch.uint8, generator=generator())
    changed = augment_pictures(image.expand(5, 4, 3, 16, 16), generator())
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert len({tuple(clip[0].ravel().tolist()) for clip in changed}) == 5


def test_the_data_module_balances_training_only_and_keeps_validation_as_it_is(tmp_path):
    labels = [1 if frame % 10 == 0 else 0 for frame in range(200)]
    frames = with_parts(make_frames(tmp_path, "a", labels, size=8), 0.5)
    data = FrameDataModule(frames, tmp_path, batch_size=16)
    drawn = torch.cat([labels for _, labels in data.train_dataloader()])
    assert len(drawn) == 96  # 100 draws, without the last batch that is not full
    assert sum(data.train_set.labels[index] for index in data.sampler) == 30
    images, labels = (torch.cat(parts) for parts in zip(*data.val_dataloader(), strict=True))
    validation = frames.filter(pl.col("part") == "validation")
    assert labels.tolist() == validation["label"].to_list()
    assert torch.equal(images, FrameDataset(validation, tmp_path).pictures(range(100)))


def test_batches_are_augmented_in_training_only(tmp_path):
    frames = with_parts(make_frames(tmp_path, "a", LABELS))
    data = FrameDataModule(frames, tmp_path)
    batch = torch.stack([data.train_set[0][0]] * 4), torch.zeros(4)
    for training in (False, True):
        data.trainer = SimpleNamespace(training=training, current_epoch=2)
        images, _ = data.on_after_batch_transfer(batch, 0)
        assert (images is batch[0]) == (not training)
    first = [data.on_after_batch_transfer(batch, 0)[0] for _ in range(3)]
    resumed = FrameDataModule(frames, tmp_path)
    resumed.trainer = SimpleNamespace(training=True, current_epoch=2)
    assert not torch.equal(first[0], first[1])
    resumed.on_after_batch_transfer(batch, 0)
    assert torch.equal(resumed.on_after_batch_transfer(batch, 0)[0], first[0])
    resumed.trainer = SimpleNamespace(training=True, current_epoch=3)
    resumed.on_after_batch_transfer(batch, 0)
    assert not torch.equal(resumed.on_after_batch_transfer(batch, 0)[0], first[0])


def test_purged_frames_are_in_neither_part_and_missing_parts_are_named(tmp_path):
    frames = with_parts(make_frames(tmp_path, "a", LABELS))
    purged = frames.with_columns(pl.when(pl.col("frame") == 6).then(pl.lit("purged")).otherwise("part").alias("part"))
    data = FrameDataModule(purged, tmp_path, num_frames_per_clip=3)
    assert len(data.train_set) + len(data.validation_set) == 9
    with pytest.raises(HlkitError, match=r"lacks \['label', 'part'\]"):
        FrameDataModule(frames.drop("label", "part"), tmp_path)
    with pytest.raises(HlkitError, match="No frame of the table is in the validation part"):
        FrameDataModule(frames.filter(pl.col("part") == "train"), tmp_path)


def test_a_grey_jpeg_is_three_channels(tmp_path):
    (tmp_path / "a").mkdir()
    content = encode(np.full((16, 16), 90, np.uint8))
    (tmp_path / "a" / "1.jpg").write_bytes(content)
    row = {"video": "a", "frame": 0, "time": 0.0, "shard": "1.jpg", "offset": 0, "size": len(content)}
    assert FrameDataset(pl.DataFrame([row]), tmp_path)[0][0].unique().tolist() == [90]
