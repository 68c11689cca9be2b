"""Frame tables as torch datasets: single pictures, clips of neighbours, and the data module that feeds training.

A picture is RGB uint8 `(3, H, W)`; a clip `(T, 3, H, W)`. Where a table says what is heard beside its pictures, that
stands between them and the label. Nothing here is random except `BalancedSampler` and
`augment_pictures`, both for the training part only; their draws follow from the seed, the epoch and the batch alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as lightning
import numpy as np
import polars as pl
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hlkit.clips import clip_windows
from hlkit.frames import FrameReader
from hlkit.project import HlkitError
from hlkit.split import rebalance

Cache = Literal["auto", "tensors", "jpeg", "none"]
Augment = Literal["all", "place", "none"]
"""What training varies in its pictures: where they show something and in which light; where only; nothing."""

# Training, the network and the other half of the table need room too.
CACHE_SHARE_OF_FREE_RAM = 0.25

# Streams are never seen shifted by more than a camera's sway, nor in another light than a scene's own changes.
MAX_SHIFT = 0.08
MAX_CONTRAST = 0.25
MAX_BRIGHTNESS = 0.15


class FrameDataset(Dataset[tuple[Any, ...]]):
    """The pictures of a frame table, with their labels where it has any.

    Args:
        frames: columns `video`, `shard`, `offset`, `size`, and optionally `label` and `sound` (an array of numbers, see
            `hlkit.sound.second_levels`); row i is item i.
        root: the folder of frame stores; a picture lies in `root / video / shard`.
        size: pictures are squeezed to `size` x `size` pixels where they are not; None takes them as they are.
        cache: what stays in RAM once it was read: "tensors" (decoded pictures), "jpeg" (the files' bytes), "none", or
            "auto", the first of these that fits in a quarter of the free memory.

    Item i is `(uint8 (3, H, W), label)`, or with sound `(uint8 (3, H, W), float32 (W,), label)`; the label is -1 where
    there is none.

    Raises:
        HlkitError: for an empty table, a damaged shard, or (when read) a picture unlike the first one without `size`.
    """

    def __init__(self, frames: pl.DataFrame, root: Path, *, size: int | None = None, cache: Cache = "auto") -> None:
        if frames.is_empty():
            raise HlkitError("The frame table is empty. Extract frames first (notebook 02, or `hlkit frames`).")
        self.frames = frames
        self.reader = FrameReader(Path(root))
        self.labels = _labels(frames)
        self.sound = torch.tensor(frames["sound"].to_numpy()) if "sound" in frames.columns else None
        self._places = frames.select("video", "shard", "offset", "size")
        self._bytes: dict[int, bytes] = {}
        self._size = size
        self._shape = (size, size) if size else self._decode(0).shape[:2]
        self.cache = _fitting_cache(frames, self._shape) if cache == "auto" else cache
        rows = len(frames) if self.cache == "tensors" else 0
        self._tensors = torch.empty((rows, *self._shape, 3), dtype=torch.uint8)
        self._is_filled = np.zeros(rows, dtype=bool)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """A batch at once; torch's DataLoader asks for it when it is there."""
        sound = () if self.sound is None else (self.sound[list(indices)],)
        return list(zip(self.pictures(indices), *sound, self.labels[list(indices)].tolist(), strict=True))

    def pictures(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """The pictures of some rows, uint8 `(n, 3, H, W)`, channels last in memory."""
        indices = np.asarray(indices)
        if self.cache != "tensors":
            pixels = torch.stack([self._picture(int(index)) for index in indices])
        else:
            for index in np.unique(indices[~self._is_filled[indices]]):
                self._tensors[index] = self._picture(int(index))
                self._is_filled[index] = True
            pixels = self._tensors[torch.from_numpy(indices)]
        return pixels.permute(0, 3, 1, 2)  # (n, H, W, 3) -> (n, 3, H, W)

    def _picture(self, index: int) -> Tensor:
        """One picture, uint8 (H, W, 3), in the size of all."""
        pixels = self._decode(index, keep=self.cache == "jpeg")
        if pixels.shape[:2] != self._shape:
            raise HlkitError(
                f"{self._name(index)} is {pixels.shape[1]}x{pixels.shape[0]} px, the first one "
                f"{self._shape[1]}x{self._shape[0]}. Give size=128, say, to bring all pictures to one size."
            )
        return torch.from_numpy(pixels)

    def _decode(self, index: int, *, keep: bool = False) -> np.ndarray:
        from PIL import Image

        content = self._bytes.get(index) or self.reader.read(*self._places.row(index))
        if keep:
            self._bytes[index] = content
        try:
            image = Image.open(io.BytesIO(content)).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            reason = f"{self._name(index)} is damaged ({error}). Delete this shard and run `hlkit frames` again."
            raise HlkitError(reason) from error
        if self._size is not None and image.size != (self._size, self._size):
            image = image.resize((self._size, self._size), Image.Resampling.BILINEAR)
        return np.array(image)

    def _name(self, index: int) -> str:
        video, shard, offset, _ = self._places.row(index)
        return f"The picture at byte {offset} of {video}/{shard}"


class ClipDataset(Dataset[tuple[Any, ...]]):
    """A clip around each frame of a table: item i is `(uint8 (T, 3, H, W), label of frame i)`; see `clip_windows`.
    With sound, `float32 (T, W)` stands between the two.

    Arguments and errors are as for `FrameDataset`; `num_frames_per_clip` is T. The table needs `frame` and `time` too.
    """

    def __init__(
        self,
        frames: pl.DataFrame,
        root: Path,
        *,
        num_frames_per_clip: int = 8,
        size: int | None = None,
        cache: Cache = "auto",
    ) -> None:
        self.frames = frames
        self.single = FrameDataset(frames, root, size=size, cache=cache)
        self.windows = clip_windows(frames, num_frames_per_clip)
        self.labels, self.cache = self.single.labels, self.single.cache

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, ...]]:
        """A batch at once; torch's DataLoader asks for it when it is there."""
        windows = self.windows[list(indices)]  # (B, T)
        clips = self.single.pictures(windows.ravel()).unflatten(0, windows.shape)
        sound = () if self.single.sound is None else (self.single.sound[torch.from_numpy(windows)],)
        return list(zip(clips, *sound, self.labels[list(indices)].tolist(), strict=True))


class BalancedSampler(Sampler[int]):
    """Draws rows in proportion to their weights, afresh for each epoch, the same for the same seed and epoch.

    Systematic resampling (Kitagawa 1996): a row of weight w is drawn floor(n w) or ceil(n w) times in n draws, so an
    epoch sees as many different frames as the weights allow.

    Args:
        weights: float (rows,), summing to 1; see `hlkit.split.rebalance`.
        num_samples: draws in an epoch.
        seed: of all draws.
    """

    def __init__(self, weights: np.ndarray, num_samples: int, seed: int = 0) -> None:
        self.weights, self.num_samples, self.seed, self.epoch = weights, num_samples, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.weights))
        edges = np.cumsum(self.weights[order])
        points = (np.arange(self.num_samples) + rng.random()) / self.num_samples * edges[-1]
        drawn = order[np.searchsorted(edges, points, side="right").clip(max=len(order) - 1)]
        return iter(rng.permutation(drawn).tolist())


def augment_pictures(images: Tensor, generator: torch.Generator, *, light: bool = True) -> Tensor:
    """Flip, shift, and change contrast and brightness, drawn for each picture, or for each clip as a whole.

    Args:
        images: uint8 `(B, 3, H, W)` or `(B, T, 3, H, W)`, on any device.
        generator: on the CPU, so that the draws are the same on every device.
        light: False leaves contrast and brightness as they are, for classes that are about light.

    Returns:
        float32 in [0, 1], the same shape and device.
    """
    height, width = images.shape[-2:]
    count, repeats = len(images), images[0].numel() // (3 * height * width)

    def draw(limit: float) -> Tensor:
        values = (torch.rand(count, generator=generator) * 2 - 1) * limit
        return values.repeat_interleave(repeats).to(images.device)[:, None]

    flip, down, right = draw(1) < 0, draw(MAX_SHIFT * height).round().long(), draw(MAX_SHIFT * width).round().long()
    contrast, brightness = 1 + draw(MAX_CONTRAST), draw(MAX_BRIGHTNESS)
    rows = (torch.arange(height, device=images.device) + down).clamp(0, height - 1)  # (B * T, H)
    columns = (torch.arange(width, device=images.device) + right).clamp(0, width - 1)  # (B * T, W)
    columns = torch.where(flip, width - 1 - columns, columns)
    flat = images.reshape(-1, 3, height, width).permute(0, 2, 3, 1)  # (B * T, H, W, 3)
    which = torch.arange(len(flat), device=images.device)
    flat = flat[which[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2) / 255
    if light:
        flat = (flat - 0.5) * contrast[:, :, None, None] + 0.5 + brightness[:, :, None, None]
    return flat.clamp_(0, 1).reshape(images.shape)


class FrameDataModule(lightning.LightningDataModule):
    """Feeds training from a labelled and split table: training balanced and augmented, validation as it is, in order.

    Args:
        frames: a frame table with `label` and `part` ("train", "validation"; other parts are left out).
        root, size, cache: as for `FrameDataset`.
        batch_size: pictures (or clips) in a batch.
        positive_share: share of frames with a class above 0 among those drawn; None draws each frame once an epoch.
        num_frames_per_clip: None for single pictures, else the length of the clips.
        samples_per_epoch: draws in an epoch; as many as there are training frames unless given.
        num_workers: processes that read and decode; 0 where pictures or bytes are cached, which processes cannot share.
        seed: of draws and augmentation.
        augment: what is varied in training pictures.

    Raises:
        HlkitError: when a column or a part is missing.
    """

    def __init__(
        self,
        frames: pl.DataFrame,
        root: Path,
        *,
        batch_size: int = 64,
        positive_share: float | None = 0.3,
        num_frames_per_clip: int | None = None,
        size: int | None = None,
        samples_per_epoch: int | None = None,
        cache: Cache = "auto",
        num_workers: int = 0,
        seed: int = 0,
        augment: Augment = "all",
    ) -> None:
        super().__init__()
        if augment not in get_args(Augment):
            raise HlkitError(f"augment is '{augment}'; {', '.join(get_args(Augment))} are allowed.")
        self.batch_size, self.seed, self.augment = batch_size, seed, augment
        self.num_workers = num_workers
        options: dict[str, Any] = {"size": size, "cache": cache}
        if num_frames_per_clip is not None:
            options["num_frames_per_clip"] = num_frames_per_clip
        kind = FrameDataset if num_frames_per_clip is None else ClipDataset
        self.train_set = kind(_part(frames, "train"), root, **options)
        self.validation_set = kind(_part(frames, "validation"), root, **options)
        weights = rebalance(self.train_set.labels, positive_share)
        self.sampler = BalancedSampler(weights, samples_per_epoch or len(weights), seed)
        self._last_draw = (-1, 0)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of a balanced draw, another one each epoch."""
        # A last batch of one picture would leave batch normalisation nothing to average over.
        return self._loader(self.train_set, sampler=self.sampler, drop_last=len(self.sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation frame once, in the table's order."""
        return self._loader(self.validation_set)

    def _loader(self, dataset: FrameDataset | ClipDataset, **options: Any) -> DataLoader[Any]:
        workers = self.num_workers if dataset.cache == "none" else 0
        return DataLoader(dataset, batch_size=self.batch_size, num_workers=workers, **options)

    def state_dict(self) -> dict[str, Any]:
        """The epoch that follows; Lightning puts it in a checkpoint."""
        assert self.trainer is not None
        return {"next_epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draw of that epoch: Lightning tells the sampler only after it fetched the first batch."""
        self.sampler.set_epoch(state_dict["next_epoch"])

    def on_after_batch_transfer(self, batch: tuple[Tensor, ...], dataloader_idx: int) -> tuple[Tensor, ...]:
        """Augment training batches on the device where they are; Lightning calls it."""
        images, *others = batch
        if self.augment != "none" and self.trainer is not None and self.trainer.training:
            generator = self._next_generator(self.trainer.current_epoch)
            images = augment_pictures(images, generator, light=self.augment == "all")
        return images, *others

    def _next_generator(self, epoch: int) -> torch.Generator:
        """Random numbers that follow from the seed, the epoch and the batch's number in it, whatever ran before."""
        self._last_draw = (epoch, self._last_draw[1] + 1 if self._last_draw[0] == epoch else 0)
        state = np.random.SeedSequence((self.seed, *self._last_draw)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))


def _part(frames: pl.DataFrame, part: str) -> pl.DataFrame:
    if missing := {"label", "part"} - set(frames.columns):
        raise HlkitError(f"The frame table lacks {sorted(missing)}. Label it (label_frames), then split_frames it.")
    chosen = frames.filter(pl.col("part") == part)
    if chosen.is_empty():
        raise HlkitError(f"No frame of the table is in the {part} part; split_frames puts some there given two chunks.")
    return chosen


def _labels(frames: pl.DataFrame) -> np.ndarray:
    if "label" not in frames.columns:
        return np.full(len(frames), -1)
    return frames["label"].cast(pl.Int64).to_numpy()


def _fitting_cache(frames: pl.DataFrame, shape: tuple[int, ...]) -> Cache:
    room = psutil.virtual_memory().available * CACHE_SHARE_OF_FREE_RAM
    if len(frames) * shape[0] * shape[1] * 3 <= room:
        return "tensors"
    return "jpeg" if frames["size"].sum() <= room else "none"
