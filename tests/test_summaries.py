"""Agreement with annotators, by hand and against the published figures, and the measures of QVHighlights."""

from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import precision_recall_curve

from hlkit.project import HlkitError, HlkitWarning
from hlkit.rankings import average_precision
from hlkit.summaries import (
    clip_scores,
    highlight_detection,
    human_correlation,
    interpolated_precision,
    rank_correlation,
)

TVSUM = Path(__file__).parent.parent.parent / "shared" / "eval" / "tvsum" / "ydata-tvsum50.mat"

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)


def same_length(size):
    return st.tuples(*(st.lists(st.integers(0, 4), min_size=size, max_size=size) for _ in range(2)))


pairs = st.integers(2, 12).flatmap(same_length)


def tau_b(one, other):
    """Kendall's tau-b as it is defined: pairs in the same order less pairs in the other, over pairs without ties."""
    signs = [(np.sign(one[i] - one[j]), np.sign(other[i] - other[j])) for i, j in combinations(range(len(one)), 2)]
    ours, theirs = np.array(signs).T
    return (ours * theirs).sum() / np.sqrt((ours != 0).sum() * (theirs != 0).sum())


def test_rank_correlation_by_hand():
    assert rank_correlation([1, 2, 3, 4], [[10, 20, 30, 40]]) == pytest.approx((1, 1))
    assert rank_correlation([4, 3, 2, 1], [[10, 20, 30, 40]]) == pytest.approx((-1, -1))
    # One of the six pairs is in the other order; the squared distances of the ranks are 1 and 1.
    assert rank_correlation([1, 2, 4, 3], [[1, 2, 3, 4]]) == pytest.approx((4 / 6, 1 - 6 * 2 / (4 * 15)))
    # Of three pairs two are in order and one is a tie on one side: 2 / sqrt(2 * 3). Ranks 1.5, 1.5, 3 and 1, 2, 3.
    assert rank_correlation([1, 1, 2], [[1, 2, 3]]) == pytest.approx((2 / 6**0.5, 1.5 / 3**0.5))


def test_each_annotator_and_their_mean_are_two_conventions():
    people = [[1, 2, 3], [3, 2, 1], [1, 5, 9]]
    each = rank_correlation([1, 2, 3], people)
    mean = rank_correlation([1, 2, 3], people, against="mean")
    assert each == pytest.approx((1 / 3, 1 / 3))
    # The mean is 5 / 3, 3, 13 / 3.
    assert mean == pytest.approx((1, 1))


def test_humans_are_judged_by_the_others_alone():
    people = [[1, 2, 3], [1, 2, 3], [3, 2, 1]]
    # Pairs 1, -1 and -1.
    assert human_correlation(people) == pytest.approx((-1 / 3, -1 / 3))
    # The third against 1, 2, 3: -1. The first two against 2, 2, 2, which has no order: 0.
    assert human_correlation(people, against="mean") == pytest.approx((-1 / 3, -1 / 3))
    assert human_correlation([[1, 2, 3]] * 4) == human_correlation([[1, 2, 3]] * 4, against="mean")
    assert human_correlation([[1, 2, 3]] * 4) == pytest.approx((1, 1))
    # With five who agree and one who does not, the one is against all, and each of the five with nearly all.
    odd = [[1, 2, 3]] * 5 + [[3, 2, 1]]
    assert human_correlation(odd) == pytest.approx(((10 - 5) / 15,) * 2)
    assert human_correlation(odd, against="mean") == pytest.approx(((5 - 1) / 6,) * 2)


@unhurried
@given(pairs)
def test_rank_correlation_agrees_with_the_definitions(columns):
    one, other = map(np.array, columns)
    if len(set(other)) == 1:
        with pytest.raises(HlkitError, match="None of 1 annotators prefers any frame"):
            rank_correlation(one, [other])
        return
    found = rank_correlation(one, [other])
    assert -1 - 1e-9 <= min(found) <= max(found) <= 1 + 1e-9
    if len(set(one)) == 1:
        assert found == (0, 0)
        return
    assert found.kendall == pytest.approx(tau_b(one, other))
    assert found.spearman == pytest.approx(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
    assert rank_correlation(-one, [other]) == pytest.approx((-found.kendall, -found.spearman))
    assert rank_correlation(np.exp(one), [other, other], against="mean") == pytest.approx(tuple(found))
    assert human_correlation([one, other]) == pytest.approx(tuple(found))


def test_an_annotator_without_an_order_is_left_out_and_said_so():
    with pytest.warns(HlkitWarning, match="1 of 3 annotators gave every frame the same score, which has no order"):
        found = rank_correlation([1, 2, 3], [[1, 2, 3], [5, 5, 5], [1, 2, 3]])
    assert found == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("importance", "annotators", "reason"),
    [
        ([1, 2, 3], [[1, 2]], r"Importance \(3,\) must be 2 finite numbers"),
        ([1, np.nan], [[1, 2]], "Importance"),
        ([1, 2], [1, 2], r"Annotators \(2,\) must be finite numbers \(annotators, frames\)"),
        ([1], [[1]], "two frames or more"),
        ([], [[]], "two frames or more"),
        ([1, 2], [[1, np.inf]], "Annotators"),
        ([1, 2], np.zeros((0, 2)), "None of 0 annotators"),
        ([1, 2], [[3, 3], [4, 4]], "None of 2 annotators prefers any frame"),
    ],
)
def test_what_has_no_rank_correlation_says_why(importance, annotators, reason):
    with pytest.raises(HlkitError, match=reason):
        rank_correlation(importance, annotators)


def test_one_annotator_has_nobody_to_agree_with():
    with pytest.raises(HlkitError, match="1 annotator can't agree with another"):
        human_correlation([[1, 2, 3]])


def human_figures(*, every, against="each"):
    """Mean over the 50 videos of TVSum, every so many frames."""
    if not TVSUM.is_file():
        pytest.skip("shared/eval/tvsum is not beside the checkout")
    h5py = pytest.importorskip("h5py")
    with h5py.File(TVSUM) as file:
        videos = [file[reference][:, ::every] for reference in file["tvsum50/user_anno"][:].ravel()]
    assert len(videos) == 50
    assert {len(annotators) for annotators in videos} == {20}
    return np.mean([human_correlation(annotators, against=against) for annotators in videos], axis=0)


def test_the_published_human_figures():
    """Otani and others 2019, table 2: 0.177 and 0.204."""
    tau, rho = human_figures(every=15)
    assert (round(tau, 3), round(rho, 3)) == (0.177, 0.204)


def test_against_the_mean_the_same_people_have_other_figures():
    tau, rho = human_figures(every=15, against="mean")
    assert (round(tau, 3), round(rho, 3)) == (0.314, 0.396)


@pytest.mark.slow
def test_the_published_human_figures_of_all_frames():
    tau, rho = human_figures(every=1)
    assert (round(tau, 3), round(rho, 3)) == (0.177, 0.204)


def test_interpolated_precision_by_hand():
    assert interpolated_precision([1, 1, 0], [3, 2, 1]) == 1
    assert interpolated_precision([0, 0], [2, 1]) == 0
    assert interpolated_precision([1, 1], [2, 1]) == 1
    # Precision 1 / 2 at the first hit and 2 / 3 at the second, so 2 / 3 at both; without interpolation 7 / 12.
    assert interpolated_precision([0, 1, 1, 0], [4, 3, 2, 1]) == pytest.approx(2 / 3)
    assert average_precision([0, 1, 1, 0], [4, 3, 2, 1]) == pytest.approx(7 / 12)
    # Equal scores are one step, whatever their number: 1 at the first, 3 / 4 at the three that follow.
    assert interpolated_precision([1, 1, 1, 0], [9, 5, 5, 5]) == pytest.approx((1 + 3 / 4) / 2)


@unhurried
@given(pairs)
def test_interpolated_precision_agrees_with_scikit_learns_curve(columns):
    positive, scores = np.array(columns[0]) > 2, np.array(columns[1])
    if positive.all() or not positive.any():
        assert interpolated_precision(positive, scores) == float(positive.any())
        return
    precision, recall, _ = precision_recall_curve(positive, scores)
    steps = np.unique(recall[recall > 0])
    best = np.mean([precision[recall >= step].max() for step in steps])
    assert interpolated_precision(positive, scores) == pytest.approx(best)
    if len(set(scores)) == len(scores):
        assert best >= average_precision(positive, scores) - 1e-12


def test_highlight_detection_by_hand():
    ratings = {
        "one": [[4, 4, 2], [4, 3, 2], [0, 0, 0], [0, 0, 0]],
        "two": [[0, 0, 0], [3, 3, 3], [2, 4, 4], [0, 0, 0]],
    }
    predicted = {"one": [0.9, 0.1, 0.5, 0.2], "two": [0.1, 0.9, 0.5, 0.2]}
    # "one": 1 and 2 / 4 for the first annotator; 1 for the second; none for the third. "two": none; 1 / 2; 1 / 2.
    found = highlight_detection(predicted, ratings)
    assert found == pytest.approx((np.mean([3 / 4, 1, 0, 0, 1 / 2, 1 / 2]), 1 / 2))
    # "Good" or better: now the best clip of "two" is a hit.
    assert highlight_detection(predicted, ratings, minimum=3).hit_at_one == 1
    perfect = {"one": [2, 1, 0, 0]}
    assert highlight_detection(perfect, {"one": [[4], [4], [0], [0]]}) == (1, 1)
    # The first of equals is the best-scored clip.
    assert highlight_detection({"one": [1, 1]}, {"one": [[0], [4]]}) == (0.5, 0)


@pytest.mark.parametrize(
    ("predicted", "ratings", "reason"),
    [
        ({}, {}, "Scores of 0 and ratings of 0 videos must be of the same ones, and some"),
        ({"a": [1]}, {"b": [[4]]}, "Not in both: a, b"),
        ({"a": [1, 2]}, {"a": [[4]]}, r"'a' has scores \(2,\) for ratings \(1, 1\)"),
        (
            {"a": [1, 2]},
            {"a": [4, 0]},
            r"allowed are finite scores \(clips,\) and finite ratings \(clips, anno",
        ),
        ({"a": [1, np.nan]}, {"a": [[4], [0]]}, "finite scores"),
        ({"a": []}, {"a": [[]]}, "'a' has scores"),
    ],
)
def test_what_cannot_be_detected_says_why(predicted, ratings, reason):
    with pytest.raises(HlkitError, match=reason):
        highlight_detection(predicted, ratings)


def test_clips_are_means_of_two_seconds():
    time = np.arange(27) / 3
    scores = pl.DataFrame({"time": time, "score": time}).sample(fraction=1, shuffle=True, seed=0)
    # 9 s are four clips, and a rest that is dropped.
    assert clip_scores(scores, duration=9.0) == pytest.approx(np.array([5, 17, 29, 41]) / 6)
    assert clip_scores(scores, duration=9.0, clip_seconds=3) == pytest.approx(np.array([4, 13, 22]) / 3)
    gap = scores.with_columns(score=pl.when(pl.col("time") > 7.5).then(float("nan")).otherwise("score"))
    assert clip_scores(gap, duration=8.0)[3] == pytest.approx(np.mean([6, 19 / 3, 20 / 3, 7, 22 / 3]))
    with pytest.raises(HlkitError, match="1 of 6 clips of 2 s have no score"):
        clip_scores(scores, duration=12.0)
    for duration, length in ((1.0, 2.0), (9.0, 0.0)):
        with pytest.raises(HlkitError, match="hold no whole clip"):
            clip_scores(scores, duration=duration, clip_seconds=length)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda: rank_correlation([1, 2], [[1, 2]], against="mea"), "against is 'mea'; each and mean are allowed"),
        (lambda: human_correlation([[1, 2], [2, 1]], against=""), "against is ''; each and mean are allowed"),
        (lambda: highlight_detection({"a": [1, 2]}, {"a": [[4], [np.nan]]}), "finite ratings"),
        (lambda: interpolated_precision([True, False], [1, 2, 3]), "two rows of one length"),
        (lambda: interpolated_precision([True, False], [1, np.nan]), "missing or infinite"),
        (lambda: interpolated_precision([np.nan, 0.0], [1, 2]), "Some labels are missing"),
        *(
            (lambda length=length: clip_scores(pl.DataFrame({"time": [0.0], "score": [1.0]}), duration=length), words)
            for length, words in ((np.nan, "nan s hold no whole clip"), (np.inf, "inf s hold no whole clip"))
        ),
    ],
)
def test_what_would_be_a_wrong_figure_is_refused(measure, words):
    with pytest.raises(HlkitError, match=words):
        measure()
