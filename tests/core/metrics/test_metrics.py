"""Every registered metric against scikit-learn, and what all metrics must have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from core import LossMetric, Metric, RankingMetric, TallyMetric, registered
from core.metrics.labels.counts import LabelCounts, confusion, per_label
from tests.core.fixtures.direct import evaluate
from tests.core.fixtures.metric_cases import REFERENCES
from tests.fixtures.cupy_stand_in import cupy

# The numbers of outputs with which each task is tested.
OUTPUTS = {"classification": (2, 3, 8), "binary": (1,), "multilabel": (1, 4), "regression": (1, 3)}
METRICS = [cls() for cls in registered("metric").values()]
SITUATIONS = [
    (metric, task, outputs)
    for metric in METRICS
    for task in sorted(metric.tasks)
    for outputs in OUTPUTS[task]
    if metric.fits(outputs)
]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.type)
every_situation = pytest.mark.parametrize(("metric", "task", "outputs"), SITUATIONS, ids=str)
# Counts are equal exactly; sums in another order, or on another device, differ in the last digits.
tallies = pytest.mark.parametrize(
    ("metric", "task", "outputs"), [each for each in SITUATIONS if isinstance(each[0], TallyMetric)], ids=str
)


def draw(task, outputs, seed, rows=60, dtype=np.float64):
    """Draw predictions and their truth, with equal scores and, of labels, one that does not occur in the truth."""
    random = np.random.default_rng(seed)
    # Multiples of 1/4 are exact in float32. Some are equal, and some are 0.
    predictions = (random.integers(-8, 9, (rows, outputs)) / 4).astype(dtype)
    if task == "classification":
        return predictions, random.integers(0, max(outputs - 1, 2), rows)
    if task == "binary":
        return predictions, random.integers(0, 2, rows)
    if task == "multilabel":
        truth = random.integers(0, 2, (rows, outputs)).astype(dtype)
        truth[:, 1:2] = 0
        return predictions, truth
    return predictions, (random.integers(-40, 40, (rows, outputs)) / 4).astype(dtype)


def tally(metric, predictions, truth, xp=np):
    sums = np.zeros(metric.tally.columns(predictions.shape[1]))
    if xp is np:
        metric.tally.add(np, predictions, truth, sums)
        return sums
    on_device = [xp.empty(each.shape, each.dtype) for each in (predictions, truth, sums)]
    for place, array in zip(on_device, (predictions, truth, sums), strict=True):
        place.set(array)
    metric.tally.add(xp, *on_device)
    return on_device[-1].get(out=sums)


def value(metric, predictions, truth):
    if isinstance(metric, TallyMetric):
        return metric.value(tally(metric, predictions, truth), len(predictions))
    if isinstance(metric, RankingMetric):
        return metric.value(predictions, truth)
    losses, *_ = evaluate(metric.loss, predictions, truth)
    return float(losses.mean())


@every_metric
def test_has_a_reference_and_a_description(metric):
    assert metric.type in REFERENCES, f"add the value of {metric.type!r} by scikit-learn to REFERENCES"
    assert metric.__doc__
    assert not metric.__doc__.startswith(f"{type(metric).__name__}(")
    assert isinstance(metric, (TallyMetric, LossMetric, RankingMetric))
    assert metric.tasks <= OUTPUTS.keys()
    assert metric.tasks
    assert isinstance(metric.higher_is_better, bool)


@every_situation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_is_that_of_scikit_learn(metric, task, outputs, dtype):
    for seed in range(3):
        for rows in (60, 7, 2):
            predictions, truth = draw(task, outputs, seed, rows, dtype)
            got = value(metric, predictions, truth)
            assert got == pytest.approx(REFERENCES[metric.type](predictions, truth), rel=1e-12, abs=1e-15, nan_ok=True)
            assert type(got) is float


@every_situation
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_value_of_any_table_is_that_of_scikit_learn(metric, task, outputs, data):
    predictions, truth = draw(task, outputs, data.draw(st.integers(0, 10**6)), data.draw(st.integers(2, 12)))
    expected = REFERENCES[metric.type](predictions, truth)
    assert value(metric, predictions, truth) == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


@every_situation
def test_a_perfect_prediction_has_the_best_value(metric, task, outputs):
    predictions, truth = draw(task, outputs, 0)
    perfect = {
        "classification": lambda: np.eye(outputs)[truth] * 100,
        "binary": lambda: 2.0 * truth[:, None] - 1,
        "multilabel": lambda: 2 * truth - 1,
        "regression": lambda: truth,
    }[task]()
    best, other = value(metric, perfect, truth), value(metric, predictions, truth)
    if metric.higher_is_better:
        # Of four labels one has no rows, so that its precision and recall are 0, as in scikit-learn.
        absent = task == "multilabel" and outputs == 4 and metric.type in {"f1", "precision", "recall"}
        assert best == (0.75 if absent else 1)
        assert best > other or metric.type == "top_5_accuracy"
    else:
        assert best == pytest.approx(0, abs=1e-40)
        assert best < other


@tallies
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_numbers_of_the_parts_are_combined_to_those_of_all(metric, task, outputs, data):
    predictions, truth = draw(task, outputs, 1, rows=30)
    cuts = sorted(data.draw(st.lists(st.integers(0, 30), max_size=5)))
    # Batches are added to the same numbers, and shards are combined afterwards.
    in_batches = np.zeros(metric.tally.columns(outputs))
    shards = []
    for start, stop in zip([0, *cuts], [*cuts, 30], strict=True):
        metric.tally.add(np, predictions[start:stop], truth[start:stop], in_batches)
        shards.append(tally(metric, predictions[start:stop], truth[start:stop]))
    whole = tally(metric, predictions, truth)
    combined = {"sum": np.sum, "max": np.max}[metric.tally.combine](shards, axis=0)
    # The predictions are small multiples of 1/4, so that sums are exact too.
    assert whole.tobytes() == in_batches.tobytes() == combined.tobytes()
    assert whole.shape == (metric.tally.columns(outputs),)


@tallies
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_on_device_and_host_are_equal(metric, task, outputs, dtype):
    predictions, truth = draw(task, outputs, 2, dtype=dtype)
    assert tally(metric, predictions, truth, cupy).tobytes() == tally(metric, predictions, truth).tobytes()


@tallies
def test_any_memory_layout_read_only(metric, task, outputs):
    predictions, truth = draw(task, outputs, 3)
    expected = tally(metric, predictions, truth)
    for arrange in (
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=0)[::2],
        lambda array: array[::-1].copy()[::-1],
    ):
        arranged = [arrange(predictions), arrange(truth)]
        for each in arranged:
            each.flags.writeable = False
        larger = np.zeros((len(expected), 2))
        metric.tally.add(np, *arranged, larger[:, 0])
        assert larger[:, 0].tolist() == expected.tolist()
        assert not larger[:, 1].any()


@tallies
def test_an_empty_batch_changes_nothing(metric, task, outputs):
    predictions, truth = draw(task, outputs, 4)
    sums = tally(metric, predictions, truth)
    before = sums.copy()
    metric.tally.add(np, predictions[:0], truth[:0], sums)
    assert sums.tobytes() == before.tobytes()


@every_situation
def test_one_row(metric, task, outputs):
    predictions, truth = draw(task, outputs, 5, rows=1)
    got = value(metric, predictions, truth)
    if metric.type in {"r2", "roc_auc"}:
        assert np.isnan(got)
    else:
        expected = REFERENCES[metric.type](predictions, truth)
        assert got == pytest.approx(expected, rel=1e-12, nan_ok=True)


regressions = pytest.mark.parametrize(
    "metric", [each for each in METRICS if "regression" in each.tasks], ids=lambda each: each.type
)


@regressions
def test_each_target_has_the_value_that_it_has_alone(metric):
    predictions, truth = draw("regression", 3, 0)
    truth[:, 2] = 4  # constant
    each = metric.of_each(tally(metric, predictions, truth), len(truth))
    alone = [REFERENCES[metric.type](predictions[:, [k]], truth[:, [k]]) for k in range(3)]
    assert each.shape == (3,)
    np.testing.assert_allclose(each, alone, rtol=1e-12)


@regressions
def test_a_prediction_that_is_nan_gives_nan(metric):
    predictions, truth = draw("regression", 2, 0)
    predictions[7, 1] = np.nan
    assert np.isnan(value(metric, predictions, truth))


@pytest.mark.parametrize(
    "metric", [each for each in METRICS if isinstance(each, RankingMetric)], ids=lambda each: each.type
)
def test_a_ranking_with_nan_is_nan(metric):
    predictions, truth = draw("classification", 3, 0)
    predictions[7, 1] = np.nan
    assert np.isnan(value(metric, predictions, truth))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("accuracy", 0.5), ("balanced_accuracy", 0.5), ("top_5_accuracy", 0)],
)
def test_rows_of_nan_count_for_the_first_class(metric, expected):
    truth = np.array([0, 1])
    assert value(registered("metric")[metric](), np.full((2, 6), np.nan), truth) == expected


@pytest.mark.parametrize("largest", [4, 1000])
@pytest.mark.parametrize(
    "metric", [each for each in METRICS if {"classification", "binary"} <= each.tasks], ids=lambda each: each.type
)
def test_two_scores_of_two_classes_have_the_figures_of_one_score(metric, largest):
    """They are ranked together, so both are figures of label 1. The softmax of scores far apart is 0 or 1."""
    random = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9, 0, 1):
        score = random.integers(-4 * largest, 4 * largest + 1, (50, 1)) / 4
        truth = (random.random(50) < share).astype(np.int64)
        shift = random.integers(-8, 9, (50, 1))
        for scores in (np.hstack([np.zeros_like(score), score]), np.hstack([-score / 2 + shift, score / 2 + shift])):
            expected = value(metric, score, truth)
            assert value(metric, scores, truth) == pytest.approx(expected, rel=1e-15, abs=0, nan_ok=True)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_rankings_of_several_classes_are_those_of_probabilities(metric):
    random = np.random.default_rng(0)
    scores, truth = random.normal(0, 2, (80, 3)), random.integers(0, 3, 80)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = {
        "roc_auc": lambda: peer.roc_auc_score(truth, shares, multi_class="ovr"),
        "average_precision": lambda: peer.average_precision_score(truth, shares),
    }[metric]()
    assert value(registered("metric")[metric](), scores, truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [3, 1000, 100_000])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1.7e9, 1e-30])
def test_r2_of_a_constant_target(dtype, rows, constant):
    metric = registered("metric")["r2"]()
    truth = np.full((rows, 1), constant, dtype)
    assert value(metric, truth, truth) == 1
    assert value(metric, truth + dtype(1e-3 * abs(constant) or 1e-3), truth) == 0
    in_batches = np.zeros(6)
    for start in range(0, rows, 777):
        metric.tally.add(np, truth[start : start + 777], truth[start : start + 777], in_batches)
    assert metric.value(in_batches, rows) == 1


@pytest.mark.parametrize("mean", [1, 1e3, 1e6, 1.7e9])
def test_r2_of_targets_far_from_zero(mean):
    random = np.random.default_rng(0)
    truth = mean + random.normal(0, 20, (10_000, 1))
    predictions = truth + random.normal(0, 10, truth.shape)
    metric = registered("metric")["r2"]()
    assert value(metric, predictions, truth) == pytest.approx(peer.r2_score(truth, predictions), rel=1e-5)


@pytest.mark.parametrize(("task", "outputs"), [("classification", 3), ("binary", 1), ("multilabel", 4)])
def test_confusion_counts_and_figures_of_each_label(task, outputs):
    scores, truth = draw(task, outputs, 6)
    counts = confusion(scores, truth)
    if task == "multilabel":
        predicted = (scores > 0).astype(int)
        expected = peer.multilabel_confusion_matrix(truth, predicted, labels=range(outputs))
        names = range(outputs)
    else:
        predicted = (scores[:, 0] > 0).astype(int) if task == "binary" else scores.argmax(axis=1)
        names = range(max(outputs, 2))
        expected = peer.confusion_matrix(truth, predicted, labels=names)
    assert counts.tolist() == expected.tolist()
    figures = peer.precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    for got, other in zip(per_label(counts).values(), figures, strict=True):
        np.testing.assert_allclose(got, other, rtol=1e-14)


def test_a_tally_is_equal_to_another_of_its_class():
    assert len({cls.tally for cls in registered("metric").values() if issubclass(cls, TallyMetric)}) == 8
    assert LabelCounts() == LabelCounts()
    assert all(issubclass(cls, Metric) for cls in registered("metric").values())
