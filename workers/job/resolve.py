"""Checks a spec against its dataset: the resolved job, or every reason why it cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.names import counted
from workers.data.splitting import steps_per_epoch
from workers.job.balanced import BalancedLoss
from workers.job.checks.data import check_augmentation, check_scale, check_split, check_validation, validation_field
from workers.job.checks.model import (
    DEFAULT_LIMITS,
    Limits,
    check_model,
    check_normalization,
    check_size,
    inputs_of,
    parameters_of,
)
from workers.job.checks.preparation import check_preparation
from workers.job.checks.problems import FieldProblem, SpecError
from workers.job.checks.task import check_task, weights_of_classes
from workers.job.data import split_sizes
from workers.job.memory import memory_per_worker
from workers.job.once import Once

if TYPE_CHECKING:
    from core import Task
    from core.tables.treatments import Treatment
    from workers.data.dataset import DatasetInfo
    from workers.job.memory import WorkerMemory
    from workers.job.metrics import JobMetrics
    from workers.job.spec import CheckpointsSpec, JobSpec

DEFAULT_SHARDS = 4  # not a function of the resources, on which no result depends
DEFAULT_CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class ResolvedJob:
    """A spec with every default filled in, and what follows from it and its dataset.

    `treatments` say how the columns are prepared; there are none if the model reads the dataset's numbers, scaled at
    most.
    """

    spec: JobSpec
    metrics: JobMetrics
    parameters: int
    memory: WorkerMemory
    train_rows: int
    validation_rows: int
    steps_per_epoch: int
    treatments: tuple[Treatment, ...] = ()

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole job."""
        return self.steps_per_epoch * self.spec.training.epochs

    @property
    def validation_field(self) -> str:
        """Dotted path of the field that selects the validation rows."""
        return validation_field(self.spec)


def resolve(
    spec: JobSpec, dataset: DatasetInfo, limits: Limits = DEFAULT_LIMITS, once: Once | None = None
) -> ResolvedJob:
    """Fill in the defaults that depend on the dataset, and check the spec against it.

    With `once`, specs that have the same `model` object, on the same `dataset` object, share what follows from these.

    Raises `SpecError` with every problem: shapes that do not fit, a loss that does not fit the dataset, a last layer
    with another number of outputs, more shards than rows in a batch, a model beyond the limits, and so on.
    """
    once = once or Once()
    problems: list[FieldProblem] = []
    # With a wrong split the number of rows is unknown, so it is not checked.
    split_known = check_split(spec, dataset, problems)
    train, validation = split_sizes(spec, dataset) if split_known else (dataset.rows, 0)
    if isinstance(spec.loss, BalancedLoss):
        weights = weights_of_classes(spec, dataset, problems, once) if split_known else []
        spec = spec.model_copy(update={"loss": spec.loss.with_weights(weights)})
    shards = _check_training(spec, train, problems) if train else 1
    metrics = graph = None
    # With wrong rules the width of a row is unknown, so the model is not checked.
    if (treatments := check_preparation(spec, dataset, problems, once)) is not None:
        inputs = inputs_of(spec, dataset, treatments, problems)
        graph = check_model(spec, inputs, dataset, problems, once)
    if graph is not None:
        check_size(spec, graph, limits, problems, once)
        check_normalization(graph, spec.training.batch_size, shards, problems, once)
        metrics = check_task(spec, graph, dataset, problems, once)
    check_scale(spec, dataset, problems)
    check_augmentation(spec, dataset, problems)
    check_validation(spec, dataset, (train, validation), problems)
    if problems or graph is None or metrics is None or treatments is None:
        raise SpecError(problems)
    resolved = spec.model_copy(
        update={
            "model": once(
                spec.model, ("resolved", str(inputs)), lambda: spec.model.model_copy(update={"inputs": inputs})
            ),
            "training": spec.training.model_copy(update={"shards": shards}),
            "checkpoints": _checkpoints(spec),
        }
    )
    memory = _memory(resolved, metrics.task, dataset, (train, validation), once)
    _check_memory(resolved, memory, limits)
    return ResolvedJob(
        spec=resolved,
        metrics=metrics,
        parameters=once(graph, "parameters", lambda: parameters_of(graph)),
        memory=memory,
        train_rows=train,
        validation_rows=validation,
        steps_per_epoch=steps_per_epoch(train, spec.training.batch_size),
        treatments=treatments,
    )


def _checkpoints(spec: JobSpec) -> CheckpointsSpec:
    checkpoints = spec.checkpoints
    if checkpoints.every_seconds or checkpoints.every_steps or checkpoints.every_epochs:
        return checkpoints
    return checkpoints.model_copy(update={"every_seconds": DEFAULT_CHECKPOINT_SECONDS})


def _check_training(spec: JobSpec, train_rows: int, problems: list[FieldProblem]) -> int:
    """Check batch and shards; return the number of shards."""
    training = spec.training
    if training.batch_size > train_rows:
        verb = "is" if train_rows == 1 else "are"
        problems.append(
            FieldProblem(
                "training.batch_size",
                f"is {training.batch_size}, but only {counted(train_rows, 'row')} {verb} left for training: must be at "
                f"most {train_rows}",
            )
        )
    if training.shards is None:
        shards = DEFAULT_SHARDS
        while shards > training.batch_size:
            shards //= 2
    else:
        shards = training.shards
    if shards > training.batch_size:
        problems.append(
            FieldProblem(
                "training.shards",
                f"is {shards}, but a batch has only {counted(training.batch_size, 'row')}: must be at most "
                f"{training.batch_size}",
            )
        )
    return shards


def _memory(spec: JobSpec, task: Task, dataset: DatasetInfo, rows: tuple[int, int], once: Once) -> WorkerMemory:
    # Specs that differ in none of these take the same memory.
    same = (
        task,
        spec.training.batch_size,
        spec.training.shards,
        spec.resources.model_dump_json(),
        spec.loss.type,
        len(spec.optimizer.slots),
        rows,
    )
    return once(spec.model, ("memory", *same), lambda: memory_per_worker(spec, dataset, rows))


def _check_memory(spec: JobSpec, memory: WorkerMemory, limits: Limits) -> None:
    """Raise `SpecError` if the arrays of a worker on CPUs take more memory than the limit."""
    if limits.worker_bytes is None or spec.resources.gpus_per_worker:
        return
    if memory.nbytes > limits.worker_bytes:
        message = (
            f"take {memory.nbytes:,} bytes of memory in a worker, more than the limit of {limits.worker_bytes:,}; "
            f"{memory.largest_layer!r} takes most. Smaller layers or a smaller training.batch_size take less"
        )
        raise SpecError([FieldProblem("model.layers", message)])
