"""Mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


class SquaredDifferences(Tally):
    """The sum of squared differences of each target."""

    def columns(self, outputs: int) -> int:
        return outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        sums += xp.square(xp.subtract(predictions, truth, dtype=np.float64)).sum(axis=0)


class MeanSquaredErrorMetric(TallyMetric):
    """The mean over rows and targets of `(prediction - target)²`. It is scikit-learn's `mean_squared_error`."""

    type: ClassVar[str] = "mean_squared_error"
    tasks: ClassVar[frozenset[Task]] = frozenset({"regression"})
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = SquaredDifferences()

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums.mean() / rows)
