"""From the parts of a job spec to the engine's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from core import Augmentation, Clipping, Loss, Optimizer, Part, Penalty, from_spec, part_from_spec
from core.penalties.elastic_net import ElasticNet
from core.penalties.l1 import L1
from core.penalties.l2 import L2
from workers.data.augmenting import Augmentations
from workers.data.dataset import open_dataset, open_splits
from workers.data.scaling import Scaling, standardization
from workers.data.splitting import Blocks, split, split_by_value, validation_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo
    from workers.data.splitting import Rows
    from workers.job.spec import JobSpec


def layers_of(spec: JobSpec) -> list[Part]:
    """Layers of the job's model, from the features to the scores."""
    return [part_from_spec(layer.model_dump()) for layer in spec.model.layers]


def loss_of(spec: JobSpec) -> Loss:
    """The loss that the job minimises."""
    return cast("Loss", from_spec("loss", spec.loss.model_dump()))


def optimizer_of(spec: JobSpec) -> Optimizer:
    """The job's optimiser."""
    return cast("Optimizer", from_spec("optimizer", spec.optimizer.model_dump()))


def penalty_of(spec: JobSpec) -> Penalty | None:
    """The penalty on the job's weights, in the form with the fewest passes over them."""
    l1, l2 = spec.regularization.l1, spec.regularization.l2
    if l1 and l2:
        return ElasticNet(l1, l2)
    if l1:
        return L1(l1)
    return L2(l2) if l2 else None


def part_sizes(spec: JobSpec, dataset: DatasetInfo) -> tuple[int, int]:
    """How many rows the job trains on, and on how many it is validated."""
    if spec.data.split is None:
        validation = validation_rows(dataset.rows, spec.data.validation)
        return dataset.rows - validation, validation
    train, validation = (
        sum(count for value, count in dataset.splits.items() if value in values)
        for values in (spec.data.split.train, spec.data.split.validation)
    )
    return train, validation


def parts_of(spec: JobSpec, dataset: DatasetInfo, labels: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """Numbers of the rows that the job trains on, and of those that it is validated on.

    Raises `DatasetError` where a split column is needed and can not be read.
    """
    if spec.data.split is not None:
        position = {value: index for index, value in enumerate(dataset.splits)}
        train, validation = (
            [position[value] for value in values] for values in (spec.data.split.train, spec.data.split.validation)
        )
        return split_by_value(open_splits(dataset), train, validation)
    return split(len(labels), spec.data.validation, spec.training.seed, labels if spec.data.stratify else None)


def blocks_of(spec: JobSpec) -> Blocks | None:
    """The blocks in which the job's rows are shuffled, if they are."""
    shuffle = spec.data.shuffle
    return Blocks(shuffle.block, shuffle.window) if shuffle.type == "blocks" else None


def augmentations_of(spec: JobSpec, shape: tuple[int, ...] | None) -> Augmentations | None:
    """The random changes that the job makes to its rows, images of that shape, if it makes any."""
    changes = tuple(
        cast("Augmentation", from_spec("augmentation", each.model_dump())) for each in spec.data.augmentation
    )
    return Augmentations(changes, shape, spec.training.seed) if changes and shape else None


def clipping_of(spec: JobSpec) -> Clipping | None:
    """The limit on the job's gradients."""
    clipping = spec.training.clipping
    return cast("Clipping", from_spec("clipping", clipping.model_dump())) if clipping is not None else None


def scaling_of(spec: JobSpec, dataset: DatasetInfo) -> Scaling | None:
    """How a job scales its rows, if it does. Raises `DatasetError` where it needs the rows and they can not be read."""
    scale = spec.data.scale
    if scale is not None:
        return Scaling(*(_repeated(numbers, dataset.features) for numbers in (scale.subtract, scale.divide)))
    if not spec.data.standardize:
        return None
    features, labels = open_dataset(dataset)
    train, _ = parts_of(spec, dataset, labels)
    return standardization(features, train)


def _repeated(numbers: float | list[float], features: int) -> NDArray[np.float32]:
    """One number for each feature of a row, from one, one for each channel, or one for each feature."""
    given = np.atleast_1d(np.array(numbers, np.float32))
    return np.tile(given, features // len(given))
