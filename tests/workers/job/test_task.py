"""The task of a job, and what does not fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from sklearn.utils.class_weight import compute_class_weight

from core import Hinge, Task, WeightedSum
from tests.workers.fixtures.helpers import assignment, completed, train
from tests.workers.fixtures.tasks import LOSSES, OUTPUTS, ROWS, dataset_of, job_of
from workers.data.dataset import open_dataset
from workers.data.splitting import split
from workers.job.checks.problems import SpecError
from workers.job.metrics import METRICS, JobMetrics
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.training.trainer import NonFiniteStepError

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

TASKS: tuple[Task, ...] = get_args(Task)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, DatasetInfo]:
    return {task: dataset_of(task, tmp_path_factory.mktemp(task)) for task in TASKS}


def problem_of(spec: dict[str, Any], dataset: DatasetInfo) -> tuple[str, str]:
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(spec), dataset, names=("price", "area") if dataset.targets == 2 else ())
    (problem,) = caught.value.problems
    return problem.field, problem.message


@pytest.mark.parametrize("task", TASKS)
def test_loss_and_dataset_decide_the_task(datasets: dict[Task, DatasetInfo], task: Task) -> None:
    metrics = resolve(JobSpec.model_validate(job_of(task)), datasets[task]).metrics
    assert (metrics.task, metrics.outputs) == (task, OUTPUTS[task])


def test_one_loss_has_several_tasks(datasets: dict[Task, DatasetInfo]) -> None:
    loss = {"loss": {"type": "sigmoid_cross_entropy"}}
    for task, outputs in {"classification": 3, "binary": 1, "multilabel": 3}.items():
        spec = job_of(task, **loss)
        assert resolve(JobSpec.model_validate(spec), datasets[task]).metrics.task == task
        assert spec["model"]["layers"][-1]["units"] == outputs
    two_scores = job_of("binary", **loss, **{"model.layers": [{"type": "linear", "units": 2}]})
    assert resolve(JobSpec.model_validate(two_scores), datasets["binary"]).metrics.task == "classification"


LAYERS = "model.layers"
# The task whose dataset is used, the task whose job it is, changes, the field of the problem, and words of its message.
CASES: dict[str, tuple[Task, Task, dict[str, Any], str, list[str]]] = {
    "targets for a loss of labels": (
        "regression",
        "classification",
        {},
        "loss",
        [
            "hinge is a loss for classification",
            "2 target columns and no classes",
            "one of absolute_error, huber, mean_squared_error, smooth_l1, squared_error, weighted_sum, or",
            "a column of classes is its `label` (--label)",
        ],
    ),
    "targets of zeros and ones for a loss of labels": (
        "multilabel",
        "binary",
        {},
        "loss",
        ["soft_margin is a loss for binary", "huber", "sigmoid_cross_entropy", "(--label)"],
    ),
    "labels for a loss of values": (
        "classification",
        "regression",
        {"data.standardize_targets": False},
        "loss",
        ["huber is a loss for regression", "3 classes", "hinge", "softmax", "`targets` (--target)"],
    ),
    "three classes for one score": (
        "classification",
        "binary",
        {},
        "loss",
        ["soft_margin is a loss for binary", "3 classes", "softmax"],
    ),
    "two scores for a loss of one": (
        "binary",
        "binary",
        {"model.layers": [{"type": "linear", "units": 2}]},
        "model.layers.0",
        ["gives 2 scores", "2 classes", "must give 1"],
    ),
    "three scores for two classes": (
        "binary",
        "binary",
        {"model.layers": [{"type": "linear", "units": 3}], "loss": {"type": "sigmoid_cross_entropy"}},
        "model.layers.0",
        ["gives 3 scores", "2 or 1"],
    ),
    "one score for three classes": (
        "classification",
        "classification",
        {"model.layers": [{"type": "linear", "units": 1}]},
        "model.layers.0",
        ["gives 1 score, but", "must give 3"],
    ),
    "a metric of the end of training": (
        "classification",
        "classification",
        {"checkpoints.best": "val/roc_auc"},
        "checkpoints.best",
        [
            "'val/roc_auc'",
            "computed only at the end of training",
            "one of val/loss, val/hinge, val/softmax, val/accuracy",
        ],
    ),
    "early stopping by a metric of the end of training": (
        "binary",
        "binary",
        {"training.early_stopping": {"metric": "val/average_precision"}},
        "training.early_stopping.metric",
        ["computed only at the end of training", "val/accuracy"],
    ),
    "a metric with one output": (
        "binary",
        "binary",
        {"checkpoints.best": "val/hinge"},
        "checkpoints.best",
        ["which a binary job with 1 output does not have: must be one of val/loss, val/accuracy"],
    ),
    "a misspelt metric": (
        "regression",
        "regression",
        {"checkpoints.best": "val/mean_absolut_error"},
        "checkpoints.best",
        ["no metric of validation rows", "did you mean 'val/mean_absolute_error'?"],
    ),
    "another number of targets": (
        "regression",
        "regression",
        {"model.layers": [{"type": "linear", "units": 3}]},
        "model.layers.0",
        ["gives 3 values", "2 target columns", "must give 2"],
    ),
    "a score for each of several labels": (
        "multilabel",
        "multilabel",
        {"model.layers": [{"type": "linear", "units": 1}]},
        "model.layers.0",
        ["gives 1 score,", "3 target columns", "must give 3"],
    ),
    "targets that are not zeros and ones": (
        "regression",
        "multilabel",
        {"model.layers": [{"type": "linear", "units": 2}]},
        "loss",
        ["column 'price' of row 0", "rows are counted from 0", "0 and 1", "squared_error", "(--label)"],
    ),
    "class weights of several labels": (
        "multilabel",
        "multilabel",
        {"loss": {"type": "sigmoid_cross_entropy", "class_weights": [1.0, 2.0, 3.0]}},
        "loss.class_weights",
        ["has 3 numbers", "one label per row", "must be left out"],
    ),
    "another number of class weights": (
        "classification",
        "classification",
        {"loss": {"type": "softmax", "class_weights": [1.0, 2.0]}},
        "loss.class_weights",
        ["has 2 numbers: must have one for each of 3 classes"],
    ),
    "another number of class weights of two classes": (
        "binary",
        "binary",
        {"loss": {"type": "soft_margin", "class_weights": [1.0]}},
        "loss.class_weights",
        ["has 1 number: must have one for each of 2 classes"],
    ),
    "class weights within a sum": (
        "classification",
        "classification",
        {
            "loss": {
                "type": "weighted_sum",
                "losses": [{"type": "hinge"}, {"type": "softmax", "class_weights": [1.0] * 4}],
                "weights": [1.0, 1.0],
            }
        },
        "loss.losses.1.class_weights",
        ["has 4 numbers: must have one for each of 3 classes"],
    ),
    "class weights without any weight": (
        "classification",
        "classification",
        {"loss": {"type": "softmax", "class_weights": [0.0, 0.0, 0.0]}},
        "loss.class_weights",
        ["is 0 for every class, so that nothing would be learned: must be above 0 for at least one"],
    ),
    "balanced weights of targets": (
        "multilabel",
        "multilabel",
        {"loss": {"type": "sigmoid_cross_entropy", "class_weights": "balanced"}},
        "loss.class_weights",
        ["3 target columns", "left out"],
    ),
    "a share of each class of targets": (
        "regression",
        "regression",
        {"data.stratify": True},
        "data.stratify",
        ["2 target columns and no classes", "left out"],
    ),
    "labels on a scale": (
        "classification",
        "classification",
        {"data.standardize_targets": True},
        "data.standardize_targets",
        ["regression", "classification job"],
    ),
    "the accuracy of a regression": (
        "regression",
        "regression",
        {"checkpoints.best": "val/accuracy"},
        "checkpoints.best",
        ["val/accuracy", "regression", "val/loss", "val/r2", "val/mean_squared_error"],
    ),
    "early stopping by the error of classes": (
        "classification",
        "classification",
        {"training.early_stopping": {"metric": "val/r2"}},
        "training.early_stopping.metric",
        ["val/r2", "classification", "val/accuracy", "val/hinge"],
    ),
    "a metric for more classes": (
        "classification",
        "classification",
        {"checkpoints.best": "val/top_5_accuracy"},
        "checkpoints.best",
        ["val/top_5_accuracy", "3 outputs"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_named(datasets: dict[Task, DatasetInfo], case: str) -> None:
    dataset, task, changes, field, words = CASES[case]
    found, message = problem_of(job_of(task, **changes), datasets[dataset])
    assert found == field, message
    for word in words:
        assert word in message


def test_every_metric_belongs_to_a_task() -> None:
    of_tasks = [JobMetrics(task, 100 if task == "classification" else 1).final for task in TASKS]
    assert {name for names in of_tasks for name in names} == {"val/loss", *(f"val/{name}" for name in METRICS)}


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_balanced_weights_are_those_of_scikit_learn(datasets: dict[Task, DatasetInfo], task: Task) -> None:
    loss = {"type": LOSSES[task], "class_weights": "balanced"}
    resolved = resolve(JobSpec.model_validate(job_of(task, loss=loss)), datasets[task])
    _, labels = open_dataset(datasets[task])
    train, _ = split(ROWS, 0.2, 5)
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels[train])
    dumped = resolved.spec.model_dump(mode="json")
    np.testing.assert_allclose(dumped["loss"]["class_weights"], expected, rtol=1e-12)
    # The resolved spec says which numbers these are, and can be submitted again.
    assert resolve(JobSpec.model_validate(dumped), datasets[task]).spec == resolved.spec


def test_balanced_weights_change_the_result_as_numbers_do(tmp_path: Path, datasets: dict[Task, DatasetInfo]) -> None:
    def trained(weights: Any) -> tuple[str, list[float]]:
        loss = {"type": LOSSES["binary"], "class_weights": weights}
        given = assignment(job_of("binary", loss=loss, **{"training.epochs": 1}), datasets["binary"], tmp_path)
        return completed(given).params_sha256, given.spec["loss"]["class_weights"]

    digest, weights = trained("balanced")
    assert trained(weights) == (digest, weights)
    assert trained([])[0] != digest


def test_balanced_losses_within_a_sum(datasets: dict[Task, DatasetInfo]) -> None:
    part = {"type": "hinge", "class_weights": "balanced"}
    loss = {"type": "weighted_sum", "losses": [part, {"type": "softmax"}], "weights": [0.5, 0.5]}
    spec = JobSpec.model_validate(job_of("classification", loss=loss))
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.model_dump(mode="json")["loss"]["losses"][0]["class_weights"] == "balanced"
    resolved = resolve(spec, datasets["classification"]).spec.loss
    assert isinstance(resolved, WeightedSum)
    weighted, plain = resolved.losses
    assert isinstance(weighted, Hinge)
    assert len(weighted.class_weights) == 3
    assert getattr(plain, "class_weights", None) == ()


def test_balanced_weights_need_rows_of_each_class(tmp_path: Path) -> None:
    truth = np.repeat([0, 1], [ROWS - 1, 1])[:, None]
    dataset = dataset_of("binary", tmp_path, truth)
    loss = {"loss": {"type": "soft_margin", "class_weights": "balanced"}}
    seed = next(seed for seed in range(99) if ROWS - 1 not in split(ROWS, 0.2, seed)[0])
    field, message = problem_of(job_of("binary", **loss, **{"training.seed": seed}), dataset)
    assert field == "loss.class_weights"
    assert "no training row has the class '1'" in message


def test_other_text_than_balanced_is_refused_and_the_schema_says_so() -> None:
    words = 'a list of numbers, one for each class, or "balanced", not '
    wrongs: dict[str, Any] = {words + '"Balanced"': "Balanced", words + "3": 3, words + "null": None}
    for message, wrong in (wrongs | {"greater than or equal to 0": [-1.0, 1.0]}).items():
        with pytest.raises(ValidationError, match=f"class_weights(.|\n)*{message}"):
            JobSpec.model_validate(job_of("binary", loss={"type": "soft_margin", "class_weights": wrong}))
    loss = {"type": "binary_margin", "margin": -1.0, "class_weights": "balanced"}
    with pytest.raises(ValidationError, match="greater than 0"):
        JobSpec.model_validate(job_of("binary", loss=loss))
    schema = TypeAdapter(JobSpec).json_schema()["$defs"]["HingeSpec"]["properties"]["class_weights"]
    weights, word = schema["anyOf"]
    assert (weights["type"], weights["items"]["minimum"], word["const"]) == ("array", 0, "balanced")
    assert schema["description"]


def test_standardized_targets_train_as_targets_that_were_standardized_before(tmp_path: Path) -> None:
    """The figures are in the targets' own units, the loss is not."""
    truth = np.random.default_rng(1).normal(size=(ROWS, 2)) * (200, 0.5) + (1e4, -3)
    given = truth.astype(np.float32).astype(np.float64)
    train, _ = split(ROWS, 0.2, 5)
    mean, deviation = (of(given[train], axis=0).astype(np.float32).astype(np.float64) for of in (np.mean, np.std))
    outcomes = []
    for name, values, change in (("own", truth, {}), ("before", (given - mean) / deviation, {"standardize": False})):
        directory = tmp_path / name
        directory.mkdir()
        spec = job_of("regression", **{f"data.{key}_targets": value for key, value in change.items()})
        outcomes.append(completed(assignment(spec, dataset_of("regression", directory, values), directory)))
    own, before = outcomes
    assert own.params_sha256 == before.params_sha256
    assert own.series["train/loss"] == before.series["train/loss"]
    assert own.series["val/loss"] == before.series["val/loss"]
    for (_, ours), (_, theirs) in zip(own.series["val/max_error"], before.series["val/max_error"], strict=True):
        assert 0.1 * deviation[0] * theirs < ours < deviation[0] * theirs * 1.001


@pytest.mark.parametrize(
    ("changes", "truth", "advice"),
    [
        (
            {},
            2e5,
            "data.standardize_targets true (target 1 has the mean {:.3g} and the standard deviation {:.3g}), or a",
        ),
        ({"data.standardize": False}, 2e5, "data.standardize_targets true"),
        ({}, 1, "a smaller learning rate may help"),
        ({"data.standardize": False}, 1, "features on a smaller scale, or a smaller"),
        ({"data.standardize_targets": True}, 2e5, "a smaller learning rate may help"),
    ],
)
def test_advice_for_a_loss_that_is_not_finite_names_what_this_job_can_change(
    tmp_path: Path, changes: dict[str, Any], truth: float, advice: str
) -> None:
    targets = truth + np.random.default_rng(0).normal(size=(ROWS, 2)) * truth * (0.2, 0.1)
    dataset = dataset_of("regression", tmp_path, targets)
    given = {"loss": {"type": "squared_error"}, "data.standardize_targets": False, "optimizer.lr": 1e12} | changes
    error = train(assignment(job_of("regression", **given), dataset, tmp_path)).finished[0]
    assert isinstance(error, NonFiniteStepError)
    message = str(error).partition("; ")[2]
    first = targets[split(ROWS, 0.2, 5)[0], 0]
    assert message.startswith(advice.format(first.mean(), first.std()))
    assert ("standardize_targets" in message) == ("standardize_targets" in advice)
    assert ("features" in message) == ("data.standardize" in changes)


def test_figures_of_a_target_that_are_not_defined_are_null(tmp_path: Path, datasets: dict[Task, DatasetInfo]) -> None:
    """R² has no value for one row."""
    spec = job_of("regression", **{"data.validation": 1 / ROWS})
    found = completed(assignment(spec, datasets["regression"], tmp_path)).evaluated.details["per_target"]
    assert found["r2"] == [None, None]
    assert None not in found["max_error"]
