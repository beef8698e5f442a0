"""Mean squared error."""

from typing import ClassVar

from core.metrics.base import Sums, Tally, TargetMetric
from core.metrics.values.differences import SquaredDifferences


class MeanSquaredErrorMetric(TargetMetric):
    """The mean over rows and targets of `(prediction - target)²`. It is scikit-learn's `mean_squared_error`."""

    type: ClassVar[str] = "mean_squared_error"
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = SquaredDifferences()

    def of_each(self, sums: Sums, rows: int) -> Sums:
        return sums / rows
