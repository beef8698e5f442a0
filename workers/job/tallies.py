"""What metrics count of the rows, as columns of a table with a row for each shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import TargetMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from core import Tally, TallyMetric
    from core.arrays import Array, Namespace

    Table = npt.NDArray[np.float64]


class Tallies:
    """The tallies of metrics, each of them once, in the columns from `first` to `stop` (exclusive) of a table.

    The columns before `first` are sums.
    """

    def __init__(self, metrics: Sequence[TallyMetric], outputs: int, first: int) -> None:
        self.first = self.stop = first
        self._metrics = metrics
        self._columns: dict[Tally, slice] = {}
        for metric in metrics:
            if metric.tally not in self._columns:
                start, self.stop = self.stop, self.stop + metric.tally.columns(outputs)
                self._columns[metric.tally] = slice(start, self.stop)
        self._largest = [columns for tally, columns in self._columns.items() if tally.combine == "max"]

    def add(self, xp: Namespace, predictions: Array, truth: Array, figures: Array) -> None:
        """Combine what the rows of a batch contribute with a row of the table, in place."""
        for tally, columns in self._columns.items():
            tally.add(xp, predictions, truth, figures[columns])

    def combine(self, table: Table) -> Table:
        """Combine all rows of the table, in order."""
        combined: Table = table.sum(axis=0)
        for columns in self._largest:
            table[:, columns].max(axis=0, out=combined[columns])
        return combined

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def values(self, combined: Table, rows: int) -> dict[str, float]:
        """Values of the metrics over so many rows, by type."""
        return {metric.type: metric.value(combined[self._columns[metric.tally]], rows) for metric in self._metrics}

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")
    def per_target(self, combined: Table, rows: int) -> dict[str, list[float]]:
        """Values of each target, in order, by type; of those metrics that each target has."""
        return {
            metric.type: metric.of_each(combined[self._columns[metric.tally]], rows).tolist()
            for metric in self._metrics
            if isinstance(metric, TargetMetric)
        }
