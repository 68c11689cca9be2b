from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_frames import make_frames

from hlkit.features import (
    LEAST_MOTION,
    Material,
    Recipe,
    learn_delay,
    learn_recipe,
    motion_between,
    small_grey,
    stored_pictures,
    watch,
)
from hlkit.models import ResNetClassifier
from hlkit.project import HlkitError, HlkitWarning
from hlkit.signals import chat_activity


def chat(*rows: tuple[float, str | None, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"time": pl.Float64, "author": pl.String, "emotes": pl.Int32}, orient="row")


def test_chat_activity_by_hand():
    said = chat((9.0, "a", 0), (10.0, "a", 2), (11.9, "b", 0), (12.0, "c", 1), (30.0, None, 0))
    table = chat_activity(said, [10.0, 20.0, 30.0], window_seconds=4)
    assert table["chat_rate"].to_list() == [3 / 4, 0, 1 / 4]  # 8 <= time < 12
    assert table["chatters"].to_list() == [2, 0, 1]
    assert table["emote_share"].to_list() == pytest.approx([1 / 3, 0, 0])
    late = chat_activity(said, [2.0, 22.0], window_seconds=4, delay_seconds=8)
    assert late["chat_rate"].to_list() == [3 / 4, 1 / 4]


def test_an_empty_chat_is_silence_and_a_window_must_be_positive():
    assert chat_activity(chat(), [0.0, 1.0])["chat_rate"].to_list() == [0, 0]
    with pytest.raises(HlkitError, match="above 0"):
        chat_activity(chat(), [0.0], window_seconds=0)


@settings(max_examples=8)
@given(st.sampled_from([0, 4, 18, 36, 60]), st.integers(0, 1000))
def test_the_delay_of_the_chat_is_learned(delay, seed):
    rng = np.random.default_rng(seed)
    times = np.arange(1800) / 3
    labels = ((times % 100) < 10).astype(np.int8)
    excited = [(float(time + delay + rng.uniform(0, 1)), "x", 0) for time in times[labels > 0] for _ in range(2)]
    idle = [(float(time), "y", 0) for time in rng.uniform(0, 600, 60)]
    frames = pl.DataFrame({"video": ["a"] * 1800, "frame": range(1800), "time": times})
    recipe = learn_recipe([Material(frames, chat=chat(*excited, *idle))], [labels])
    assert recipe.chat_delay == pytest.approx(delay, abs=2)
    assert recipe.sources(Material(frames))["chat"] is None


def test_what_there_is_too_little_of_is_left_out_aloud():
    frames = pl.DataFrame({"video": ["a"] * 90, "frame": range(90), "time": np.arange(90) / 3})
    rng = np.random.default_rng(0)
    short = rng.normal(-40, 9, (12, 12, 40)).astype(np.float32)
    with pytest.warns(HlkitWarning, match="The sound is not learned from. There are [0-9] s of it that are not quiet"):
        assert learn_recipe([Material(frames[:12], sound=short)], [np.zeros(12)]).codebook is None
    idle = chat(*[(float(second), "a", 0) for second in range(30)])
    with pytest.warns(HlkitWarning, match="The chat is not learned from"):
        assert learn_recipe([Material(frames, chat=idle)], [np.zeros(90)]).chat_delay is None


def test_a_muted_track_is_no_sound():
    frames = pl.DataFrame({"video": ["a"] * 300, "frame": range(300), "time": np.arange(300) / 3})
    muted = np.full((300, 12, 40), -80, dtype=np.float32)
    loud = np.random.default_rng(0).normal(-40, 9, (300, 12, 40)).astype(np.float32)
    assert learn_recipe([Material(frames, sound=muted)], [np.zeros(300)]).codebook is None
    recipe = learn_recipe([Material(frames, sound=loud), Material(frames, sound=muted)], [np.zeros(300)] * 2)
    assert recipe.sources(Material(frames, sound=loud))["sound"] is not None
    assert recipe.sources(Material(frames, sound=muted))["sound"] is None


def test_motion_is_told_by_place():
    pictures = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    pictures[1, :8, :8] = 100
    pictures[2, :8, :8] = 100
    motion = motion_between(small_grey(pictures), None)
    assert motion.shape == (3, 64)
    still = np.log(LEAST_MOTION)
    assert motion[1, 0] == pytest.approx(np.log(100 + LEAST_MOTION))
    assert motion[1, 1:] == pytest.approx(still)
    assert motion[[0, 2]] == pytest.approx(still)


@pytest.mark.parametrize("shape", [(5, 7), (32, 32), (33, 50), (128, 128), (1, 1)])
def test_any_picture_size_keeps_its_mean(shape):
    pictures = np.full((2, *shape, 3), 60, dtype=np.uint8)
    pictures[1] = 90
    small = small_grey(pictures)
    assert small.shape[1] <= 32
    assert small[0] == pytest.approx(60)
    assert motion_between(small, None)[1] == pytest.approx(np.log(30 + LEAST_MOTION))


class Counting(torch.nn.Module):
    """A backbone whose feature is the mean of the picture, and that counts what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def features(self, images):
        self.seen += len(images)
        return images.float().mean(dim=(1, 2, 3))[:, None]


def test_a_waiting_screen_is_scored_once_across_batches():
    grey = [10, 10, 10, 200, 200, 10, 10, 10, 10, 30]
    pictures = np.stack([np.full((8, 8, 3), value, dtype=np.uint8) for value in grey])
    model = Counting()
    batches = np.split(pictures, [2, 3, 7])
    motion, features = watch(batches, len(grey), model=model, device="cpu", progress=False)  # pyright: ignore
    assert model.seen == 4
    assert features is not None
    assert features[:, 0].tolist() == grey
    whole, _ = watch([pictures], len(grey), device="cpu", progress=False)
    np.testing.assert_array_equal(motion, whole)


def test_features_of_stored_frames_are_those_of_the_network(tmp_path):
    frames = make_frames(tmp_path, "a", [0, 1, 1, 0, 0, 1, 0])
    model = ResNetClassifier("resnet18").eval()
    _, features = watch(stored_pictures(frames, tmp_path, batch_size=3), 7, model=model, device="cpu", progress=False)
    pictures = torch.from_numpy(np.concatenate(list(stored_pictures(frames, tmp_path)))).permute(0, 3, 1, 2)
    assert features is not None
    with torch.inference_mode():
        expected = model.features(pictures).float().numpy()
    # bfloat16, where the processor has it, keeps three digits.
    np.testing.assert_allclose(features, expected, rtol=0.05, atol=0.05)


def test_a_damaged_picture_is_named(tmp_path):
    frames = make_frames(tmp_path, "a", [0, 1])
    shard = tmp_path / "a" / "00000.tar"
    content = bytearray(shard.read_bytes())
    content[frames["offset"][1] : frames["offset"][1] + 40] = bytes(40)
    shard.write_bytes(content)
    with pytest.raises(HlkitError, match=r"a/00000\.tar is damaged: there is no picture at byte"):
        list(stored_pictures(frames, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda book: book | {"words": None},
        lambda book: {name: value for name, value in book.items() if name != "words"},
        lambda book: book | {"words": book["words"][:, :5]},
        lambda book: 3,
    ],
)
def test_a_damaged_recipe_is_refused(change):
    book = {"mean": torch.zeros(36), "whitening": torch.zeros(36, 30), "words": torch.zeros(256, 30)}
    assert Recipe.from_checkpoint({"codebook": book, "chat_delay": None}).codebook is not None
    with pytest.raises(HlkitError, match="Train again"):
        Recipe.from_checkpoint({"codebook": change(book), "chat_delay": None})


def test_recipe_round_trip():
    spectrum = np.random.default_rng(0).normal(-60, 10, (400, 6, 12)).astype(np.float16)
    frames = pl.DataFrame({"video": ["a"] * 400, "frame": range(400), "time": np.arange(400) / 3})
    material = Material(frames, sound=spectrum)
    recipe = learn_recipe([material], [np.zeros(400)])
    again = Recipe.from_checkpoint(recipe.to_checkpoint())
    assert recipe.chat_delay is None
    np.testing.assert_array_equal(recipe.sources(material)["sound"], again.sources(material)["sound"])
    assert Recipe.from_checkpoint(Recipe().to_checkpoint()).sources(material)["sound"] is None


def test_nothing_to_watch_or_to_read_is_refused():
    with pytest.raises(HlkitError, match="no pictures to watch"):
        watch([], 0, progress=False)
    with pytest.raises(HlkitError, match="no chat to learn a delay from"):
        learn_delay([])
