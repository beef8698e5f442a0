"""Jobs of each task: their bits, and their figures beside scikit-learn's."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn import metrics as reference

from core import Model, Task, build_classifier, split_tensors
from tests.workers.fixtures.helpers import assignment, checkpoint_files, completed, last_checkpoint, points_of, train
from tests.workers.fixtures.tasks import OUTPUTS, dataset_of, job_of
from workers.data.dataset import open_dataset
from workers.data.scaling import Scaling
from workers.data.splitting import split
from workers.exchange.control import Command
from workers.job.metrics import JobMetrics
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.training.assignment import End

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.workers.fixtures.helpers import Outcome
    from workers.data.dataset import DatasetInfo
    from workers.training.assignment import Assignment

TASKS: tuple[Task, ...] = get_args(Task)
pytestmark = [pytest.mark.parametrize("task", TASKS), pytest.mark.usefixtures("no_fsync")]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, DatasetInfo]:
    return {task: dataset_of(task, tmp_path_factory.mktemp(task)) for task in TASKS}


def everything(outcome: Outcome, directory: Path) -> tuple[object, ...]:
    return outcome.params_sha256, outcome.series, outcome.evaluated, checkpoint_files(directory)


@pytest.mark.parametrize("shards", [1, 3, 4, 5, 8])
def test_no_bit_depends_on_the_number_of_workers(
    tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task, shards: int
) -> None:
    results = []
    for workers in range(1, min(shards, 5) + 1):
        changes = {"training.shards": shards, "resources.workers": workers, "training.epochs": 2}
        directory = tmp_path / str(workers)
        outcome = completed(assignment(job_of(task, **changes), datasets[task], directory))
        results.append(everything(outcome, directory))
    assert all(result == results[0] for result in results)


def test_other_shards_give_other_bits(tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task) -> None:
    """Shows that the test above can fail."""
    digests = {
        completed(assignment(job_of(task, **{"training.shards": shards}), datasets[task], tmp_path)).params_sha256
        for shards in (1, 4, 7)
    }
    assert len(digests) == 3


def test_a_job_has_the_series_of_its_metrics(tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task) -> None:
    given = assignment(job_of(task), datasets[task], tmp_path)
    outcome, metrics = completed(given), JobMetrics(task, OUTPUTS[task])
    assert resolve(JobSpec.model_validate(given.spec), datasets[task]).metrics.task == task
    names = {*metrics.step_series, *metrics.epoch_series}
    assert set(outcome.series) == {name for name in names if not name.startswith("time/")}
    assert set(outcome.evaluated.metrics) == set(metrics.final)


def stopped_at(given: Assignment, steps: list[int]) -> list[Outcome]:
    """Attempts that end with a checkpoint after each of the steps, and one to the end; each with more workers."""
    outcomes: list[Outcome] = []
    for workers, length in enumerate([*np.diff([0, *steps]).tolist(), 0], start=1):
        given.spec["resources"]["workers"] = workers
        last = Command.STOP | Command.CHECKPOINT if length else Command.NONE
        commands = chain(repeat(Command.NONE, max(0, length - 1)), repeat(last))
        checkpoint = last_checkpoint(given.directory) if outcomes else None
        outcomes.append(train(given, checkpoint=checkpoint, pending_command=commands.__next__))
    return outcomes


@pytest.mark.parametrize("steps", [[2], [1, 3, 4], [7, 8]], ids=str)
def test_interruptions_change_nothing(
    tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task, steps: list[int]
) -> None:
    """An epoch has 5 steps, so that these are interrupted in the middle of epochs."""
    changes = {"data.validation": 0.2, "training.epochs": 2, "checkpoints.every_seconds": 1e6}
    whole = completed(assignment(job_of(task, **changes), datasets[task], tmp_path / "whole"))
    given = assignment(job_of(task, **changes), datasets[task], tmp_path / "parts")
    outcomes = stopped_at(given, steps)
    assert [outcome.finished[0] for outcome in outcomes] == [End.STOPPED] * len(steps) + [End.COMPLETED]
    assert points_of([event for outcome in outcomes for event in outcome.events]) == points_of(whole.events)
    assert outcomes[-1].evaluated == whole.evaluated
    assert outcomes[-1].params_sha256 == whole.params_sha256


def kept_predictions(given: Assignment, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Predictions of the kept parameters, as a user of the checkpoint computes them."""
    features, _ = open_dataset(given.dataset)
    tensors, inputs = split_tensors(load_file(last_checkpoint(given.directory) / "best.safetensors"))
    model = Model(build_classifier(JobSpec.model_validate(given.spec).model.layers, given.dataset.features))
    model.load(tensors)
    plan = model.plan(len(rows))
    plan.inputs["features"][:] = (features[rows] - inputs["mean"]) / inputs["deviation"]
    plan.forward()
    scores = plan.value("scores")
    if "target_mean" not in inputs:
        return scores
    return Scaling(inputs["target_mean"], inputs["target_deviation"]).undo(np, scores)


def expected_figures(task: Task, predictions: NDArray[np.float32], truth: NDArray[Any]) -> dict[str, float]:
    if task == "regression":
        return {
            "mean_squared_error": reference.mean_squared_error(truth, predictions),
            "mean_absolute_error": reference.mean_absolute_error(truth, predictions),
            "r2": reference.r2_score(truth, predictions),
            "max_error": np.abs(truth.astype(np.float64) - predictions).max(),
        }
    if task == "multilabel":
        chosen = predictions > 0
        return {
            "subset_accuracy": reference.accuracy_score(truth, chosen),
            "f1": reference.f1_score(truth, chosen, average="macro", zero_division=0),
            "roc_auc": reference.roc_auc_score(truth, predictions),
            "average_precision": reference.average_precision_score(truth, predictions),
        }
    two = task == "binary"
    chosen = (predictions[:, 0] > 0).astype(int) if two else predictions.argmax(axis=1)
    ranked = predictions[:, 0] if two else softmax(predictions.astype(np.float64), axis=1)
    figures = {
        "accuracy": reference.accuracy_score(truth, chosen),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, chosen),
        "f1": reference.f1_score(truth, chosen, average="binary" if two else "macro"),
        "roc_auc": reference.roc_auc_score(truth, ranked, multi_class="ovr"),
    }
    if not two:
        correct = predictions[np.arange(len(truth)), truth][:, None].astype(np.float64)
        margins = np.maximum(0, predictions - correct + 1).sum(axis=1) - 1
        figures |= {"hinge": margins.mean(), "softmax": reference.log_loss(truth, ranked)}
    return figures


def expected_of_targets(predictions: NDArray[np.float32], truth: NDArray[Any]) -> dict[str, Any]:
    """The figures of each target alone."""
    columns = [(truth[:, [k]], predictions[:, [k]]) for k in range(truth.shape[1])]
    figures: dict[str, Callable[..., float]] = {
        "max_error": reference.max_error,
        "mean_absolute_error": reference.mean_absolute_error,
        "mean_squared_error": reference.mean_squared_error,
        "r2": reference.r2_score,
        "root_mean_squared_error": reference.root_mean_squared_error,
    }
    return {name: pytest.approx([of(*each) for each in columns], rel=1e-5) for name, of in figures.items()}


def test_the_kept_parameters_have_the_figures_of_scikit_learn(
    tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task
) -> None:
    changes = {"training.epochs": 6, "resources.workers": 3, "optimizer.lr": 0.3}
    given = assignment(job_of(task, **changes), datasets[task], tmp_path)
    outcome = completed(given)
    found = outcome.evaluated
    # They are those with the best loss, and have the bits that were recorded when they were reached.
    points = points_of(outcome.events)
    assert found.step == min(points["val/loss"], key=points["val/loss"].__getitem__)
    assert found.epoch == found.step // 5
    for name in JobMetrics(task, OUTPUTS[task]).validation_series:
        assert found.metrics[name] == points[name][found.step], name

    _, rows = split(given.dataset.rows, 0.2, 5)
    truth = open_dataset(given.dataset)[1][rows]
    predictions = kept_predictions(given, rows)
    for name, value in expected_figures(task, predictions, truth).items():
        np.testing.assert_allclose(found.metrics[f"val/{name}"], value, rtol=1e-5, err_msg=name)
    if task == "regression":
        assert found.details == {"per_target": expected_of_targets(predictions, truth)}
        return
    if task == "multilabel":
        counts = reference.multilabel_confusion_matrix(truth, predictions > 0)
    else:
        chosen = predictions[:, 0] > 0 if task == "binary" else predictions.argmax(axis=1)
        counts = reference.confusion_matrix(truth, chosen)
    assert found.details["confusion"] == counts.tolist()
    assert sum(found.details["per_label"]["support"]) == (truth.sum() if task == "multilabel" else len(rows))


def test_without_validation_rows_the_last_parameters_are_kept(
    tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task
) -> None:
    changes = {"data.validation": 0.0, "training.epochs": 2}
    found = completed(assignment(job_of(task, **changes), datasets[task], tmp_path)).evaluated
    assert (found.step, found.epoch, found.metrics, found.details) == (12, 2, {}, {})


def test_an_epoch_has_the_means_of_all_its_samples(
    tmp_path: Path, datasets: dict[Task, DatasetInfo], task: Task
) -> None:
    """Over 106 training rows in batches of 25: the last one has 6 rows."""
    points = points_of(completed(assignment(job_of(task), datasets[task], tmp_path)).events)
    sizes = [25, 25, 25, 25, 6]
    linear = {"loss", "data_loss", "reg_loss", "active_fraction", "accuracy", "mean_squared_error", "subset_accuracy"}
    for name in linear & {name.removeprefix("train/") for name in points}:
        values = list(points[f"train/{name}"].values())
        for epoch in range(3):
            mean = np.average(values[5 * epoch : 5 * epoch + 5], weights=sizes)
            assert points[f"train/{name}_epoch"][5 * (epoch + 1)] == pytest.approx(mean, rel=1e-12, abs=0), name
