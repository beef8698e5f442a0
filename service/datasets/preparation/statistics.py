"""Statistics of each feature, from one pass over the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 4 * 1024 * 1024


class RunningStatistics:
    """Mean, variance and range of each feature, updated by chunks of rows.

    Each chunk's own mean and sum of squared differences are merged into those of the rows before it (Chan, Golub and
    LeVeque, 1983): the sum of squares less the square of the sum would lose all digits where the mean is large.
    """

    def __init__(self, width: int) -> None:
        self._count = np.zeros(width)
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)
        self._min = np.full(width, np.inf)
        self._max = np.full(width, -np.inf)

    def update(self, rows: NDArray[Any]) -> None:
        """Add rows (rows, width); NaN is a missing number."""
        step = max(1, CHUNK_BYTES // max(1, 8 * rows.shape[1]))
        for start in range(0, len(rows), step):
            self._merge(rows[start : start + step])

    def _merge(self, rows: NDArray[Any]) -> None:
        np.fmin(self._min, np.fmin.reduce(rows, axis=0), out=self._min)
        np.fmax(self._max, np.fmax.reduce(rows, axis=0), out=self._max)
        values = rows.astype(np.float64)
        added = np.full(rows.shape[1], float(len(rows)))
        mean = values.mean(axis=0)
        if np.isnan(mean).any():
            missing = np.isnan(values)
            added -= missing.sum(axis=0)
            mean = np.where(missing, 0, values).sum(axis=0) / np.maximum(added, 1)
            values = np.where(missing, mean, values)
        values -= mean
        count = np.maximum(self._count + added, 1)
        change = mean - self._mean
        self._squares += np.einsum("ij,ij->j", values, values) + change**2 * (self._count * added / count)
        self._mean += change * (added / count)
        self._count += added

    def summary(self) -> dict[str, list[float]]:
        """Mean, standard deviation (of the population), minimum and maximum of each feature, 0 without any number."""
        known = self._count > 0
        return {
            "mean": self._mean.tolist(),
            "std": np.sqrt(self._squares / np.maximum(1, self._count)).tolist(),
            "min": np.where(known, self._min, 0).tolist(),
            "max": np.where(known, self._max, 0).tolist(),
        }
