"""Checks that loss, dataset, last layer and metrics fit each other."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from core import BATCH, Graph, GraphError, with_loss
from workers.data.dataset import DatasetError, first_other, open_truth
from workers.job.balanced import balanced_weights
from workers.job.checks.problems import FieldProblem
from workers.job.data import split_rows
from workers.job.metrics import JobMetrics
from workers.job.task import LABEL_HINT, content, misfit, tasks_of

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.once import Once
    from workers.job.spec import JobSpec


def check_task(
    spec: JobSpec, graph: Graph, dataset: DatasetInfo, problems: list[FieldProblem], once: Once
) -> JobMetrics | None:
    """Check that the loss, the dataset and the last layer fit each other; return the job's metrics if they do."""
    tasks = tasks_of(spec.loss, dataset)
    if not tasks:
        try:
            found = None if dataset.classes else _other_than_zero_and_one(dataset, once)
        except DatasetError:
            found = None  # what is wrong with the file is reported for a loss that fits
        problems.append(FieldProblem("loss", misfit(spec.loss, dataset, zeros_and_ones=found is None)))
        return None
    _, *outputs = once(graph, "scores", lambda: graph.shapes(batch=1)["scores"])
    task = next((task for task, needed in tasks.items() if outputs == [needed]), None)
    if task is None:
        last, needed = f"model.layers.{len(spec.model.layers) - 1}", " or ".join(map(str, tasks.values()))
        given = " x ".join(map(str, outputs)) or "no list of"
        noun = "score" if given == "1" else "scores"
        message = (
            f"gives {given} {noun}, but dataset {spec.data.dataset!r} has {content(dataset)}: the last layer must "
        )
        problems.append(FieldProblem(last, f"{message}give {needed} for {spec.loss.type}"))
        return None
    try:
        scores = Graph()  # the loss reads only these, so the other layers are not needed
        scores.input("scores", (BATCH, *outputs))
        with_loss(scores, spec.loss, task).shapes()
    except GraphError as error:
        problems.append(FieldProblem("loss", str(error)))
        return None
    if task == "multilabel":
        _check_zeros_and_ones(spec, dataset, problems, once)
    if spec.data.standardize_targets and task != "regression":
        problems.append(
            FieldProblem("data.standardize_targets", f"is for regression, but this is a {task} job: must be left out")
        )
    if spec.data.stratify and not dataset.classes:
        problems.append(
            FieldProblem(
                "data.stratify",
                f"keeps a share of each class, but dataset {spec.data.dataset!r} has {content(dataset)}: must be "
                "left out",
            )
        )
    metrics = JobMetrics(task, *outputs)
    _check_metrics(spec, metrics, problems)
    return metrics


def _check_zeros_and_ones(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem], once: Once) -> None:
    try:
        found = _other_than_zero_and_one(dataset, once)
    except DatasetError as error:
        problems.append(FieldProblem("data.dataset", str(error)))
        return
    if found is not None:
        row, column, value = found
        problems.append(
            FieldProblem(
                "loss",
                f"{spec.loss.type} needs targets of 0 and 1, but target {column + 1} of row {row + 1} of dataset "
                f"{spec.data.dataset!r} is {value:g}: must be a loss for regression, such as squared_error, or the "
                f"dataset registered otherwise: {LABEL_HINT}",
            )
        )


def _other_than_zero_and_one(dataset: DatasetInfo, once: Once) -> tuple[int, int, float] | None:
    """Row, column and value of the first target that is neither 0 nor 1, if there is one. Raises `DatasetError`."""
    return once(dataset, "zeros and ones", lambda: first_other(open_truth(dataset), (0, 1)))


def _check_metrics(spec: JobSpec, metrics: JobMetrics, problems: list[FieldProblem]) -> None:
    """Check that the job has the metrics that it compares."""
    stopping = spec.training.early_stopping
    compared = {
        "checkpoints.best": spec.checkpoints.best,
        "training.early_stopping.metric": None if stopping is None else stopping.metric,
    }
    for field, metric in compared.items():
        if metric is not None and (message := metrics.refusal(metric)) is not None:
            problems.append(FieldProblem(field, message))


def weights_of_classes(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem], once: Once) -> list[float]:
    """Balanced class weights over the training rows; none if they cannot be computed."""
    field, classes = "loss.class_weights", dataset.classes
    if not classes:
        message = f"is balanced, but dataset {spec.data.dataset!r} has {content(dataset)}: must be left out"
        problems.append(FieldProblem(field, message))
        return []

    def weights_of_split() -> list[float]:
        labels = open_truth(dataset)
        train, _ = split_rows(spec, dataset, labels)
        return balanced_weights(labels[train], len(classes))

    try:
        split = spec.data.model_dump_json(include={"validation", "stratify", "split"})
        weights = once(dataset, ("weights", split, spec.training.seed), weights_of_split)
    except DatasetError as error:
        problems.append(FieldProblem("data.dataset", str(error)))
        return []
    missing = [name for name, weight in zip(classes, weights, strict=True) if not isfinite(weight)]
    if missing:
        message = f"is balanced, but no training row has the class {missing[0]!r}: must be numbers, one for each class"
        problems.append(FieldProblem(field, message))
        return []
    return weights
