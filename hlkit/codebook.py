"""Sound words: a small dictionary of the sounds of a recording, learned without labels, and how much of each is heard.

Spherical k-means on whitened log-mel patches (Coates and Ng 2012, "Learning feature representations with k-means";
for sound: Salamon and Bello 2015, "Unsupervised feature learning for urban sound classification"). Each patch has its
own level and contrast taken out, so a word is heard near and far alike. Labels play no part, so nothing leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hlkit.project import HlkitError
from hlkit.sound import SLICES_PER_SECOND

WORDS = 256
# Three slices, 83 ms: the attack of a shot, a syllable.
PATCH_SLICES = 3
PATCH_FEATURES = 30
# Added to a patch's spread, dB: so that near-silence is not blown up to full contrast.
LEAST_CONTRAST = 2.0
# The cosine from which on a patch counts as a word.
LEAST_LIKENESS = 0.3
# Patches that a recording lends to the dictionary, and the quietest share of them that lends none.
MOST_PATCHES = 20_000
QUIET_SHARE = 0.2
FRAMES_PER_BLOCK = 512


class TooLittleSoundError(HlkitError):
    """There is less sound than there are words to learn."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """The dictionary: `encode` counts its words.

    Attributes:
        mean: f32 (P,), of the patches, P = PATCH_SLICES * bands.
        whitening: f32 (P, PATCH_FEATURES).
        words: f32 (WORDS, PATCH_FEATURES), each of length 1.
    """

    mean: np.ndarray
    whitening: np.ndarray
    words: np.ndarray

    def __post_init__(self) -> None:
        shapes = [each.shape for each in (self.mean, self.whitening, self.words)]
        width = PATCH_SLICES * (len(self.mean) // PATCH_SLICES) if self.mean.ndim == 1 else 0
        features = self.whitening.shape[-1] if self.whitening.ndim == 2 else 0
        if not width or shapes != [(width,), (width, features), (len(self.words), features)] or not self.words.size:
            raise HlkitError(
                f"Sound words of shapes {', '.join(map(str, shapes))} don't fit together; allowed are (P,), (P, F) and "
                f"(words, F), P a multiple of {PATCH_SLICES}. Train again: `hlkit train --redo`."
            )

    @property
    def num_features(self) -> int:
        """Width of what `encode` returns."""
        return 2 * len(self.words)

    def encode(self, spectrum: np.ndarray) -> np.ndarray:
        """How much of each word is in each frame.

        Args:
            spectrum: dB (frames, slices, bands), see `hlkit.sound.log_mel`.

        Returns:
            float32 (frames, 2 * words): for each word its strongest match in the frame, then its mean, 0 to 0.7.

        Raises:
            HlkitError: for a spectrum of other bands than the words were learned from.
        """
        bands = len(self.mean) // PATCH_SLICES
        if spectrum.ndim != 3 or spectrum.shape[2] != bands:
            raise HlkitError(
                f"A spectrum {spectrum.shape} can't be told in words of {bands} bands; allowed is (frames, slices, "
                f"{bands}). Make it again (in a project: delete `signals/<video>`), or train again."
            )
        frames, slices, _ = spectrum.shape
        out = np.empty((frames, self.num_features), dtype=np.float32)
        for start in range(0, frames, FRAMES_PER_BLOCK):
            stop = min(start + FRAMES_PER_BLOCK, frames)
            likeness = _directions(_patches(spectrum, start, stop), self.mean, self.whitening) @ self.words.T
            heard = np.maximum(likeness - LEAST_LIKENESS, 0).reshape(stop - start, slices, -1)
            out[start:stop] = np.concatenate([heard.max(1), heard.mean(1)], axis=1)
        return out


def learn_codebook(spectra: Sequence[np.ndarray], *, seed: int = 0) -> Codebook:
    """Learn the words of some recordings.

    Args:
        spectra: of each recording its dB (frames, slices, bands).
        seed: of the draw of patches and the first words.

    Raises:
        TooLittleSoundError: when there is no sound, or less than words.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    if not spectra:
        raise HlkitError("There is no sound to learn from. Give the spectrum of one recording or more.")
    rng = np.random.default_rng(seed)
    patches = np.concatenate([_loud_patches(spectrum, rng) for spectrum in spectra])
    if len(patches) < 2 * WORDS:
        raise TooLittleSoundError(
            f"There are {len(patches) / SLICES_PER_SECOND:.0f} s of it that are not quiet, too little to learn {WORDS} "
            "sounds from. Add more video."
        )
    pca = PCA(PATCH_FEATURES, whiten=True, random_state=seed).fit(_flattened(patches))
    whitening = (pca.components_ / np.sqrt(pca.explained_variance_)[:, None]).T.astype(np.float32)
    mean = pca.mean_.astype(np.float32)
    points = _directions(patches, mean, whitening)
    words = MiniBatchKMeans(WORDS, batch_size=4096, random_state=seed, n_init=2).fit(points).cluster_centers_  # pyright: ignore[reportArgumentType]
    words /= np.linalg.norm(words, axis=1, keepdims=True) + 1e-6
    return Codebook(mean, whitening, words.astype(np.float32))


def _patches(spectrum: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The patch around each slice of some frames, float32 (slices, P); the outer ones stand for what is beyond."""
    slices, bands = spectrum.shape[1:]
    before = PATCH_SLICES // 2
    places = np.arange(start * slices, stop * slices)[:, None] + np.arange(PATCH_SLICES) - before
    flat = spectrum.reshape(-1, bands)
    return flat[places.clip(0, len(flat) - 1)].reshape(len(places), -1).astype(np.float32)


def _loud_patches(spectrum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = len(spectrum)
    frames = np.sort(rng.permutation(count)[: max(1, MOST_PATCHES // spectrum.shape[1])])
    patches = np.concatenate([_patches(spectrum, int(frame), int(frame) + 1) for frame in frames])
    level = patches.mean(axis=1)
    return patches[level > np.quantile(level, QUIET_SHARE)]


def _flattened(patches: np.ndarray) -> np.ndarray:
    """Patches less their level, over their contrast."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    return centred / (patches.std(axis=1, keepdims=True) + LEAST_CONTRAST)


def _directions(patches: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Whitened patches, each of length 1."""
    points = (_flattened(patches) - mean) @ whitening
    return points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-6)
