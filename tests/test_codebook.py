from __future__ import annotations

import numpy as np
import pytest

from hlkit.codebook import PATCH_SLICES, WORDS, Codebook, learn_codebook
from hlkit.project import HlkitError

BANDS, SLICES = 12, 6


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-60, 10, (frames, SLICES, BANDS)).astype(np.float16)


@pytest.fixture(scope="module")
def book():
    return learn_codebook([noise(800), noise(400, 1)])


def test_a_spectrum_of_other_bands_is_refused(book):
    with pytest.raises(HlkitError, match=r"\(5, 6, 11\) can't be told in words of 12 bands"):
        book.encode(noise(5, 2)[..., :11])


def test_shapes_lengths_and_ranges(book):
    assert book.words.shape[0] == WORDS
    assert book.num_features == 2 * WORDS
    np.testing.assert_allclose(np.linalg.norm(book.words, axis=1), 1, rtol=1e-4)
    heard = book.encode(noise(5, 2))
    assert (heard.shape, heard.dtype) == ((5, 2 * WORDS), np.float32)
    assert heard.min() >= 0
    assert heard.max() <= 0.7001
    assert (heard[:, :WORDS] >= heard[:, WORDS:]).all()


def test_a_word_is_told_by_its_shape_and_not_by_its_level():
    # One word: the first band louder than the rest, in every slice.
    shape = np.tile(np.eye(1, BANDS)[0] * 7 - 7 / BANDS, PATCH_SLICES).astype(np.float32)
    book = Codebook(np.zeros_like(shape), np.eye(len(shape), dtype=np.float32), shape[None] / np.linalg.norm(shape))
    spectrum = np.full((3, SLICES, BANDS), -60, dtype=np.float16)
    spectrum[0, :, 0], spectrum[1, :, 0], spectrum[1] = -40, -40, spectrum[1] - 20
    spectrum[1, :, 0] = -60
    heard = book.encode(spectrum)
    assert heard[0, 0] == pytest.approx(0.7, abs=1e-3)
    assert heard[1, 0] == pytest.approx(heard[0, 0], abs=1e-3)
    assert heard[2, 0] == 0


def test_the_same_seed_learns_the_same_and_blocks_do_not_matter(book):
    again = learn_codebook([noise(800), noise(400, 1)])
    np.testing.assert_array_equal(book.words, again.words)
    spectrum = noise(1100, 3)
    # Frames away from the ends see the same neighbours in a part of the recording.
    np.testing.assert_allclose(book.encode(spectrum)[501:600], book.encode(spectrum[500:601])[1:100], atol=1e-6)


def test_too_little_sound_is_refused():
    with pytest.raises(HlkitError, match="too little"):
        learn_codebook([noise(20)])


def test_no_sound_at_all_is_refused():
    with pytest.raises(HlkitError, match="no sound to learn from"):
        learn_codebook([])
