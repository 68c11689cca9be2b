import numpy as np
import pytest

from hlkit.charts import VERMILLION
from hlkit.curves import precision_recall_chart, training_chart
from hlkit.project import HlkitError


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def texts(axis):
    return [text.get_text() for text in axis.texts]


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    rows = [
        "epoch,train_loss,val_loss,val_ap,val_base_rate",
        "0,0.7,0.6,0.3,0.2",
        "1,0.5,0.5,0.6,0.2",
        "2,0.3,,0.5,0.2",
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_training_chart(metrics):
    losses, precision = training_chart(metrics, title="run $1").axes
    assert lines(losses)["training"].get_xdata().tolist() == [1, 2, 3]
    assert lines(losses)["training"].get_ydata().tolist() == [0.7, 0.5, 0.3]
    assert lines(losses)["validation"].get_ydata()[:2].tolist() == [0.6, 0.5]
    assert lines(losses)["validation"].get_color() == VERMILLION
    assert lines(precision)["model"].get_ydata().tolist() == [0.3, 0.6, 0.5]
    assert lines(precision)["base rate (guessing)"].get_ydata() == [0.2, 0.2]
    assert texts(precision) == ["best: 0.600"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "There is no"), ("epoch,val_ap\n", "holds no epoch"), ("a,b\n1,2\n", "holds no epoch"), ("", "Train")],
)
def test_metrics_that_cannot_be_drawn(tmp_path, content, reason):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(HlkitError, match=reason):
        training_chart(path)


def test_precision_over_recall_by_hand():
    # From the top: right, wrong, right; the fourth frame is background.
    (axis,) = precision_recall_chart([1, 0, 1, 0], {"ours": [4, 3, 2, 1], "deaf": [1, np.nan, 1, 1]}, title="$x").axes
    drawn = lines(axis)
    assert list(drawn) == ["ours", "base rate (guessing)"]
    assert drawn["ours"].get_xdata().tolist() == [0.5, 0.5, 1, 1]
    assert drawn["ours"].get_ydata().tolist() == [1, 0.5, 2 / 3, 0.5]
    assert drawn["base rate (guessing)"].get_ydata() == [0.5, 0.5]


def test_a_curve_needs_both_classes():
    with pytest.raises(HlkitError, match="All 2 frames are highlights"):
        precision_recall_chart([1, 1], {"ours": [1, 2]})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["one,0.5"], "holds a value that is no number .*Train again"),
        ([",0.5"], "lacks the number of an epoch"),
        (["0,0.5", ",0.4"], "lacks the number of an epoch"),
        (["0,high"], "holds a value that is no number"),
    ],
)
def test_text_where_numbers_belong_is_refused(tmp_path, rows, words):
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(["epoch,val_ap", *rows]) + "\n")
    with pytest.raises(HlkitError, match=words):
        training_chart(path)


def test_a_metric_without_any_value_draws_nothing(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,train_loss,val_ap\n0,0.5,\n1,0.4,\n")
    losses, precision = training_chart(path).axes
    assert lines(losses)["training"].get_ydata().tolist() == [0.5, 0.4]
    assert np.isnan(lines(precision)["model"].get_ydata()).all()
