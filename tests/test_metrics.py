import math

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from spans_and_frames import recording, spans

import hlkit.metrics
from hlkit import events, rankings
from hlkit.labels import covered
from hlkit.metrics import CARD_SCHEMA, EVENT_CARD_SCHEMA, event_card, macro_average, scorecard, spans_of
from hlkit.project import HlkitError, HlkitWarning
from hlkit.split import assign_chunks
from hlkit.timeline import PickRules, add_intensity


def test_scorecard_sets_signals_beside_random():
    frames, signal = recording()
    labels = frames["label"].to_numpy()
    deaf = np.full(labels.size, math.nan)
    card = scorecard(frames, {"model": signal, "oracle": labels, "loudness": deaf}, resamples=100)
    assert card.columns == ["name", "ap", "ap_smoothed", "low", "high", "auroc", "reel_precision", "reel_events"]
    assert card["name"].to_list() == ["model", "oracle", "loudness", "random"]
    model, oracle, loudness, random = card.rows(named=True)
    assert model["ap"] == pytest.approx(average_precision_score(labels, signal))
    assert model["ap"] < model["ap_smoothed"]
    smoothed = np.array([signal[max(0, i - 7) : i + 8].mean() for i in range(labels.size)])
    assert model["ap_smoothed"] == pytest.approx(average_precision_score(labels, smoothed), abs=1e-4)
    assert model["low"] < model["ap_smoothed"] < model["high"]
    assert model["auroc"] == pytest.approx(roc_auc_score(labels, smoothed), abs=1e-4)
    # The reel of the 120 s that are highlights.
    best = np.argsort(-smoothed)[: 120 * 3]
    assert model["reel_precision"] == pytest.approx(labels[best].mean(), abs=1e-4)
    assert (oracle["ap"], oracle["reel_events"]) == (1, 1)
    assert list(loudness.values()) == ["loudness", *[None] * 7]
    assert random["ap"] == random["ap_smoothed"] == pytest.approx(0.2)
    assert random["low"] < 0.2 < random["high"]
    assert random["auroc"] == 0.5
    assert random["reel_precision"] == pytest.approx(0.2)
    # Events of 10 s by halves, in noise of 5 s: seldom, but not never.
    assert 0 < random["reel_events"] < 0.15 < model["reel_events"]
    assert card.equals(scorecard(frames, {"model": signal, "oracle": labels, "loudness": deaf}, resamples=100))
    by_other_noise = scorecard(frames, {}, resamples=100, seed=1)["reel_events"].item()
    assert by_other_noise == pytest.approx(random["reel_events"], abs=0.03)


def test_scorecard_refuses_a_signal_of_another_length():
    frames, signal = recording()
    with pytest.raises(HlkitError, match="must be two rows of one length"):
        scorecard(frames, {"model": signal[1:]})


def test_events_that_touch_count_apart_where_their_spans_are_given():
    """Two events of 5 s make one of 10 s in labelled frames. The signal knows the first half of each."""
    frames, _ = recording()
    time = frames["time"].to_numpy()
    apart = spans(*((start + half, start + half + 5) for start in range(0, 600, 50) for half in (0, 5)))
    signal = (time % 50 < 5) * 2.0 + (time % 50 < 8)
    given = {"window_seconds": 0.1, "resamples": 10, "reel_seconds": 60.0}
    assert scorecard(frames, {"x": signal}, **given)["reel_events"][0] == 1
    assert scorecard(frames, {"x": signal}, true=apart, **given)["reel_events"][0] == 0.5
    longer = scorecard(frames, {"x": signal}, true=apart, **given | {"reel_seconds": 240.0})
    assert longer["reel_events"][0] == 1
    assert longer["reel_precision"].to_list() == pytest.approx([(96 + 24 * 144 / 504) / 240, 0.2])


def test_a_scorecard_of_one_class_has_no_meaning():
    frames, signal = recording()
    for card in (scorecard, lambda frames, signals: event_card(frames, signals, spans((0, 10)))):
        with pytest.raises(HlkitError, match="All 1800 frames are background, so there is nothing to tell apart"):
            card(frames.with_columns(label=pl.lit(0)), {"x": signal})


def test_event_card_sets_picks_beside_random():
    frames, signal = recording()
    true = spans_of(frames)
    deaf = np.full(frames.height, math.nan)
    signals = {"model": signal, "oracle": frames["label"].to_numpy(), "loudness": deaf}
    card = event_card(frames, signals, true)
    assert card.schema == EVENT_CARD_SCHEMA
    assert card["name"].to_list() == ["model", "oracle", "loudness", "random"]
    model, oracle, loudness, random = card.rows(named=True)
    assert oracle.pop("name") == "oracle"
    assert oracle.pop("seconds") == pytest.approx(120, abs=8)
    # The first event begins the recording: smoothing can't widen it there.
    assert all(value == pytest.approx(1, abs=0.05) for value in oracle.values()), oracle
    assert set(loudness.values()) == {"loudness", None}
    assert model["seconds"] <= 120 + 1e-6
    for column in EVENT_CARD_SCHEMA.names()[2:]:
        assert 0 <= random[column] < model[column] <= 1, column
    assert event_card(frames, signals, true).equals(card)
    with pytest.raises(HlkitError, match="must be two rows of one length"):
        event_card(frames, {"model": signal[1:]}, true)


def test_event_card_by_hand():
    """A signal of two blocks, [10, 20) and [30, 40), against [12, 20) and [70, 78): no window, no padding."""
    time = np.arange(300) / 3
    frames = pl.DataFrame({"video": ["a"] * 300, "time": time})
    true = spans((12, 20), (70, 78))
    frames = frames.with_columns(pl.Series("label", covered(frames, true).astype(np.int8)))
    signal = 2.0 * ((time >= 10) & (time < 20)) + 1.0 * ((time >= 30) & (time < 40))
    rules = PickRules(release=1.0, merge_gap_seconds=0, min_seconds=0, pad_seconds=0)
    options = {"rules": rules, "window_seconds": 0.1, "reel_seconds": 20.0}
    (card, _) = event_card(frames, {"x": signal}, true, **options).rows(named=True)
    f1 = f1_score(frames["label"], signal > 0)
    assert card == pytest.approx(
        {"name": "x", "seconds": 20, "frame_f1": f1}
        | {f"{rate}_{share}": 0.5 for rate in ("precision", "recall", "f1") for share in (30, 50)}
        | {"spot_precision": 0.5, "spot_recall": 0.5, "spot_f1": 0.5, "events_found": 0.5, "hit_at_k": 0.5}
    )
    # The best pick alone; its peak, 10 s, is 2 s before the event.
    assert event_card(frames, {"x": signal}, true, k=1, **options)["hit_at_k"][0] == 1
    assert event_card(frames, {"x": signal}, true, k=1, tolerance_seconds=1, **options)["hit_at_k"][0] == 0
    # A louder unit or a zero elsewhere changes nothing, and a signal that picks nothing says so.
    assert event_card(frames, {"x": signal * 40 - 100}, true, **options).row(0) == tuple(card.values())
    with pytest.warns(HlkitWarning, match=r"No highlight fits into 20 s"):
        blind = event_card(frames, {"x": np.ones(300)}, true, **options)
    assert set(blind.row(0)[1:]) == {0}


def unseen(frames, *stretches):
    """The frames with these stretches of time as never looked at."""
    hidden = covered(frames, spans(*stretches))
    return frames.with_columns(label=pl.when(pl.Series(hidden)).then(pl.lit(-1)).otherwise("label"))


def test_what_nobody_looked_at_counts_neither_for_nor_against_by_hand():
    """Eight seconds; nobody looked at [2, 4) and [6, 7), where the signal is highest."""
    labels = [1, 0, -1, -1, 1, 0, -1, 0]
    signal = np.array([0.9, 0.8, 1.0, 1.0, 0.1, 0.2, 1.0, 0.0])
    frames = pl.DataFrame({"video": ["a"] * 8, "time": np.arange(8.0), "label": labels})
    options = {"window_seconds": 0.1, "chunk_seconds": 2.0, "resamples": 50}
    (model, random) = scorecard(frames, {"x": signal}, **options).rows(named=True)
    # From high to low: a highlight, not, not, a highlight, not.
    assert model["ap"] == model["ap_smoothed"] == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert model["auroc"] == pytest.approx((3 + 1) / 6)
    # Two seconds of reel: [0, 1), which is an event, and [1, 2); the event [4, 5) is not among them.
    assert (model["reel_precision"], model["reel_events"]) == (0.5, 0.5)
    assert random["ap"] == pytest.approx(2 / 5)
    for other in (0.0, math.nan):
        signal[[2, 3, 6]] = other
        assert scorecard(frames, {"x": signal}, **options).row(0) == tuple(model.values())
    # What is smoothed is the signal, whoever looked: at 1 s the mean is over 0, 1 and 2 s.
    signal[[2, 3, 6]] = [5, 5, 5]
    smoothed = scorecard(frames, {"x": signal}, **options | {"window_seconds": 2.0})
    means = [np.mean(signal[max(0, at - 1) : at + 2]) for at in range(8)]
    order = [labels[at] for at in np.argsort(means)[::-1] if labels[at] >= 0]
    assert smoothed["ap_smoothed"][0] == pytest.approx(average_precision_score(order, range(5, 0, -1)))
    assert smoothed["ap_smoothed"][0] != model["ap"]


def test_picks_are_made_and_judged_where_somebody_looked_by_hand():
    """Looked at are [0, 40) and [60, 100). Blocks of signal at [10, 20), [38, 62) and [45, 55)."""
    time = np.arange(300) / 3
    true = spans((12, 20), (70, 78))
    frames = pl.DataFrame({"video": ["a"] * 300, "time": time})
    frames = unseen(frames.with_columns(pl.Series("label", covered(frames, true).astype(np.int8))), (40, 60))
    signal = (
        2.0 * ((time >= 10) & (time < 20)) + 1.0 * ((time >= 38) & (time < 62)) + 9.0 * ((time >= 45) & (time < 55))
    )
    rules = PickRules(release=1.0, merge_gap_seconds=30, min_seconds=0, pad_seconds=0)
    options = {"window_seconds": 0.1, "reel_seconds": 33.0}
    card = event_card(frames, {"x": signal}, true, rules=rules, **options).row(0, named=True)
    # [10, 40) and [60, 62): the gap of 18 s is closed, that of 20 s is nothing that anybody looked at.
    assert card["seconds"] == pytest.approx(32)
    assert card["spot_precision"] == card["spot_recall"] == 0.5
    assert (card["events_found"], card["recall_30"], card["recall_50"]) == (0.5, 0, 0)
    judged = frames["label"].to_numpy() >= 0
    picked = ((time >= 10) & (time < 40)) | ((time >= 60) & (time < 62))
    assert card["frame_f1"] == pytest.approx(f1_score(frames["label"].to_numpy()[judged], picked[judged]))
    # Padding stays in what was looked at: [5, 25), [33, 40) and [60, 67).
    padded = PickRules(release=1.0, merge_gap_seconds=0, min_seconds=0, pad_seconds=5)
    card = event_card(frames, {"x": signal}, true, rules=padded, window_seconds=0.1, reel_seconds=34.0)
    assert card["seconds"][0] == pytest.approx(34)
    # The same, whatever the signal does elsewhere.
    signal[~judged] = -3.0
    assert event_card(frames, {"x": signal}, true, rules=padded, window_seconds=0.1, reel_seconds=34.0).equals(card)


def test_a_video_whose_end_nobody_looked_at_is_judged_as_one_that_ends_there():
    one, signal = recording(seconds=150)
    two, other = recording(seconds=200, seed=1, video="b")
    frames, signals = pl.concat([one, two]), {"x": np.concatenate([signal, other])}
    short = (frames["video"] == "a") | (frames["time"] < 140)
    part = frames.with_columns(label=pl.when(short).then("label").otherwise(pl.lit(-1)))
    seen = spans_of(part)
    assert seen.height == spans_of(frames).height - 1
    kept, options = {"x": signals["x"][short.to_numpy()]}, {"window_seconds": 0.1}
    cut = event_card(frames.filter(short), kept, seen, **options)
    assert event_card(part, signals, seen, **options).row(0) == pytest.approx(cut.row(0))
    assert event_card(frames, signals, spans_of(frames), **options).row(0) != pytest.approx(cut.row(0))
    options |= {"resamples": 20}
    cut = scorecard(frames.filter(short), kept, **options)
    assert scorecard(part, signals, **options).row(0) == pytest.approx(cut.row(0))


def cards(*rows):
    return pl.DataFrame(rows, schema={"video": pl.String} | dict(CARD_SCHEMA), orient="row")


def test_macro_average_by_hand():
    table = cards(
        ("a", "hlkit", 0.5, 0.6, 0.3, 0.9, 0.8, 0.7, 1.0),
        ("a", "loudness", 0.4, 0.5, 0.4, 0.6, 0.6, 0.5, 0.5),
        ("b", "hlkit", 0.7, 0.8, 0.4, 1.0, 0.6, 0.3, 0.0),
        ("b", "loudness", *[None] * 7),
    )
    hlkit, loudness = macro_average(table).rows(named=True)
    # Below: 0.3 and 0.4 in squares are 0.5; above: 0.3 and 0.2. Halved, since it is a mean of two.
    interval = {"low": 0.7 - 0.5 / 2, "high": 0.7 + 0.13**0.5 / 2}
    means = {"ap": 0.6, "ap_smoothed": 0.7, "auroc": 0.7, "reel_precision": 0.5, "reel_events": 0.5}
    assert hlkit == pytest.approx({"name": "hlkit", "videos": 2} | means | interval)
    assert loudness == {"name": "loudness", "videos": 1} | dict.fromkeys(CARD_SCHEMA.names()[1:])
    one = macro_average(table.head(1)).drop("videos")
    assert one.row(0) == pytest.approx(table.row(0)[1:])
    assert one.columns == CARD_SCHEMA.names()
    with pytest.raises(HlkitError, match="stands twice for a video"):
        macro_average(pl.concat([table, table]))


def test_a_signal_that_one_video_has_no_row_for_has_no_mean():
    table = cards(("a", "chat", *[0.5] * 7), ("a", "x", *[0.5] * 7), ("b", "x", *[0.5] * 7))
    chat, x = macro_average(table).rows(named=True)
    assert (chat["videos"], chat["ap"], chat["low"]) == (1, None, None)
    assert (x["videos"], x["ap"], x["low"]) == (2, 0.5, 0.5)


def test_macro_average_of_event_cards():
    frames, signal = recording(seconds=300)
    card = event_card(frames, {"x": signal}, spans_of(frames))
    both = pl.concat([card.select(pl.lit(video).alias("video"), pl.all()) for video in "ab"])
    assert macro_average(both).drop("videos").equals(card)


def test_the_macro_interval_is_that_of_a_bootstrap_within_each_video():
    results, means = [], []
    for seed, video in enumerate("ab"):
        frames, signal = recording(seed=seed, video=video)
        labels = frames["label"].to_numpy()
        card = scorecard(frames, {"x": signal}, resamples=400)
        results.append(card.select(pl.lit(video).alias("video"), pl.all()))
        smooth = add_intensity(frames.with_columns(score=signal), window_seconds=5)["intensity"].to_numpy()
        chunk = assign_chunks(frames)["chunk"].to_numpy()
        rng, found = np.random.default_rng(7 + seed), []
        for _ in range(400):
            rows = np.concatenate([np.flatnonzero(chunk == drawn) for drawn in rng.integers(0, 20, 20)])
            found.append(average_precision_score(labels[rows], smooth[rows]))
        means.append(found)
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    macro = macro_average(pl.concat(results)).row(0, named=True)
    assert macro["low"] == pytest.approx(low, abs=0.015)
    assert macro["high"] == pytest.approx(high, abs=0.015)


def test_one_module_offers_every_measure():
    for name in hlkit.metrics.__all__:
        assert getattr(hlkit.metrics, name) is not None
    for module in (rankings, events):
        public = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        internal = {"rates", "check_scores", "check_length", "check_share", "check_ranking", "check_labels", "ranked"}
        assert {name for name in public if not name.startswith("_")} - internal <= set(hlkit.metrics.__all__)


def test_a_signal_cannot_be_named_as_the_guess_is():
    frames, signal = recording()
    for judge in (scorecard, event_card):
        with pytest.raises(HlkitError, match="A signal is named 'random', as the row of a guess is"):
            judge(frames, {"random": signal}, true=spans_of(frames))


def test_events_of_another_video_are_refused():
    frames, signal = recording()
    other = spans_of(frames).with_columns(video=pl.lit("elsewhere"))
    for judge in (scorecard, event_card):
        with pytest.raises(HlkitError, match="There are events of elsewhere, and frames of "):
            judge(frames, {"model": signal}, true=other)
