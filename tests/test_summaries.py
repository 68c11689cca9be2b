from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.project import HlkitError
from hlkit.summaries import clip_scores, hit_at_1, human_agreement, rank_agreement, segment_map

TVSUM = Path(__file__).parents[2] / "shared" / "eval" / "tvsum" / "ydata-tvsum50.mat"


def test_identity_reverse_and_a_hand_worked_case():
    assert rank_agreement([1, 2, 3, 4], [[10, 20, 30, 40]]) == (1, 1)
    assert rank_agreement([4, 3, 2, 1], [[10, 20, 30, 40]]) == (-1, -1)
    # Of the six pairs five agree: (5 - 1) / 6; the ranks differ by 1 twice: 1 - 6 * 2 / (4 * 15).
    assert rank_agreement([1, 2, 4, 3], [[1, 2, 3, 4]]) == pytest.approx((4 / 6, 0.8))


def test_the_two_conventions_differ():
    annotations = [[1, 2, 3, 4], [4, 3, 2, 9]]
    pairwise = rank_agreement([1, 2, 3, 4], annotations)
    # Against the second annotator three of six pairs agree: tau 0; the mean (2.5, 2.5, 2.5, 6.5) has three ties.
    assert pairwise.kendall == pytest.approx((1 + 0) / 2)
    mean = rank_agreement([1, 2, 3, 4], annotations, convention="mean")
    assert mean.kendall == pytest.approx(3 / np.sqrt(6 * 3))


def test_people_are_judged_by_the_others():
    table = np.array([[1, 2, 3], [1, 3, 2], [3, 2, 1]])
    # Pairs of people: 1/3, -1, -1/3; each counts once from either side.
    assert human_agreement(table).kendall == pytest.approx((1 / 3 - 1 - 1 / 3) / 3)
    with pytest.raises(HlkitError, match="two annotators"):
        human_agreement(table[:1])


@given(st.lists(st.integers(0, 5), min_size=3, max_size=12), st.floats(0.1, 5), st.floats(-3, 3))
def test_rank_agreement_is_of_ranks_alone(values, factor, shift):
    rng = np.random.default_rng(0)
    others = rng.normal(size=(3, len(values)))
    ours = np.array(values, dtype=float)
    np.testing.assert_allclose(rank_agreement(ours * factor + shift, others), rank_agreement(ours, others), atol=1e-12)


def test_hit_at_1_and_map_by_hand():
    ratings = [[4, 0, 4, 1], [0, 4, 0, 0], [4, 4, 4, 4]]
    assert hit_at_1([0.9, 0.1, 0.5, 0.2], ratings) == pytest.approx(2 / 3)
    # First annotator: positives at ranks 1 and 2. Second: its positive is last of four. The third tells nothing apart.
    assert segment_map([0.9, 0.1, 0.5, 0.2], ratings) == pytest.approx((1 + 1 / 4) / 2)
    with pytest.raises(HlkitError, match="no mAP"):
        segment_map([1, 2], [[0, 0]])


def test_clips_are_means_and_the_last_may_be_short():
    np.testing.assert_allclose(clip_scores([1, 3, 5, 7, 9], frames_per_clip=2), [2, 6, 9])


def test_equal_scores_have_no_rank():
    assert np.isnan(rank_agreement([1, 1, 1], [[1, 2, 3]])).all()


@pytest.mark.parametrize(
    ("scores", "annotations", "words"),
    [([1], [[1]], "do not fit"), ([1, 2], [[1, 2, 3]], "do not fit"), ([1, np.nan], [[1, 2]], "missing")],
)
def test_malformed(scores, annotations, words):
    with pytest.raises(HlkitError, match=words):
        rank_agreement(scores, annotations)


@pytest.mark.skipif(not TVSUM.is_file(), reason="the TVSum annotations are not here")
def test_the_published_human_figure():
    """Otani and others 2019: 0.177 and 0.204; as in their evaluation on every 15th frame."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(TVSUM) as file:
        videos = [np.array(file[reference[0]])[:, ::15] for reference in file["tvsum50"]["user_anno"]]
    assert len(videos) == 50
    pairwise = np.mean([human_agreement(video) for video in videos], axis=0)
    assert pairwise == pytest.approx([0.177, 0.204], abs=5e-4)
    mean = np.mean([human_agreement(video, convention="mean") for video in videos], axis=0)
    assert mean == pytest.approx([0.314, 0.396], abs=5e-4)
