"""Checks that loss, dataset, last layer and metrics fit each other."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from core import BATCH, Graph, GraphError, WeightedSum, with_loss
from core.names import counted
from workers.data.dataset import DatasetError, first_other, open_truth
from workers.job.balanced import balanced_weights
from workers.job.checks.problems import FieldProblem
from workers.job.data import split_rows
from workers.job.metrics import JobMetrics
from workers.job.task import LABEL_HINT, content, misfit, tasks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core import Loss, Task
    from workers.data.dataset import DatasetInfo
    from workers.job.once import Once
    from workers.job.spec import JobSpec


def check_task(
    spec: JobSpec,
    graph: Graph,
    dataset: DatasetInfo,
    problems: list[FieldProblem],
    once: Once,
    names: Sequence[str] = (),
) -> JobMetrics | None:
    """Check that the loss, the dataset and the last layer fit each other; return the job's metrics if they do.

    `names` are those of the targets, if they are known.
    """
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
        noun = ("value" if set(tasks) == {"regression"} else "score") + ("" if given == "1" else "s")
        message = (
            f"gives {given} {noun}, but dataset {spec.data.dataset!r} has {content(dataset)}: the last layer must "
        )
        problems.append(FieldProblem(last, f"{message}give {needed} for {spec.loss.type}"))
        return None
    if wrong_weights := list(_wrong_weights(spec.loss, task, max(2, *outputs))):
        problems.extend(wrong_weights)
        return None
    try:
        scores = Graph()  # the loss reads only these, so the other layers are not needed
        scores.input("scores", (BATCH, *outputs))
        with_loss(scores, spec.loss, task).shapes()
    except GraphError as error:
        problems.append(FieldProblem("loss", str(error)))
        return None
    if task == "multilabel":
        _check_zeros_and_ones(spec, dataset, problems, once, names)
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


def _wrong_weights(loss: Loss, task: Task, classes: int, field: str = "loss") -> Iterator[FieldProblem]:
    """The problems of the class weights of a loss and of losses within it, on this number of classes."""
    weights = getattr(loss, "class_weights", ())
    own = f"{field}.class_weights"
    if weights and task == "multilabel":
        message = f"has {counted(len(weights), 'number')}, which are for one label per row: must be left out"
        yield FieldProblem(own, message)
    elif weights and len(weights) != classes:
        found = counted(len(weights), "number")
        yield FieldProblem(own, f"has {found}: must have one for each of {classes} classes")
    elif weights and not any(weights):
        message = "is 0 for every class, so that nothing would be learned: must be above 0 for at least one"
        yield FieldProblem(own, message)
    if isinstance(loss, WeightedSum):
        for index, part in enumerate(loss.losses):
            yield from _wrong_weights(part, task, classes, f"{field}.losses.{index}")


def _check_zeros_and_ones(
    spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem], once: Once, names: Sequence[str]
) -> None:
    try:
        found = _other_than_zero_and_one(dataset, once)
    except DatasetError as error:
        problems.append(FieldProblem("data.dataset", str(error)))
        return
    if found is not None:
        row, column, value = found
        where = f"column {names[column]!r}" if names else f"target {column + 1}"
        problems.append(
            FieldProblem(
                "loss",
                f"{spec.loss.type} needs targets of 0 and 1, but {where} of row {row} of dataset "
                f"{spec.data.dataset!r} is {value:g} (rows are counted from 0): must be a loss for "
                f"regression, such as squared_error, or the dataset registered otherwise: {LABEL_HINT}",
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
