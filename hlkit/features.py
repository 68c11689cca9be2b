"""What a video offers the sequence model, a row a frame: its sound, its motion, its pictures' features, its chat.

`Material` is what is known before anything is learned; a `Recipe` holds what was learned of the training videos (the
sound words, by how much the chat lags) and turns material into the sources that `hlkit.sequence` reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm.auto import tqdm

from hlkit.codebook import Codebook, TooLittleSoundError, learn_codebook
from hlkit.device import autocast, pick_device
from hlkit.models import Model
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import average_precision
from hlkit.shards import FrameReader
from hlkit.signals import chat_activity
from hlkit.sound import is_silent

# Motion is taken from small pictures, in which the noise of an encoder is gone, and told for each of 8 x 8 cells.
MOTION_PIXELS = 32
MOTION_CELLS = 8
# Grey levels; below it a change is an encoder's. Motion is a logarithm, since a flash is worth many times a step.
LEAST_MOTION = 0.75
# A picture in which no cell moved by this many grey levels is the one before, as on a waiting screen.
SAME_PICTURE = 0.5

# Viewers see the stream late, and then type.
CHAT_DELAYS = tuple(range(0, 61, 2))
CHAT_WINDOW_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Material:
    """What a video holds at the times of its frames, in order; None for what it has not.

    Attributes:
        frames: `video`, `frame`, `time`.
        sound: dB (frames, slices, bands), see `hlkit.sound.log_mel`.
        motion: float (frames, 64), see `motion_between`.
        picture: float16 (frames, F), features of a backbone.
        chat: the chat's table, `time` (s), `author`, `text` and `emotes`, see `hlkit.chat.read_comments`.
    """

    frames: pl.DataFrame
    sound: np.ndarray | None = None
    motion: np.ndarray | None = None
    picture: np.ndarray | None = None
    chat: pl.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Recipe:
    """How material becomes sources.

    Attributes:
        codebook: of the sound; None when no training video had any.
        chat_delay: seconds by which the chat lags behind the game; None when no training video had chat.
    """

    codebook: Codebook | None = None
    chat_delay: float | None = None

    def sources(self, material: Material) -> dict[str, np.ndarray | None]:
        """The sources of a video: `sound`, `motion`, `picture` and `chat`, each float (frames, width) or None."""
        # A muted track is no sound, not a quiet game.
        sound = None
        if material.sound is not None and self.codebook is not None and not is_silent(material.sound):
            sound = self.codebook.encode(material.sound)
        chat = None
        if material.chat is not None and self.chat_delay is not None:
            chat = _chat_table(material, self.chat_delay)
        return {"sound": sound, "motion": material.motion, "picture": material.picture, "chat": chat}

    def to_checkpoint(self) -> dict[str, Any]:
        """Plain values and tensors."""
        book = self.codebook
        names = ("mean", "whitening", "words")
        arrays = None if book is None else {name: torch.from_numpy(getattr(book, name)) for name in names}
        return {"codebook": arrays, "chat_delay": self.chat_delay}

    @classmethod
    def from_checkpoint(cls, content: Mapping[str, Any]) -> Recipe:
        """The reverse of `to_checkpoint`.

        Raises:
            HlkitError: when it is the content of something else.
        """
        try:
            arrays, delay = content["codebook"], content["chat_delay"]
            book = None if arrays is None else Codebook(**{name: value.numpy() for name, value in arrays.items()})
            return cls(book, None if delay is None else float(delay))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HlkitError(
                f"The sequence model's sound words or chat delay are damaged ({error}). Train again: "
                "`hlkit train --redo`."
            ) from error


def learn_recipe(materials: Sequence[Material], labels: Sequence[np.ndarray], *, seed: int = 0) -> Recipe:
    """Learn the sound words (without labels) and the chat's delay (from int labels, a row a frame) of some videos.

    What there is too little of to learn from is left out, with an `HlkitWarning`.
    """
    spectra = [each.sound for each in materials if each.sound is not None and not is_silent(each.sound)]
    chats = [(each, label) for each, label in zip(materials, labels, strict=True) if each.chat is not None]
    book, delay = None, None
    try:
        book = learn_codebook(spectra, seed=seed) if spectra else None
    except TooLittleSoundError as error:
        _leave_out("sound", str(error))
    known = np.concatenate([label[label >= 0] > 0 for _, label in chats]) if chats else np.empty(0, dtype=bool)
    if known.any() and not known.all():
        delay = learn_delay(chats)
    elif chats:
        _leave_out("chat", "The videos that have one hold no highlights, or nothing else.")
    return Recipe(book, delay)


def _leave_out(source: str, reason: str) -> None:
    warnings.warn(f"The {source} is not learned from. {reason}", HlkitWarning, stacklevel=3)


def learn_delay(chats: Sequence[tuple[Material, np.ndarray]]) -> float:
    """The delay, 0 to 60 s, at which the chat's rate tells the labelled frames best (highest average precision).

    Raises:
        HlkitError: for no chat, or labels of one class only.
    """
    if not chats:
        raise HlkitError("There is no chat to learn a delay from. Give that of one video or more.")
    truth = np.concatenate([labels for _, labels in chats])

    def precision(delay: float) -> float:
        rates = np.concatenate([_chat_table(material, delay)[:, 0] for material, _ in chats])
        return average_precision(truth[truth >= 0], rates[truth >= 0])

    return float(max(CHAT_DELAYS, key=precision))


def _chat_table(material: Material, delay: float) -> np.ndarray:
    assert material.chat is not None
    table = chat_activity(
        material.chat, material.frames["time"], window_seconds=CHAT_WINDOW_SECONDS, delay_seconds=delay
    )
    return np.log1p(table.select("chat_rate", "chatters", "emote_share").to_numpy())


def small_grey(pictures: np.ndarray) -> np.ndarray:
    """RGB uint8 (n, H, W, 3) -> grey levels f32 (n, 32, 32): means of equal cells, or the nearest pixels if smaller."""
    grey = pictures.mean(axis=3, dtype=np.float32)
    rows, columns = (_cell_edges(size) for size in grey.shape[1:])
    summed = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
    area = np.diff([*rows, grey.shape[1]])[:, None] * np.diff([*columns, grey.shape[2]])[None]
    return summed / area


def _cell_edges(size: int) -> list[int]:
    return (np.arange(min(size, MOTION_PIXELS)) * size // min(size, MOTION_PIXELS)).tolist()


def motion_between(small: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
    """How much each frame differs from the one before, by place.

    Args:
        small: f32 (n, h, w), from `small_grey`.
        previous: f32 (h, w), the frame before the first; None at a video's beginning.

    Returns:
        f32 (n, 64): the logarithm of the mean absolute change in each cell of an 8 x 8 grid (fewer where the picture
        is smaller), in grey levels, from log 0.75.
    """
    before = np.concatenate([small[:1] if previous is None else previous[None], small[:-1]])
    change = np.abs(small - before)
    cells = [np.arange(min(size, MOTION_CELLS)) * size // min(size, MOTION_CELLS) for size in change.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(change, cells[0], axis=1), cells[1], axis=2)
    area = (change.shape[1] // len(cells[0])) * (change.shape[2] // len(cells[1]))
    return np.log(sums / area + LEAST_MOTION).reshape(len(small), -1)


def stored_pictures(frames: pl.DataFrame, root: Path, *, batch_size: int = 64) -> Iterator[np.ndarray]:
    """The stored pictures of a frame table in its order, RGB uint8 (n, H, W, 3).

    Args:
        frames: `video`, `shard`, `offset`, `size`.
        root: the folder of frame stores.
        batch_size: pictures in a batch.

    Raises:
        HlkitError: for a damaged shard.
    """
    from PIL import Image

    reader = FrameReader(root)
    for batch in frames.select("video", "shard", "offset", "size").iter_slices(batch_size):
        pictures = []
        for row in batch.iter_rows():
            try:
                pictures.append(np.asarray(Image.open(BytesIO(reader.read(*row))).convert("RGB")))
            except OSError as error:
                raise HlkitError(
                    f"A frame in {row[0]}/{row[1]} at byte {row[2]} can't be decoded ({error})."
                ) from error
        if len({picture.shape for picture in pictures}) > 1:
            raise HlkitError(f"Frames of {batch['video'][0]} differ in size. Extract them anew: `hlkit frames --redo`.")
        yield np.stack(pictures)


def watch(
    batches: Iterable[np.ndarray],
    count: int,
    *,
    model: Model | None = None,
    batch_size: int = 64,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """One pass over a video's pictures: its motion and, with a model, its picture features.

    A picture that does not differ from the last one scored takes over its features, so a waiting screen costs nothing.

    Args:
        batches: RGB uint8 (n, H, W, 3), in order of time.
        count: how many pictures come.
        model: whose backbone makes the features; None makes none.
        batch_size: pictures that the network sees at once.
        device: "auto", "cpu" or "cuda".
        progress: show a progress bar.

    Returns:
        float16 (count, 64) and float16 (count, F) or None.

    Raises:
        HlkitError: when no picture comes.
    """
    motion, features = [], []
    chosen = pick_device(device)
    if model is not None:
        model.to(chosen).eval()
    previous, scored, last = None, None, None
    bar = tqdm(total=count, desc="watching", unit="frame", mininterval=0.5, disable=not progress)
    with bar, torch.inference_mode(), autocast(chosen):
        for batch in batches:
            small = small_grey(batch)
            motion.append(motion_between(small, previous).astype(np.float16))
            previous = small[-1]
            if model is not None:
                new, scored = _new_pictures(small, scored)
                pictures = torch.from_numpy(batch[new]).permute(0, 3, 1, 2)  # (n, 3, H, W)
                parts = [model.features(part.to(chosen)).float() for part in pictures.split(batch_size) if len(part)]
                seen = np.concatenate([*([] if last is None else [last]), *(part.cpu().numpy() for part in parts)])
                place = np.cumsum(new) - (last is None)
                features.append(seen[place].astype(np.float16))
                last = seen[-1:]
            bar.update(len(batch))
    if not motion:
        raise HlkitError("There are no pictures to watch. Make the frames again: `hlkit frames --redo`.")
    return np.concatenate(motion), np.concatenate(features) if features else None


def _new_pictures(small: np.ndarray, scored: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures differ from the last one that did, bool (n,); and that one, of the whole video so far."""
    new = np.zeros(len(small), dtype=bool)
    for index, picture in enumerate(small):
        if scored is None or np.abs(picture - scored).max() > SAME_PICTURE:
            new[index], scored = True, picture
    assert scored is not None
    return new, scored
