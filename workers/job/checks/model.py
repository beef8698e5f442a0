"""Checks of a model: its shapes, its size, and what it normalizes over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isqrt, prod
from typing import TYPE_CHECKING

from core import ModelError, build_classifier, reads_images
from core.names import counted
from workers.job.checks.problems import FieldProblem
from workers.job.normalization import normalized_values, normalizing
from workers.job.spec import MOST_AXES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core import Graph
    from core.tables.treatments import Treatment
    from workers.data.dataset import DatasetInfo
    from workers.job.once import Once
    from workers.job.spec import JobSpec

BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Limits:
    """Largest job that is accepted: its parameters, bytes of all layers' outputs for a batch, and of a worker's arrays.

    Without `worker_bytes`, the memory of a worker is not limited; that of a worker on a GPU is not in any case.
    """

    parameters: int = 100_000_000
    batch_bytes: int = 8_000_000_000
    worker_bytes: int | None = None


DEFAULT_LIMITS = Limits()


def inputs_of(
    spec: JobSpec, dataset: DatasetInfo, treatments: Sequence[Treatment], problems: list[FieldProblem]
) -> int | list[int]:
    """The number of features of a row, prepared if there are treatments, or the shape in which the model reads it."""
    given = spec.model.inputs
    features = sum(treatment.width for treatment in treatments) if treatments else dataset.features
    shape = dataset.shape if features == dataset.features else None
    if given is not None:
        if features == (given if isinstance(given, int) else prod(given)):
            return given
        many = f"{given}" if isinstance(given, int) else f"{given}, which is {prod(given)} features"
        allowed = [features, *([list(shape)] if shape else [])]
        row = "a prepared row" if treatments else "a row"
        problems.append(
            FieldProblem(
                "model.inputs",
                f"is {many}, but {row} of dataset {spec.data.dataset!r} has {features} features: must be "
                f"{' or '.join(map(str, allowed))}, or left out",
            )
        )
    return list(shape) if shape and reads_images(spec.model.layers) else features


def check_model(
    spec: JobSpec, inputs: int | list[int], dataset: DatasetInfo, problems: list[FieldProblem], once: Once
) -> Graph | None:
    """Check the shapes; return the graph without the loss, None if the shapes do not fit."""
    try:
        return once(
            spec.model, ("graph", str(inputs)), lambda: build_classifier(spec.model.layers, inputs, spec.model.heads)
        )
    except ModelError as error:
        row = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        if dataset.shape and prod(dataset.shape) == prod(row):
            row = dataset.shape
        problems.append(FieldProblem(f"model.{error.path}", f"{error}{_way_out(spec, error, row, dataset)}"))
        return None


def _way_out(spec: JobSpec, error: ModelError, row: tuple[int, ...], dataset: DatasetInfo) -> str:
    """The shape of a row with as many axes as a layer needs, as a sentence, if that layer then has no such error."""
    if error.axes is None or not 1 < error.axes <= MOST_AXES:
        return ""
    shape = _row_of(error.axes, row)
    try:
        build_classifier(spec.model.layers, shape, spec.model.heads)
    except ModelError as other:
        if other.axes is not None and other.axes > error.axes:
            return _way_out(spec, other, row, dataset)
        # An error of a later layer is another mistake.
        if other.axes is not None and (other.of != error.of or other.entry <= error.entry):
            return ""
    such_as = "" if dataset.shape == shape else "such as "
    return f". Set model.inputs to the shape of a row, {such_as}{list(shape)}, or add a reshape layer before it"


def _row_of(axes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with this many axes in which a row of a given shape can be read."""
    if len(shape) == 1 and axes == 3:
        height = max(each for each in range(1, isqrt(shape[0]) + 1) if shape[0] % each == 0)
        return (height, shape[0] // height, 1)
    if len(shape) > axes:
        return (prod(shape[: 1 - axes]), *shape[1 - axes :])
    return (*shape, *[1] * (axes - len(shape)))


def check_size(spec: JobSpec, graph: Graph, limits: Limits, problems: list[FieldProblem], once: Once) -> None:
    """Check that the model has parameters, and no more parameters and values than the limits."""
    parameters = once(graph, "parameters", lambda: parameters_of(graph))
    batch = spec.training.batch_size
    batch_bytes = BYTES_PER_VALUE * once(graph, ("values", batch), lambda: _values(graph, batch))
    if batch_bytes > limits.batch_bytes:
        problems.append(
            FieldProblem(
                "model.layers",
                f"take {batch_bytes:,} bytes for a batch of {batch} rows of {_features(graph)} features, more than the "
                f"limit of {limits.batch_bytes:,}; {_widest(graph)!r} takes most. A smaller training.batch_size takes "
                "less",
            )
        )
    if parameters == 0:
        problems.append(FieldProblem("model.layers", "has no parameters to train: at least one linear layer is needed"))
    if parameters > limits.parameters:
        problems.append(
            FieldProblem(
                "model.layers",
                f"has {parameters:,} parameters, more than the limit of {limits.parameters:,}; "
                f"{_largest(graph)!r} has most",
            )
        )


def check_normalization(graph: Graph, batch: int, shards: int, problems: list[FieldProblem], once: Once) -> None:
    """Check that no layer normalizes over a single value, which is 0 afterwards whatever it was."""
    layers = once(graph, "normalizing", lambda: normalizing(graph))
    single = [name for name, values in normalized_values(graph, batch, shards, layers).items() if values == 1]
    if single:
        fewer = f", or training.shards at most {batch // 2}" if batch > 1 else ""
        problems.append(
            FieldProblem(
                "training.batch_size",
                f"of {counted(batch, 'row')} has {counted(shards, 'shard')}, so that {', '.join(single)} normalizes "
                f"one value of each feature: must be at least {2 * shards}{fewer}",
            )
        )


def parameters_of(graph: Graph) -> int:
    """Number of the trained parameters."""
    return sum(prod(declaration.shape) for declaration in graph.parameters() if not declaration.statistic)


def _values(graph: Graph, batch: int) -> int:
    """Number of all values of a forward pass."""
    return sum(prod(shape) for shape in graph.shapes(batch).values())


def _features(graph: Graph) -> int:
    """Numbers of a row that the model reads."""
    return prod(graph.shapes(1)["features"])


def _largest(graph: Graph) -> str:
    """The layer with the most parameters."""
    counts: Counter[str] = Counter()
    for declared in graph.parameters():
        counts[declared.name.rpartition(".")[0]] += prod(declared.shape)
    return counts.most_common(1)[0][0]


def _widest(graph: Graph) -> str:
    """The layer with the most values."""
    shapes = graph.shapes()
    return max(graph.nodes, key=lambda name: prod(shapes[name]))
