"""How features are scaled on their way into a plan: by given numbers, or their statistics over the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.splitting import Rows

Totals = NDArray[np.float64]

BLOCK = 2**20  # numbers of float64 that are in memory at once


@dataclass(frozen=True)
class Scaling:
    """What is subtracted from each feature, and what it is then divided by: float32 of shape (features,)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def standardization(features: NDArray[Any], rows: Rows) -> Scaling:
    """Mean and standard deviation of each feature over the given rows, computed in float64, block by block.

    A feature that never changes gets the deviation 1, so that it becomes 0 and not NaN.
    """
    mean = _totals(features, rows, lambda values: values) / len(rows)
    squares = _totals(features, rows, lambda values: np.square(values - mean))
    deviation = np.sqrt(squares / len(rows)).astype(np.float32)
    deviation[deviation == 0] = 1
    return Scaling(mean.astype(np.float32), deviation)


def _totals(features: NDArray[Any], rows: Rows, of: Callable[[Totals], Totals]) -> Totals:
    """Sum `of` the rows' values in float64, feature by feature, with the bits that NumPy's sum of all rows has."""
    count = max(1, BLOCK // features.shape[1])
    # NumPy adds rows one after another: the sum so far goes first among the next rows.
    total: Totals = of(features[rows[:count]].astype(np.float64)).sum(axis=0)
    for start in range(count, len(rows), count):
        block = of(features[rows[start : start + count]].astype(np.float64))
        total = np.concatenate([total[None], block]).sum(axis=0)
    return total
