"""What the `data` section of a job spec means for a dataset: which rows, and how they are scaled and augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workers.data.augmenting import Augmentations
from workers.data.dataset import open_dataset, open_splits
from workers.data.fitting import fit
from workers.data.scaling import Scaling, standardization
from workers.data.splitting import split, split_by_value, validation_rows
from workers.job.preparation import are_prepared, treatments_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core.tables.preparation import Preparation
    from workers.data.dataset import DatasetInfo
    from workers.data.splitting import Rows
    from workers.job.spec import JobSpec, ScaleSpec


def split_sizes(spec: JobSpec, dataset: DatasetInfo) -> tuple[int, int]:
    """Number of rows that the job trains on, and of rows that it is validated on."""
    if spec.data.split is None:
        validation = validation_rows(dataset.rows, spec.data.validation)
        return dataset.rows - validation, validation
    train, validation = (
        sum(count for value, count in dataset.splits.items() if value in values)
        for values in (spec.data.split.train, spec.data.split.validation)
    )
    return train, validation


def split_rows(spec: JobSpec, dataset: DatasetInfo, truth: NDArray[Any]) -> tuple[Rows, Rows]:
    """Numbers of the rows that the job trains on, and of those that it is validated on.

    `truth` has the labels or targets of all rows. Raises `DatasetError` if the split column is needed and cannot be
    read.
    """
    if spec.data.split is not None:
        position = {value: index for index, value in enumerate(dataset.splits)}
        train, validation = (
            [position[value] for value in values] for values in (spec.data.split.train, spec.data.split.validation)
        )
        return split_by_value(open_splits(dataset), train, validation)
    return split(len(truth), spec.data.validation, spec.training.seed, truth if spec.data.stratify else None)


def augmentations_of(spec: JobSpec, shape: tuple[int, ...] | None) -> Augmentations | None:
    """The random changes that the job makes to its rows, images of `shape`; None without any."""
    changes = tuple(spec.data.augmentation)
    return Augmentations(changes, shape, spec.training.seed) if changes and shape else None


def preparation_of(spec: JobSpec, dataset: DatasetInfo) -> Preparation | None:
    """How the job prepares its rows; None if it scales them at most. Raises `DatasetError` if they cannot be read."""
    treatments = treatments_of(spec.data, dataset.columns)
    if not treatments:
        return None
    features, truth = open_dataset(dataset)
    train, _ = split_rows(spec, dataset, truth)
    return fit(treatments, features, train)


def scaling_of(spec: JobSpec, dataset: DatasetInfo) -> Scaling | None:
    """How the job scales its rows; None if it does not, or prepares them.

    Raises `DatasetError` if the scale depends on the rows and they cannot be read.
    """
    scale = spec.data.scale
    if scale is not None:
        return Scaling(*scale_numbers(scale, dataset.features))
    if not spec.data.standardize or are_prepared(spec.data, dataset.columns):
        return None
    features, truth = open_dataset(dataset)
    train, _ = split_rows(spec, dataset, truth)
    return standardization(features, train)


def scale_numbers(scale: ScaleSpec, features: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is subtracted from each feature, and its divisor."""
    return _repeated(scale.subtract, features), _repeated(scale.divide, features)


def target_scaling_of(spec: JobSpec, dataset: DatasetInfo) -> Scaling | None:
    """How the job scales its targets; None if it does not. Raises `DatasetError` if the rows cannot be read."""
    if not spec.data.standardize_targets:
        return None
    _, targets = open_dataset(dataset)
    train, _ = split_rows(spec, dataset, targets)
    return standardization(targets, train)


def _repeated(numbers: float | list[float], features: int) -> NDArray[np.float32]:
    """Repeat one number, or one for each channel, so that there is one for each feature of a row."""
    given = np.atleast_1d(np.array(numbers, np.float32))
    return np.tile(given, features // len(given))
