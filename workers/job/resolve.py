"""Checks a spec against its dataset: the resolved job, or every reason why it cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING

from core import BATCH, Graph, GraphError, ModelError, build_classifier, reads_images, with_loss
from workers.data.dataset import DatasetError, first_other, open_truth
from workers.data.splitting import steps_per_epoch
from workers.job.balanced import BalancedLoss, balanced_weights
from workers.job.data import augmentations_of, split_rows, split_sizes
from workers.job.memory import memory_per_worker
from workers.job.metrics import JobMetrics
from workers.job.normalization import normalized_values, normalizing
from workers.job.once import Once
from workers.job.task import TaskError, content, tasks_of

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.spec import CheckpointsSpec, JobSpec

DEFAULT_SHARDS = 4  # not a function of the resources, on which no result depends
DEFAULT_CHECKPOINT_SECONDS = 30.0
BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class FieldProblem:
    """An error in a spec: the dotted path of the field, and what is allowed."""

    field: str
    message: str


class SpecError(ValueError):
    """A spec that cannot run on its dataset; `problems` lists all errors, field by field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))


@dataclass(frozen=True)
class Limits:
    """Largest job that is accepted: its parameters, bytes of all layers' outputs for a batch, and of a worker's arrays.

    Without `worker_bytes`, the memory of a worker is not limited; that of a worker on a GPU is not in any case.
    """

    parameters: int = 100_000_000
    batch_bytes: int = 8_000_000_000
    worker_bytes: int | None = None


@dataclass(frozen=True)
class ResolvedJob:
    """A spec with every default filled in, and the numbers that follow from it and its dataset."""

    spec: JobSpec
    metrics: JobMetrics
    parameters: int
    train_rows: int
    validation_rows: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole job."""
        return self.steps_per_epoch * self.spec.training.epochs

    @property
    def validation_field(self) -> str:
        """Dotted path of the field that selects the validation rows."""
        return _validation_field(self.spec)


def resolve(spec: JobSpec, dataset: DatasetInfo, limits: Limits = Limits(), once: Once | None = None) -> ResolvedJob:
    """Fill in the defaults that depend on the dataset, and check the spec against it.

    With `once`, specs that have the same `model` object, on the same `dataset` object, share what follows from these.

    Raises `SpecError` with every problem: shapes that do not fit, a loss that does not fit the dataset, a last layer
    with another number of outputs, more shards than rows in a batch, a model beyond the limits, and so on.
    """
    once = once or Once()
    problems: list[FieldProblem] = []
    # With a wrong split the number of rows is unknown, so it is not checked.
    split_known = _check_split(spec, dataset, problems)
    train, validation = split_sizes(spec, dataset) if split_known else (dataset.rows, 0)
    if isinstance(spec.loss, BalancedLoss):
        weights = _balanced(spec, dataset, problems, once) if split_known else []
        spec = spec.model_copy(update={"loss": spec.loss.with_weights(weights)})
    shards = _check_training(spec, train, problems) if train else 1
    metrics = None
    inputs = _inputs(spec, dataset, problems)
    if (graph := _check_model(spec, inputs, dataset, problems, once)) is not None:
        _check_size(spec, graph, dataset, limits, problems, once)
        _check_normalization(graph, spec.training.batch_size, shards, problems, once)
        metrics = _check_task(spec, graph, dataset, problems, once)
    _check_scale(spec, dataset, problems)
    _check_augmentation(spec, dataset, problems)
    _check_validation(spec, dataset, (train, validation), problems)
    if problems or graph is None or metrics is None:
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
    job = ResolvedJob(
        spec=resolved,
        metrics=metrics,
        parameters=once(graph, "parameters", lambda: _parameters(graph)),
        train_rows=train,
        validation_rows=validation,
        steps_per_epoch=steps_per_epoch(train, spec.training.batch_size),
    )
    _check_memory(job, dataset, limits, once)
    return job


def _balanced(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem], once: Once) -> list[float]:
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


def _checkpoints(spec: JobSpec) -> CheckpointsSpec:
    checkpoints = spec.checkpoints
    if checkpoints.every_seconds or checkpoints.every_steps or checkpoints.every_epochs:
        return checkpoints
    return checkpoints.model_copy(update={"every_seconds": DEFAULT_CHECKPOINT_SECONDS})


def _inputs(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> int | list[int]:
    """The number of features of a row, or the shape in which the model reads it."""
    given = spec.model.inputs
    if given is not None:
        if dataset.features == (given if isinstance(given, int) else prod(given)):
            return given
        many = f"{given}" if isinstance(given, int) else f"{given}, which is {prod(given)} features"
        allowed = [dataset.features, *([list(dataset.shape)] if dataset.shape else [])]
        problems.append(
            FieldProblem(
                "model.inputs",
                f"is {many}, but a row of dataset {spec.data.dataset!r} has {dataset.features} features: must be "
                f"{' or '.join(map(str, allowed))}, or left out",
            )
        )
    return list(dataset.shape) if dataset.shape and reads_images(spec.model.layers) else dataset.features


def _check_model(
    spec: JobSpec, inputs: int | list[int], dataset: DatasetInfo, problems: list[FieldProblem], once: Once
) -> Graph | None:
    """Check the shapes; return the graph without the loss, None if the shapes do not fit."""
    try:
        return once(
            spec.model, ("graph", str(inputs)), lambda: build_classifier(spec.model.layers, inputs, spec.model.heads)
        )
    except ModelError as error:
        message = str(error)
        if isinstance(inputs, int) and error.of == "layers" and spec.model.layers[error.entry].node.images:
            shape = list(dataset.shape or ("height", "width", "channels"))
            message += f". Rows are images if model.inputs is their shape, [{', '.join(map(str, shape))}]"
        problems.append(FieldProblem(f"model.{error.path}", message))
        return None


def _parameters(graph: Graph) -> int:
    """Number of the trained parameters."""
    return sum(prod(declaration.shape) for declaration in graph.parameters() if not declaration.statistic)


def _values(graph: Graph, batch: int) -> int:
    """Number of all values of a forward pass."""
    return sum(prod(shape) for shape in graph.shapes(batch).values())


def _widest(graph: Graph) -> str:
    """The layer with the most values."""
    shapes = graph.shapes()
    return max(graph.nodes, key=lambda name: prod(shapes[name]))


def _check_size(
    spec: JobSpec, graph: Graph, dataset: DatasetInfo, limits: Limits, problems: list[FieldProblem], once: Once
) -> None:
    parameters = once(graph, "parameters", lambda: _parameters(graph))
    batch = spec.training.batch_size
    batch_bytes = BYTES_PER_VALUE * once(graph, ("values", batch), lambda: _values(graph, batch))
    if batch_bytes > limits.batch_bytes:
        problems.append(
            FieldProblem(
                "model.layers",
                f"take {batch_bytes:,} bytes for a batch of {batch} rows of {dataset.features} features, more than the "
                f"limit of {limits.batch_bytes:,}; {_widest(graph)!r} takes most. A smaller training.batch_size takes "
                "less",
            )
        )
    if parameters == 0:
        problems.append(FieldProblem("model.layers", "has no parameters to train: at least one linear layer is needed"))
    if parameters > limits.parameters:
        problems.append(
            FieldProblem("model.layers", f"has {parameters:,} parameters, more than the limit of {limits.parameters:,}")
        )


def _check_memory(job: ResolvedJob, dataset: DatasetInfo, limits: Limits, once: Once) -> None:
    """Raise `SpecError` if the arrays of a worker on CPUs take more memory than the limit."""
    spec = job.spec
    if limits.worker_bytes is None or spec.resources.gpus_per_worker:
        return
    # Specs that differ in none of these take the same memory.
    same = (
        str(spec.model.inputs),
        job.metrics.task,
        spec.training.batch_size,
        spec.training.shards,
        spec.resources.model_dump_json(),
        spec.loss.type,
        len(spec.optimizer.slots),
        job.train_rows,
        job.validation_rows,
    )
    memory = once(spec.model, ("memory", *same), lambda: memory_per_worker(job, dataset))
    if memory.nbytes > limits.worker_bytes:
        message = (
            f"take {memory.nbytes:,} bytes of memory in a worker, more than the limit of {limits.worker_bytes:,}; "
            f"{memory.largest_layer!r} takes most. Smaller layers or a smaller training.batch_size take less"
        )
        raise SpecError([FieldProblem("model.layers", message)])


def _check_normalization(graph: Graph, batch: int, shards: int, problems: list[FieldProblem], once: Once) -> None:
    """Check that no layer normalizes over a single value, which is 0 afterwards whatever it was."""
    layers = once(graph, "normalizing", lambda: normalizing(graph))
    single = [name for name, values in normalized_values(graph, batch, shards, layers).items() if values == 1]
    if single:
        problems.append(
            FieldProblem(
                "training.batch_size",
                f"of {batch} rows has {shards} shards, so that {', '.join(single)} normalizes one value of each "
                f"feature: must be at least {2 * shards}, or training.shards at most {max(1, batch // 2)}",
            )
        )


def _check_task(
    spec: JobSpec, graph: Graph, dataset: DatasetInfo, problems: list[FieldProblem], once: Once
) -> JobMetrics | None:
    """Check that the loss, the dataset and the last layer fit each other; return the job's metrics if they do."""
    try:
        tasks = tasks_of(spec.loss, dataset)
    except TaskError as error:
        problems.append(FieldProblem("loss", str(error)))
        return None
    _, *outputs = once(graph, "scores", lambda: graph.shapes(batch=1)["scores"])
    task = next((task for task, needed in tasks.items() if outputs == [needed]), None)
    if task is None:
        last, needed = f"model.layers.{len(spec.model.layers) - 1}", " or ".join(map(str, tasks.values()))
        given = " x ".join(map(str, outputs)) or "no list of"
        message = (
            f"gives {given} scores, but dataset {spec.data.dataset!r} has {content(dataset)}: the last layer must "
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
        found = once(dataset, "zeros and ones", lambda: first_other(open_truth(dataset), (0, 1)))
    except DatasetError as error:
        problems.append(FieldProblem("data.dataset", str(error)))
        return
    if found is not None:
        row, column, value = found
        problems.append(
            FieldProblem(
                "loss",
                f"{spec.loss.type} needs targets of 0 and 1, but target {column + 1} of row {row + 1} of dataset "
                f"{spec.data.dataset!r} is {value:g}: must be a loss for regression, such as squared_error",
            )
        )


def _check_metrics(spec: JobSpec, metrics: JobMetrics, problems: list[FieldProblem]) -> None:
    """Check that the job has the metrics that it compares."""
    stopping = spec.training.early_stopping
    compared = {
        "checkpoints.best": spec.checkpoints.best,
        "training.early_stopping.metric": None if stopping is None else stopping.metric,
    }
    for field, metric in compared.items():
        if metric is not None and metric not in metrics.validation_series:
            problems.append(
                FieldProblem(
                    field,
                    f"is {metric}, which a {metrics.task} job with {metrics.outputs} outputs does not have: must be "
                    f"one of {', '.join(metrics.validation_series)}",
                )
            )


def _check_scale(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> None:
    """Check that a list has one number for each channel or each feature."""
    if spec.data.scale is None:
        return
    channels = {dataset.shape[-1]: "channels"} if dataset.shape else {}
    lengths = {dataset.features: "features", **channels}
    for field in ("subtract", "divide"):
        numbers = getattr(spec.data.scale, field)
        if isinstance(numbers, list) and len(numbers) not in lengths:
            expected = " or ".join(f"{length} ({name})" for length, name in lengths.items())
            problems.append(
                FieldProblem(f"data.scale.{field}", f"has {len(numbers)} numbers: must be one number, or {expected}")
            )


def _check_augmentation(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> None:
    if spec.data.augmentation and not dataset.shape:
        problems.append(
            FieldProblem(
                "data.augmentation",
                f"changes images, but the rows of dataset {spec.data.dataset!r} have no height and width: must be "
                "left out, or the dataset registered with the shape of its images",
            )
        )
        return
    augmentations = augmentations_of(spec, dataset.shape)
    if augmentations is None:
        return
    height, width, _ = augmentations.shape
    for position, change in enumerate(augmentations.changes):
        if change.margin > min(height, width):
            problems.append(
                FieldProblem(
                    f"data.augmentation.{position}",
                    f"reaches {change.margin} pixels beyond images of {height} x {width}: must be at most "
                    f"{min(height, width)}",
                )
            )


def _check_split(spec: JobSpec, dataset: DatasetInfo, problems: list[FieldProblem]) -> bool:
    """Check the values of a split by a column; return whether the dataset has all of them."""
    if spec.data.split is None:
        return True
    if not dataset.splits:
        problems.append(
            FieldProblem(
                "data.split",
                f"names values of a split column, but dataset {spec.data.dataset!r} has none: must be left out, or the "
                "dataset registered with its split_column",
            )
        )
        return False
    unknown = []
    for part, values in (("train", spec.data.split.train), ("validation", spec.data.split.validation)):
        index = next((index for index, value in enumerate(values) if value not in dataset.splits), None)
        if index is not None:
            unknown.append(
                FieldProblem(
                    f"data.split.{part}.{index}",
                    f"is {values[index]!r}, but the values of the split column of dataset {spec.data.dataset!r} are "
                    f"{', '.join(map(repr, dataset.splits))}: must be one of them",
                )
            )
    problems.extend(unknown)
    return not unknown


def _check_validation(spec: JobSpec, dataset: DatasetInfo, rows: tuple[int, int], problems: list[FieldProblem]) -> None:
    """Check the numbers of training and validation rows, and whatever needs validation rows."""
    (train, validation), share = rows, spec.data.validation
    if train == 0:
        problems.append(
            FieldProblem(
                "data.validation",
                f"{share:g} of {dataset.rows} rows leaves none for training: at most {dataset.rows - 1} can be "
                "validation rows",
            )
        )
    elif share > 0 and validation == 0:
        problems.append(
            FieldProblem(
                "data.validation",
                f"{share:g} of {dataset.rows} rows is less than one row: use 0, or at least {1 / dataset.rows:g}",
            )
        )
    elif validation == 0:
        source = _validation_field(spec)
        stopping, best = spec.training.early_stopping, spec.checkpoints.best
        needs = []
        if stopping is not None:
            needs.append(("training.early_stopping", f"compares {stopping.metric}"))
        # A resolved spec always names the default, and can be submitted again.
        if best != type(spec.checkpoints).model_fields["best"].default:
            needs.append(("checkpoints.best", f"compares {best}"))
        if spec.data.stratify:
            needs.append(("data.stratify", "takes a share of each class"))
        problems.extend(
            FieldProblem(
                field, f"{use}, but there are no validation rows: must be left out, or {source} must leave rows"
            )
            for field, use in needs
        )
    elif spec.data.stratify and min(rows) < len(dataset.classes):
        count, kind = min((train, "training"), (validation, "validation"))
        problems.append(
            FieldProblem(
                "data.stratify",
                f"keeps a share of each class, but {count} {kind} rows are fewer than {len(dataset.classes)} classes: "
                "must be left out, or data.validation changed",
            )
        )


def _validation_field(spec: JobSpec) -> str:
    return "data.validation" if spec.data.split is None else "data.split.validation"


def _check_training(spec: JobSpec, train_rows: int, problems: list[FieldProblem]) -> int:
    """Check batch and shards; return the number of shards."""
    training = spec.training
    if training.batch_size > train_rows:
        problems.append(
            FieldProblem(
                "training.batch_size",
                f"is {training.batch_size}, but only {train_rows} rows are left for training: must be at most "
                f"{train_rows}",
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
                f"is {shards}, but a batch has only {training.batch_size} rows: must be at most {training.batch_size}",
            )
        )
    return shards
