import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)
from spans_and_frames import recording
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

from hlkit.project import HlkitError
from hlkit.rankings import (
    auroc,
    average_precision,
    base_rate,
    bootstrap_interval,
    difference_interval,
    frame_metrics,
    precision_recall,
)
from hlkit.split import assign_chunks

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)

ranked = st.lists(st.tuples(st.booleans(), st.integers(-9, 9)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def test_average_precision_of_the_scikit_learn_handbook():
    # https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html
    assert average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(0.8333333333333333)


def test_average_precision_by_hand():
    assert average_precision([1, 1, 0], [3, 2, 1]) == 1
    assert average_precision([0, 0, 1], [3, 2, 1]) == pytest.approx(1 / 3)
    # 9: one of one. 5, twice: two of three. 1: nothing more.
    assert average_precision([1, 1, 0, 0], [9, 5, 5, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # The several classes of a wider model count as positive together.
    assert average_precision(pl.Series([2, 1, 0]), pl.Series([3, 2, 1])) == 1


@unhurried
@given(ranked)
def test_average_precision_agrees_with_scikit_learn_and_torchmetrics(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    ours = average_precision(labels, scores)
    assert ours == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    probabilities = torch.tensor((scores + 10) / 20)
    assert ours == pytest.approx(binary_average_precision(probabilities, torch.tensor(labels).int()).item(), abs=1e-5)


def test_auroc_by_hand():
    assert auroc([1, 1, 0], [3, 2, 1]) == 1
    assert auroc([0, 1], [2, 1]) == 0
    assert auroc([0, 1, 0], [5, 5, 5]) == 0.5
    # Of the pairs (8, 4), (8, 6), (6, 4) and (6, 6) three are in order and one is a tie.
    assert auroc([1, 1, 0, 0], [8, 6, 4, 6]) == 3.5 / 4
    # https://scikit-learn.org/stable/modules/generated/sklearn.metrics.roc_auc_score.html
    assert auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert auroc(pl.Series([2, 1, 0]), pl.Series([3, 2, 1])) == 1


@unhurried
@given(ranked)
def test_auroc_agrees_with_scikit_learn_and_torchmetrics(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    ours = auroc(labels, scores)
    assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    probabilities = torch.tensor((scores + 10) / 20)
    assert ours == pytest.approx(binary_auroc(probabilities, torch.tensor(labels).int()).item(), abs=1e-5)


@unhurried
@given(ranked)
def test_only_the_order_of_scores_counts(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    for measure in (average_precision, auroc):
        assert measure(labels, np.exp(scores / 3) - 50) == measure(labels, scores)
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores))
    assert auroc(~labels, scores) == pytest.approx(1 - auroc(labels, scores))
    assert auroc(labels, labels) == average_precision(labels, labels) == 1


def test_a_signal_that_knows_nothing_has_the_base_rate():
    labels = np.random.default_rng(0).random(1000) < 0.13
    assert average_precision(labels, np.zeros(1000)) == pytest.approx(base_rate(labels))
    random = [average_precision(labels, np.random.default_rng(seed).random(1000)) for seed in range(200)]
    assert np.mean(random) == pytest.approx(base_rate(labels), abs=0.01)


@unhurried
@given(ranked, st.integers(-10, 10))
def test_frame_metrics_agree_with_scikit_learn(pairs, threshold):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    found = frame_metrics(labels, scores, threshold=threshold)
    predicted = scores >= threshold
    expected = precision_recall_fscore_support(labels, predicted, average="binary", zero_division=0)[:3]
    assert found[:3] == pytest.approx(expected)
    tensors = torch.tensor(predicted).int(), torch.tensor(labels).int()
    assert found.f1 == pytest.approx(binary_f1_score(*tensors).item(), abs=1e-6)
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert found.base_rate == labels.mean()


def test_frame_metrics_by_hand_show_why_accuracy_is_not_enough():
    labels = [1] * 13 + [0] * 87
    assert frame_metrics(labels, [0.0] * 100) == (0, 0, 0, 0.87, 0.13)
    assert frame_metrics(labels, labels) == (1, 1, 1, 1, 0.13)
    assert frame_metrics([1, 0, 0, 1], [0.5, 0.6, 0.1, 0.4]) == (0.5, 0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [
        ([], [], "All 0 frames are background"),
        ([0, 0], [1, 2], "All 2 frames are background, so there is nothing to tell apart. Measure on video with both"),
        ([1, 1], [1, 2], "All 2 frames are highlights"),
        ([0, 1], [1, 2, 3], r"Labels \(2,\) and scores \(3,\) must be two rows of one length"),
        ([[0, 1]], [[1, 2]], "must be two rows"),
        ([0, 1], [1, math.nan], "scores are missing or infinite"),
        ([0, 1], [1, math.inf], "scores are missing or infinite"),
    ],
)
def test_what_cannot_be_ranked_says_why(labels, scores, reason):
    for measure in (average_precision, auroc, frame_metrics):
        with pytest.raises(HlkitError, match=reason):
            measure(labels, scores)


def test_base_rate_of_nothing_is_an_error():
    assert base_rate([0, 1, 0, 2]) == 0.5
    with pytest.raises(HlkitError, match="no labelled frames"):
        base_rate([])


def test_bootstrap_draws_whole_chunks_by_the_seed():
    frames, signal = recording()
    labels, chunks = frames["label"].to_numpy(), np.arange(frames.height) // 90
    low, high = bootstrap_interval(labels, signal, chunks)
    assert 0 < low < average_precision(labels, signal) < high < 1
    assert (low, high) == bootstrap_interval(labels, signal, chunks)
    assert (low, high) != bootstrap_interval(labels, signal, chunks, seed=1)
    narrow = bootstrap_interval(labels, signal, chunks, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    perfect = bootstrap_interval(labels, labels, chunks)
    assert perfect == (1, 1)


def test_bootstrap_agrees_with_repeated_rows():
    """A draw's AP equals that of a table in which the drawn chunks stand as often as they were drawn."""
    frames, signal = recording(seconds=120)
    labels, chunks = frames["label"].to_numpy(), np.arange(frames.height) // 90
    draws = np.random.default_rng(5).multinomial(4, [0.25] * 4, size=3)
    repeated = [np.repeat(np.arange(labels.size), draw[chunks]) for draw in draws]
    expected = np.quantile([average_precision_score(labels[rows], signal[rows]) for rows in repeated], [0.05, 0.95])
    assert bootstrap_interval(labels, signal, chunks, level=0.9, resamples=3, seed=5) == pytest.approx(tuple(expected))


def test_bootstrap_is_wider_than_frames_drawn_one_by_one():
    frames, _ = recording()
    labels = frames["label"].to_numpy()
    # Good in one half of the video, wrong in the other: the chunks differ far more than the frames of one chunk.
    signal = np.where(frames["time"].to_numpy() < 300, labels, 1 - labels)
    chunks = np.arange(labels.size) // 90
    low, high = bootstrap_interval(labels, signal, chunks, resamples=200)
    alone_low, alone_high = bootstrap_interval(labels, signal, np.arange(labels.size), resamples=200)
    assert high - low > 3 * (alone_high - alone_low)


@pytest.mark.parametrize(
    ("chunks", "options", "reason"),
    [
        ([0, 0, 0, 0], {}, r"No interval from 1 chunk\(s\) for 4 of 4 frames"),
        ([0, 1], {}, r"for 2 of 4 frames"),
        ([0, 0, 1, 1], {"level": 1.0}, "at level 1.0"),
        ([0, 0, 1, 1], {"resamples": 1}, "resamples is 1; an interval needs 2 draws or more"),
        ([0, 1, 0, 1], {"resamples": 2, "seed": 1}, "Too few draws of chunks hold both classes"),
    ],
)
def test_what_has_no_interval_says_why(chunks, options, reason):
    with pytest.raises(HlkitError, match=reason):
        bootstrap_interval([0, 1, 0, 1], [1, 2, 3, 4], chunks, **options)


@given(ranked)
def test_precision_recall_agrees_with_scikit_learn(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    theirs = [column[::-1] for column in precision_recall_curve(labels, scores)]
    precision, recall, thresholds = precision_recall(labels, scores)
    np.testing.assert_allclose(precision, theirs[0][1:])
    np.testing.assert_allclose(recall, theirs[1][1:])
    np.testing.assert_array_equal(thresholds, theirs[2])


def test_the_difference_of_a_signal_to_itself_is_none_and_to_an_oracle_is_sure():
    frames, signal = recording()
    labels, chunks = frames["label"].to_numpy(), assign_chunks(frames)["chunk"]
    assert difference_interval(labels, signal, signal, chunks, resamples=50) == (0, 0)
    low, high = difference_interval(labels, labels, signal, chunks, resamples=200)
    assert 0 < low < average_precision(labels, labels) - average_precision(labels, signal) < high
    theirs = difference_interval(labels, signal, labels, chunks, resamples=200)
    assert theirs == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda: bootstrap_interval([0, 1], [0.1, 0.2], []), r"No interval from 0 chunk\(s\) for 0 of 2 frames"),
        (lambda: bootstrap_interval([0, 1], [0.1, 0.2], [0, 1], resamples=-1), "resamples is -1; an interval needs 2"),
        (lambda: difference_interval([0, 1], [0, 1], [1, 0], [0, 1], resamples=1), "resamples is 1; "),
        (lambda: frame_metrics([0, 1], [0.1, 0.2], threshold=math.nan), "threshold is no number"),
        (lambda: average_precision([0, math.nan, 1], [1, 2, 3]), "Some labels are missing"),
        (lambda: auroc([0, None, 1], [1, 2, 3]), "Some labels are missing"),
        (lambda: base_rate(pl.Series([0, None, 1])), "Some labels are missing"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure, words):
    with pytest.raises(HlkitError, match=words):
        measure()
