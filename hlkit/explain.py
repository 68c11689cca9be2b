"""Why a model scored a frame as it did.

LIME hides random parts of the picture, scores each variant, and fits a linear model of the score on which parts were
shown; its weights say how much each part speaks for or against the class (Ribeiro et al. 2016,
https://arxiv.org/abs/1602.04938).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hlkit.charts import plain_text
from hlkit.frames import FrameReader
from hlkit.project import HlkitError, format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hlkit.models import Model, ModelConfig

# Okabe and Ito's vermillion and blue: apart for the colour-blind, and drawn solid and dashed for black and white.
FOR, AGAINST = "#D55E00", "#0072B2"

# With fewer variants than this the linear model has more unknowns than facts.
LEAST_SAMPLES = 100

# Weights below this share of the largest are mostly the noise of the sampling.
LEAST_LOUDNESS = 0.1

# In CIELAB distance a pixel: high enough that noisy pictures still fall into parts, low enough to follow objects.
COMPACTNESS = 20


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What spoke for and against one class in one picture.

    Attributes:
        picture: (H, W, 3) uint8 RGB, as the model saw it.
        segments: (H, W) int, the part of each pixel, from 0.
        weights: (parts,) float: by how much the probability rises when the part is shown and not hidden.
        class_name: the class that is explained.
        score: the model's probability of that class for the whole picture, 0 to 1.
        fit: R² of the linear model, at most 1. Below about 0.5 the weights say little.
    """

    picture: np.ndarray
    segments: np.ndarray
    weights: np.ndarray
    class_name: str
    score: float
    fit: float

    def __post_init__(self) -> None:
        if self.segments.shape != self.picture.shape[:2] or self.segments.max() != len(self.weights) - 1:
            shapes = f"picture {self.picture.shape}, segments {self.segments.shape}, {len(self.weights)} weights"
            raise HlkitError(f"An explanation's parts do not fit each other: {shapes}.")

    @property
    def heat(self) -> np.ndarray:
        """(H, W) float: the weight of the part that each pixel belongs to."""
        return self.weights[self.segments]

    def __repr__(self) -> str:
        height, width = self.segments.shape
        values = f"score={self.score:.3f}, fit={self.fit:.2f}"
        return f"Explanation({self.class_name!r}, {values}, {width}x{height} px, {len(self.weights)} parts)"


def explain_frame(
    model: Model,
    config: ModelConfig,
    picture: np.ndarray,
    *,
    clip: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    class_name: str | None = None,
    num_samples: int = 400,
    num_segments: int = 50,
    seed: int = 0,
    batch_size: int = 64,
) -> Explanation:
    """Explain one score with LIME. The same arguments give the same explanation.

    A clip model sees the same parts hidden in every frame; without `clip` its clip is the still picture repeated, so
    its score may differ from the one in motion.

    Args:
        model, config: as `load_model` gives them.
        picture: (H, W, 3) uint8 RGB; resized to the model's size where it differs.
        clip: (T, H, W, 3) uint8, the frames around `picture`, for a clip model.
        sound: float32 (W,), or (T, W) beside a clip: what is heard beside the picture, for a model that hears. It is
            never hidden; unless given it counts as unknown.
        class_name: the class to explain; None takes the highlight, or of several the most probable one.
        num_samples: how many variants to score, 100 or more.
        num_segments: into about how many parts the picture falls, 2 or more.
        seed: of the parts that are hidden.
        batch_size: pictures that go through the model at once.

    Raises:
        HlkitError: for a picture or clip of another shape or type, an unknown class, or too few samples or parts.
    """
    if num_samples < LEAST_SAMPLES or num_segments < 2:
        allowed = f"at least {LEAST_SAMPLES} samples and 2 segments are needed"
        raise HlkitError(f"num_samples is {num_samples} and num_segments {num_segments}; {allowed}.")
    frames = _checked(config, picture, clip)  # (T, H, W, 3)
    picture = frames[len(frames) // 2]
    segments = _segments(picture, num_segments)
    hidden = np.stack([_flat_parts(frame, segments) for frame in frames])

    def score_variants(shown: np.ndarray) -> np.ndarray:
        """Which parts are shown, (n, parts) bool -> probabilities (n, classes)."""
        mask = shown[:, segments][:, None, :, :, None]  # (n, 1, H, W, 1)
        return _probabilities(model, config, np.where(mask, frames, hidden), sound)  # (n, T, H, W, 3)

    whole = score_variants(np.ones((1, segments.max() + 1), dtype=bool))[0]
    index = _class_index(config.classes, class_name, whole)
    found = _explainer(seed).explain_instance(
        picture,
        score_variants,
        labels=(index,),
        top_labels=None,
        num_samples=num_samples,
        batch_size=max(1, batch_size // len(frames)),
        segmentation_fn=lambda _: segments,
    )
    weights = np.zeros(segments.max() + 1)
    for part, weight in found.local_exp[index]:
        weights[part] = weight
    return Explanation(picture, segments, weights, config.classes[index], float(whole[index]), float(found.score))


def lime_figure(explanation: Explanation, *, title: str = "", num_parts: int = 6) -> Figure:
    """Draw an explanation: the picture, its heat, and the `num_parts` parts that speak loudest for and against.

    Orange-red with a solid outline speaks for the class, blue with a dashed one against it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.3), layout="constrained")
    score = f"probability of {explanation.class_name}: {explanation.score:.2f}"
    figure.suptitle(plain_text(f"{title}   {score}" if title else score), fontweight="bold")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(explanation.picture)
    left.set_title("the picture")
    _draw_heat(figure, middle, explanation)
    _draw_parts(right, explanation, num_parts)
    for axis in (left, middle, right):
        axis.set_axis_off()
    return figure


def find_frame(frames: pl.DataFrame, *, video: str, time: float) -> dict[str, Any]:
    """The row of the frame on screen at `time` seconds: the last one that is not later.

    Raises:
        HlkitError: when the video has no frames, or none there.
    """
    rows = frames.filter(pl.col("video") == video).sort("time")
    if rows.is_empty():
        known = ", ".join(frames["video"].unique().sort()) or "none"
        raise HlkitError(f"There are no frames of the video '{video}'. Frames are stored of: {known}.")
    step = rows["time"].diff().median()
    # A millisecond of slack, because a time that was written down is rounded.
    past = rows.filter(pl.col("time").is_between(time - (step if isinstance(step, float) else 1.0), time + 1e-3))
    if past.is_empty():
        bounds = f"{format_time(rows['time'][0])} to {format_time(rows['time'][-1])}"
        raise HlkitError(f"'{video}' has no frame at {format_time(time, decimals=1)}; its frames go from {bounds}.")
    return past.row(-1, named=True)


def read_picture(reader: FrameReader, row: Mapping[str, Any]) -> np.ndarray:
    """The picture of one row of a frame table: (H, W, 3) uint8 RGB.

    Raises:
        HlkitError: when its shard is damaged or the picture cannot be decoded.
    """
    from PIL import Image

    data = reader.read(row["video"], row["shard"], row["offset"], row["size"])
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        place = f"{row['shard']} of '{row['video']}' at {format_time(row['time'], decimals=1)}"
        raise HlkitError(f"The picture in {place} is damaged ({error}). Make the frames again.") from error


def _checked(config: ModelConfig, picture: np.ndarray, clip: np.ndarray | None) -> np.ndarray:
    """The frames (T, size, size, 3) that the model is shown, T = 1 for a still picture."""
    if clip is not None and config.kind != "clip":
        raise HlkitError("A clip was given, but this model scores single frames; leave the clip out.")
    frames = picture[None] if clip is None else clip
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        what = "picture of shape (H, W, 3)" if clip is None else "clip of shape (T, H, W, 3)"
        raise HlkitError(
            f"A {what} and type uint8 is needed; this is {(picture if clip is None else clip).shape}, {frames.dtype}."
        )
    if frames.shape[1:3] == (config.size, config.size):
        return frames
    from PIL import Image

    side = (config.size, config.size)
    return np.stack([np.asarray(Image.fromarray(frame).resize(side, Image.Resampling.BILINEAR)) for frame in frames])


def _class_index(classes: Sequence[str], name: str | None, probabilities: np.ndarray) -> int:
    """Which class to explain; without a name the most probable one that is not the background."""
    if name is None:
        return 1 + int(np.argmax(probabilities[1:]))
    if name not in classes:
        raise HlkitError(f"The model has no class '{name}'. It has: {', '.join(classes)}.")
    return classes.index(name)


def _segments(picture: np.ndarray, num_segments: int) -> np.ndarray:
    """(H, W) int: parts of like colour, numbered from 0 without holes (SLIC, doi:10.1109/TPAMI.2012.120)."""
    from skimage.segmentation import slic

    labels = slic(picture, n_segments=num_segments, compactness=COMPACTNESS, sigma=1, start_label=0, channel_axis=-1)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _flat_parts(picture: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """`picture` with each part painted in its mean colour: what a hidden part looks like."""
    sizes = np.bincount(segments.ravel())
    sums = [np.bincount(segments.ravel(), weights=picture[..., channel].ravel()) for channel in range(3)]
    return np.round(np.stack(sums, axis=-1) / sizes[:, None]).astype(np.uint8)[segments]


def _probabilities(model: Model, config: ModelConfig, frames: np.ndarray, sound: np.ndarray | None) -> np.ndarray:
    """Frames (n, T, H, W, 3) uint8 and the sound (T, W) or (W,) of all of them -> probabilities (n, classes).

    One frame stands for a whole still clip.
    """
    import torch

    from hlkit.device import autocast
    from hlkit.models import RNNClassifier

    device = next(model.parameters()).device
    images = torch.from_numpy(frames).to(device).permute(0, 1, 4, 2, 3)  # (n, T, 3, H, W)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(device):
            levels = None
            if sound is not None:
                levels = torch.from_numpy(sound).to(device).expand(*images.shape[:2], -1).flatten(0, 1)  # (n * T, W)
            if isinstance(model, RNNClassifier):
                features = model.join(model.features(images.flatten(0, 1)), levels).unflatten(0, images.shape[:2])
                if features.shape[1] == 1:
                    features = features.expand(-1, config.num_frames_per_clip, -1)
                logits = model.classify(features)  # (n, T, F + W)
            else:
                logits = model(images[:, 0]) if levels is None else model(images[:, 0], levels)
            return logits.float().softmax(dim=1).cpu().numpy()
    finally:
        model.train(was_training)


def _explainer(seed: int) -> Any:
    """LIME's explainer with its sampling replaced; its classifier takes which parts are shown, (n, parts) bool.

    lime 0.2.0.1 masks one picture at a time under a progress bar that cannot be switched off, and knows no clips.
    """
    from lime.lime_image import LimeImageExplainer

    class Explainer(LimeImageExplainer):
        def data_labels(
            self,
            image: np.ndarray,
            fudged_image: np.ndarray,
            segments: np.ndarray,
            classifier_fn: Callable[[np.ndarray], np.ndarray],
            num_samples: int,
            batch_size: int = 10,
        ) -> tuple[np.ndarray, np.ndarray]:
            shown = self.random_state.randint(0, 2, (num_samples, segments.max() + 1)).astype(bool)
            shown[0] = True  # LIME takes the first row for the unchanged picture
            batches = [shown[start : start + batch_size] for start in range(0, num_samples, batch_size)]
            return shown.astype(int), np.concatenate([classifier_fn(batch) for batch in batches])

    return Explainer(feature_selection="none", random_state=seed)


def _draw_heat(figure: Figure, axis: Axes, explanation: Explanation) -> None:
    """The weights as a colour over the grey picture, with their scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.ticker import MaxNLocator

    limit = max(float(np.abs(explanation.weights).max()), 1e-6)
    grey = explanation.picture.mean(axis=2)
    axis.imshow(grey, cmap="gray", vmin=-255, vmax=255)  # the lighter half of the scale leaves room for colour
    colours = LinearSegmentedColormap.from_list("against-for", [AGAINST, "white", FOR])
    opacity = 0.75 * np.abs(explanation.heat) / limit
    axis.imshow(explanation.heat, cmap=colours, vmin=-limit, vmax=limit, alpha=opacity)
    axis.set_title("what each part does")
    opaque = ScalarMappable(Normalize(-limit, limit), colours)
    scale = figure.colorbar(opaque, ax=axis, orientation="horizontal", shrink=0.85, pad=0.02, ticks=MaxNLocator(5))
    fit = f"{max(explanation.fit, 0):.0%}"
    scale.set_label(f"change of the probability when shown\n(the linear model explains {fit} of it)", fontsize="small")


def _draw_parts(axis: Axes, explanation: Explanation, num_parts: int) -> None:
    """The loudest parts in full light, outlined and with their weights; the rest dimmed."""
    from matplotlib.patheffects import withStroke

    weights, loudness = explanation.weights, np.abs(explanation.weights)
    audible = (loudness > 0) & (loudness >= LEAST_LOUDNESS * loudness.max())
    loudest = [part for part in np.argsort(-loudness, kind="stable")[:num_parts] if audible[part]]
    decimals = _decimals(float(loudness.max()))
    lit = np.isin(explanation.segments, loudest)
    axis.imshow(np.where(lit[..., None], explanation.picture, explanation.picture // 4 + 20))
    for part in loudest:
        colour, style = (FOR, "solid") if weights[part] > 0 else (AGAINST, "dashed")
        mask = explanation.segments == part
        rows, columns = np.nonzero(mask)
        # A rim of zeros closes the outline of a part at the picture's edge.
        axis.contour(
            np.arange(-1, mask.shape[1] + 1),
            np.arange(-1, mask.shape[0] + 1),
            np.pad(mask, 1),
            levels=[0.5],
            colors=[colour],
            linestyles=style,
            linewidths=2,
        )
        weight = f"{weights[part]:+.{decimals}f}"
        text = axis.text(columns.mean(), rows.mean(), weight, ha="center", va="center", color="white")
        text.set(fontsize="small", path_effects=[withStroke(linewidth=2.5, foreground="black")])
    axis.set_title("strongest: for (solid), against (dashed)")


def _decimals(largest: float) -> int:
    """How many decimals show two digits of the largest weight, so that a small one is not written as 0.00."""
    return 2 if largest <= 0 else min(max(2, 1 - math.floor(math.log10(largest))), 6)
