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
        self.count = 0
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)
        self._min = np.full(width, np.inf)
        self._max = np.full(width, -np.inf)

    def update(self, rows: NDArray[Any]) -> None:
        """Add rows (rows, width)."""
        step = max(1, CHUNK_BYTES // max(1, 8 * rows.shape[1]))
        for start in range(0, len(rows), step):
            self._merge(rows[start : start + step])

    def _merge(self, rows: NDArray[Any]) -> None:
        np.minimum(self._min, rows.min(axis=0), out=self._min)
        np.maximum(self._max, rows.max(axis=0), out=self._max)
        values = rows.astype(np.float64)
        mean = values.mean(axis=0)
        values -= mean
        count = self.count + len(rows)
        change = mean - self._mean
        self._squares += np.einsum("ij,ij->j", values, values) + change**2 * (self.count * len(rows) / count)
        self._mean += change * (len(rows) / count)
        self.count = count

    def summary(self) -> dict[str, list[float]]:
        """Mean, standard deviation (of the population), minimum and maximum of each feature."""
        return {
            "mean": self._mean.tolist(),
            "std": np.sqrt(self._squares / max(1, self.count)).tolist(),
            "min": self._min.tolist(),
            "max": self._max.tolist(),
        }
