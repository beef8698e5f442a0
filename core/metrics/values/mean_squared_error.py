"""Mean squared error."""

from typing import ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.values.differences import SquaredDifferences


class MeanSquaredErrorMetric(TallyMetric):
    """The mean over rows and targets of `(prediction - target)²`. It is scikit-learn's `mean_squared_error`."""

    type: ClassVar[str] = "mean_squared_error"
    tasks: ClassVar[frozenset[Task]] = frozenset({"regression"})
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = SquaredDifferences()

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums.mean() / rows)
