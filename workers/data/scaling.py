"""Scaling of features and targets, by given numbers or by statistics over the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workers.data.splitting import Rows

if TYPE_CHECKING:
    from core import Array, Namespace

Totals = NDArray[np.float64]
# Reads some rows of features: (rows, numbers).
Read: TypeAlias = Callable[[NDArray[Any], Rows], NDArray[Any]]

CHUNK = 2**20  # float64 numbers in memory at the same time
# A mean, a standard deviation or its inverse, beyond which targets are far from those that defaults are made for.
FAR = 10.0


@dataclass(frozen=True)
class Scaling:
    """Number that is subtracted from each column, and its divisor: float32 of shape (columns,)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def apply(self, values: NDArray[np.float32]) -> None:
        """Scale values (rows, columns) in place. The result is computed in float64 and rounded once."""
        shifted = np.subtract(values, self.mean, dtype=np.float64)
        np.divide(shifted, self.deviation, out=values, casting="same_kind")

    def undo(self, xp: Namespace, values: Array) -> Array:
        """Return float32 values that are scaled (rows, columns) in their own units, computed like `apply`."""
        mean, deviation = (xp.asarray(each, np.float64) for each in (self.mean, self.deviation))
        own: Array = xp.add(xp.multiply(values, deviation), mean).astype(np.float32)
        return own


def standardization(features: NDArray[Any], rows: Rows, read: Read | None = None) -> Scaling:
    """Mean and standard deviation of each feature or target over the given rows, computed in float64, chunk by chunk.

    With `read`, they are those of the numbers that it returns for some rows. A constant column gets the deviation 1, so
    that it becomes 0 and not NaN.
    """
    read = read or (lambda features, rows: features[rows])
    mean = _totals(features, rows, read, lambda values: values) / len(rows)
    squares = _totals(features, rows, read, lambda values: np.square(values - mean))
    deviation = np.sqrt(squares / len(rows)).astype(np.float32)
    deviation[deviation == 0] = 1
    return Scaling(mean.astype(np.float32), deviation)


def far_from_standard(mean: NDArray[Any], deviation: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which columns have a mean far from 0 or a standard deviation far from 1; constant ones by the mean alone.

    Losses of values grow with the targets' scale, and so do their gradients.
    """
    mean, deviation = np.asarray(mean), np.asarray(deviation)
    far: NDArray[np.bool_] = (np.abs(mean) > FAR) | (deviation > FAR) | ((deviation < 1 / FAR) & (deviation > 0))
    return far


def _totals(features: NDArray[Any], rows: Rows, read: Read, of: Callable[[Totals], Totals]) -> Totals:
    """Sum `of` the values read in float64 for each of them, with the same bits as NumPy's sum of all rows."""
    count = max(1, CHUNK // features.shape[1])
    # NumPy adds rows one after another, so the sum so far is put before the next rows.
    total: Totals = of(read(features, rows[:count]).astype(np.float64)).sum(axis=0)
    for start in range(count, len(rows), count):
        chunk = of(read(features, rows[start : start + count]).astype(np.float64))
        total = np.concatenate([total[None], chunk]).sum(axis=0)
    return total
