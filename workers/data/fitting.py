"""What the preparation of a table needs of the training rows, such as medians and the categories that occur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.tables.preparation import NOWHERE, Preparation, Preparer
from core.tables.treatments import NumberTreatment
from workers.data.scaling import Scaling, standardization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.tables.treatments import CategoryTreatment, Treatment
    from workers.data.splitting import Rows

CHUNK = 2**20  # numbers in memory at the same time, or those of one column

Numbers = NDArray[np.float32]


def fit(treatments: tuple[Treatment, ...], features: NDArray[Any], rows: Rows) -> Preparation:
    """Compute what a preparation needs, over the given rows of a table's features (rows, raw width): those to train on.

    Of equally frequent numbers the smallest one is the most frequent one, and of categories the first one. A number
    that is missing in all of these rows is imputed with 0. A category that none of these rows has is unseen.
    """
    columns = _columns(features, rows)
    fill, place = list[float](), list[NDArray[np.int32]]()
    for treatment in treatments:
        if isinstance(treatment, NumberTreatment):
            fill += [_fill(treatment.impute, next(columns)) for _ in range(treatment.column.width)]
        else:
            place.append(_places(treatment, next(columns)))
    # Adding 0 turns -0, which is as frequent and as large as 0, into 0.
    imputed = Preparation(
        treatments,
        np.array(fill, np.float32) + np.float32(0),
        np.zeros(len(fill), np.float32),
        np.ones(len(fill), np.float32),
        np.concatenate(place) if place else np.zeros(0, np.int32),
    )
    if not fill:
        return imputed
    scaling = _scaling(imputed, features, rows)
    return Preparation.of(treatments, imputed.tensors | {"mean": scaling.mean, "deviation": scaling.deviation})


def _columns(features: NDArray[Any], rows: Rows) -> Iterator[Numbers]:
    """The numbers of the rows, column by column."""
    count = max(1, CHUNK // len(rows))
    for start in range(0, features.shape[1], count):
        yield from features[rows, start : start + count].astype(np.float32, copy=False).T


def _fill(impute: str | float, values: Numbers) -> float:
    """What replaces a missing number."""
    if not isinstance(impute, str):
        return impute
    present = values[~np.isnan(values)]
    if not len(present):
        return 0.0
    match impute:
        case "mean":
            return float(present.sum(dtype=np.float64)) / len(present)
        case "median":
            middle = (len(present) - 1) // 2, len(present) // 2
            return float(np.partition(present, middle)[[*middle]].mean(dtype=np.float64))
        case "most_frequent":
            different, counts = np.unique(present, return_counts=True)
            return float(different[counts.argmax()])
        case _:
            raise ValueError(f"unknown way to impute numbers: {impute!r}")


def _places(treatment: CategoryTreatment, codes: Numbers) -> NDArray[np.int32]:
    """The places of the categories, of other values and of missing ones, see `Preparation`."""
    categories = treatment.column.categories
    absent = np.isnan(codes)
    seen = np.bincount(codes[~absent].astype(np.int64), minlength=len(categories) + 1)[: len(categories)]
    unseen = len(categories) if treatment.encode == "index" else NOWHERE
    imputed = None
    if treatment.impute == "most_frequent":
        imputed = int(seen.argmax()) if seen.any() else None
    elif treatment.impute is not None:
        imputed = categories.index(treatment.impute)
        seen[imputed] += np.count_nonzero(absent)
    places = np.full(len(categories) + 2, unseen, np.int32)
    places[:-2] = np.where(seen > 0, np.arange(len(categories)), unseen)
    if imputed is not None:
        places[-1] = places[imputed]
    elif treatment.missing_has_place and absent.any():
        places[-1] = len(categories)
    return places


def _scaling(imputed: Preparation, features: NDArray[Any], rows: Rows) -> Scaling:
    """What is subtracted from the numbers and then divides them; `imputed` does not scale them."""
    scales = np.array(
        [
            treatment.scale
            for treatment in imputed.treatments
            if isinstance(treatment, NumberTreatment)
            for _ in range(treatment.column.width)
        ]
    )
    preparer = Preparer(imputed)
    mean, deviation = imputed.mean, imputed.deviation
    ways: dict[str, Callable[[], Scaling]] = {
        "standard": lambda: standardization(features, rows, preparer.unscaled),
        "minmax": lambda: _range(features, rows, preparer),
    }
    for scale, compute in ways.items():
        chosen = scales == scale
        if chosen.any():
            found = compute()
            mean, deviation = np.where(chosen, found.mean, mean), np.where(chosen, found.deviation, deviation)
    return Scaling(mean, deviation)


def _range(features: NDArray[Any], rows: Rows, preparer: Preparer) -> Scaling:
    """The smallest number, and the difference of the largest one from it, or 1 if they are equal."""
    numbers = len(preparer.unscaled(features, rows[:1])[0])
    low, high = np.full(numbers, np.inf, np.float32), np.full(numbers, -np.inf, np.float32)
    count = max(1, CHUNK // features.shape[1])
    for start in range(0, len(rows), count):
        values = preparer.unscaled(features, rows[start : start + count])
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    width = np.subtract(high, low, dtype=np.float64).astype(np.float32)
    width[width == 0] = 1
    return Scaling(low, width)
