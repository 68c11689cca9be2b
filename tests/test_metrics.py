import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from hlkit.labels import SPAN_SCHEMA
from hlkit.metrics import (
    auroc,
    average_precision,
    base_rate,
    bootstrap_interval,
    difference_interval,
    event_scores,
    events_hit,
    events_in_top_seconds,
    frame_metrics,
    hit_at,
    precision_at,
    scorecard,
    threshold_for_precision,
    top_frames,
)
from hlkit.project import HlkitError
from hlkit.split import assign_chunks

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)

ranked = st.lists(st.tuples(st.booleans(), st.integers(-9, 9)), min_size=2, max_size=60).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def spans(*rows, video="a"):
    return pl.DataFrame([(video, *row, "highlight") for row in rows], schema=SPAN_SCHEMA, orient="row")


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
    for measure in (average_precision, frame_metrics):
        with pytest.raises(HlkitError, match=reason):
            measure(labels, scores)


def test_base_rate_of_nothing_is_an_error():
    assert base_rate([0, 1, 0, 2]) == 0.5
    with pytest.raises(HlkitError, match="no labelled frames"):
        base_rate([])


def test_event_scores_by_hand():
    true = spans((0, 10), (20, 30), (40, 50))
    assert event_scores(true, true) == (1, 1, 1)
    assert event_scores(spans(), true) == (0, 0, 0)
    assert event_scores(true, spans()) == (0, 0, 0)
    assert event_scores(spans(), spans()) == (0, 0, 0)
    # tIoU 5 / 10, 4 / 16 and none.
    predicted = spans((0, 5), (26, 36), (60, 70), (80, 90))
    assert event_scores(predicted, true) == pytest.approx((1 / 4, 1 / 3, 2 / 7))
    assert event_scores(predicted, true, tiou=0.25) == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert event_scores(predicted, true.with_columns(video=pl.lit("b"))) == (0, 0, 0)


def test_an_event_is_matched_once_and_the_best_pair_first():
    # Both predictions overlap the one event; and one prediction may not find two events.
    assert event_scores(spans((0, 6), (4, 10)), spans((0, 10))) == pytest.approx((0.5, 1, 2 / 3))
    assert event_scores(spans((0, 10)), spans((0, 5), (5, 10)), tiou=0.5) == pytest.approx((1, 0.5, 2 / 3))
    # (2, 12) fits (2, 10) best with 8 / 10; (0, 10) is then left with (0, 9).
    assert event_scores(spans((2, 12), (0, 9)), spans((0, 10), (2, 10)), tiou=0.8) == (1, 1, 1)


def test_half_of_an_event_with_rounded_times_counts():
    # 0.1 * 3 - 0.1 is 0.20000000000000004, and 0.1 * 2 - 0.1 is a little less than half of that.
    true = spans((0.1, 0.1 * 3))
    assert event_scores(spans((0.1, 0.1 * 2)), true) == (1, 1, 1)
    assert events_hit(spans((0.1, 0.1 * 2)), true) == (1, 1)


def test_events_hit_by_hand():
    true = spans((0, 10), (20, 30), (40, 50))
    assert events_hit(spans((5, 22)), true) == (1, 3)
    assert events_hit(spans((5.1, 22)), true) == (0, 3)
    # Two pieces together, overlapping ones not twice.
    assert events_hit(spans((0, 3), (7, 10), (20, 24), (21, 24)), true) == (1, 3)
    assert events_hit(spans((0, 100)), true) == (3, 3)
    assert events_hit(spans((5, 22)), true, share=0.2) == (2, 3)
    assert events_hit(spans(), true) == (0, 3)
    assert events_hit(true, spans()) == (0, 0)
    assert events_hit(true, pl.concat([true, spans((0, 10), video="b")])) == (3, 4)
    assert events_hit(spans((0, 100)), true).hit == 3
    for wrong in (0, 1.1):
        with pytest.raises(HlkitError, match="is not allowed; give a share above 0 and at most 1"):
            events_hit(true, true, share=wrong)
        with pytest.raises(HlkitError, match="tiou="):
            event_scores(true, true, tiou=wrong)


def recording(seconds=600, seed=0):
    """Frames at 3 a second with a highlight of 10 s in every 50 s, and a noisy signal that follows it."""
    time = np.arange(seconds * 3) / 3
    labels = (time % 50 < 10).astype(np.int8)
    signal = labels + np.random.default_rng(seed).normal(0, 1, time.size)
    return pl.DataFrame({"video": ["a"] * time.size, "time": time, "label": labels}), signal


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
        ([0, 0, 1, 1], {"resamples": 1}, "Too few draws of chunks hold both classes"),
    ],
)
def test_what_has_no_interval_says_why(chunks, options, reason):
    with pytest.raises(HlkitError, match=reason):
        bootstrap_interval([0, 1, 0, 1], [1, 2, 3, 4], chunks, **options)


def test_scorecard_sets_signals_beside_random():
    frames, signal = recording()
    labels = frames["label"].to_numpy()
    deaf = np.full(labels.size, math.nan)
    card = scorecard(frames, {"model": signal, "oracle": labels, "loudness": deaf}, resamples=100)
    assert card.columns == ["name", "ap", "ap_smoothed", "low", "high", "auroc", "precision"]
    assert card["name"].to_list() == ["model", "oracle", "loudness", "random"]
    model, oracle, loudness, random = card.rows(named=True)
    assert model["ap"] == pytest.approx(average_precision_score(labels, signal))
    assert model["ap"] < model["ap_smoothed"]
    smoothed = np.array([signal[max(0, i - 7) : i + 8].mean() for i in range(labels.size)])
    assert model["ap_smoothed"] == pytest.approx(average_precision_score(labels, smoothed), abs=1e-4)
    assert model["low"] < model["ap_smoothed"] < model["high"]
    assert oracle["ap"] == 1
    assert list(loudness.values()) == ["loudness", *[None] * 6]
    assert model["auroc"] == pytest.approx(roc_auc_score(labels, signal))
    assert (oracle["auroc"], oracle["precision"]) == (1, 1)
    assert (random["auroc"], random["precision"]) == (0.5, pytest.approx(0.2))
    assert random["ap"] == random["ap_smoothed"] == pytest.approx(0.2)
    assert random["low"] < 0.2 < random["high"]
    assert card.equals(scorecard(frames, {"model": signal, "oracle": labels, "loudness": deaf}, resamples=100))


def test_scorecard_refuses_a_signal_of_another_length():
    frames, signal = recording()
    with pytest.raises(HlkitError, match="must be two rows of one length"):
        scorecard(frames, {"model": signal[1:]})


@given(ranked)
def test_auroc_agrees_with_scikit_learn_and_torchmetrics(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    chances = torch.tensor((scores + 9) / 18, dtype=torch.float64)
    assert auroc(labels, scores) == pytest.approx(float(binary_auroc(chances, torch.tensor(labels).long())), abs=1e-6)


def test_auroc_by_hand():
    assert auroc([1, 0], [2, 1]) == 1
    assert auroc([1, 0], [1, 1]) == 0.5
    # The positives at 3 and 1 outscore the negatives at 2 and 1 in 2 + 0.5 of 4 pairs.
    assert auroc([1, 0, 1, 0], [3, 2, 1, 1]) == 2.5 / 4


def test_the_top_frames_are_as_many_as_asked_for():
    assert top_frames([1, 3, 3, 2], 2).tolist() == [False, True, True, False]
    assert top_frames([1, 1, 1], 2).tolist() == [True, True, False]
    assert not top_frames([1, 2], 0).any()
    assert precision_at([1, 0, 1, 0], [4, 3, 2, 1], 3) == 2 / 3
    with pytest.raises(HlkitError, match="5 of 4 frames"):
        precision_at([1, 0, 1, 0], [4, 3, 2, 1], 5)


def test_events_in_a_reel_of_the_best_seconds():
    frames = pl.DataFrame(
        {"video": ["a"] * 12, "time": np.arange(12) / 2, "label": [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]}
    )
    true = spans((1, 2), (4, 6))
    # Six frames are true. The best six hold frames 2, 3 of the first event and 8, 9 of the second: half of it.
    scores = [0, 0, 9, 9, 8, 8, 0, 0, 7, 7, 1, 1]
    assert events_in_top_seconds(frames, scores, true) == (2, 2)
    assert events_in_top_seconds(frames, scores, true, share=0.6) == (1, 2)
    assert events_in_top_seconds(frames, scores, true, seconds=2) == (1, 2)
    assert events_in_top_seconds(frames, frames["label"], true) == (2, 2)
    assert events_in_top_seconds(frames, scores, spans((1, 2), (50, 60))) == (1, 1)


def test_hit_at_k_by_hand():
    true = [[10, 20], [50, 55]]
    assert hit_at([12, 30, 47], true, 1) == 1
    assert hit_at([12, 30, 47], true, 3) == 2 / 3
    assert hit_at([12, 30, 47], true, 3, tolerance_seconds=0) == 1 / 3
    assert hit_at([12], true, 4) == 1 / 4
    assert hit_at([], true, 2) == 0
    assert hit_at([12], np.empty((0, 2)), 1) == 0


def test_the_threshold_for_a_precision():
    labels, scores = [1, 0, 1, 0], [0.9, 0.7, 0.7, 0.1]
    assert threshold_for_precision(labels, scores, 1) == 0.9
    assert threshold_for_precision(labels, scores, 0.6) == 0.7
    assert threshold_for_precision(labels, scores, 0.5) == 0.1
    with pytest.raises(HlkitError, match=r"the best has 0\.50"):
        threshold_for_precision([0, 1], [2, 1], 0.9)


@given(ranked, st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_a_threshold_keeps_its_promise_and_is_the_lowest(pairs, precision):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    good = [value for value in set(scores.tolist()) if labels[scores >= value].mean() >= precision]
    if good:
        assert threshold_for_precision(labels, scores, precision) == min(good)


def test_the_difference_of_a_signal_to_itself_is_none_and_to_an_oracle_is_sure():
    frames, signal = recording()
    labels, chunks = frames["label"].to_numpy(), assign_chunks(frames)["chunk"]
    assert difference_interval(labels, signal, signal, chunks, resamples=50) == (0, 0)
    low, high = difference_interval(labels, labels, signal, chunks, resamples=200)
    assert 0 < low < average_precision(labels, labels) - average_precision(labels, signal) < high
    theirs = difference_interval(labels, signal, labels, chunks, resamples=200)
    assert theirs == pytest.approx((-high, -low))
