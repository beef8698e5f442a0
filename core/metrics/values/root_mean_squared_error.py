"""Root mean squared error."""

from typing import ClassVar

import numpy as np

from core.metrics.base import Sums, Tally, TargetMetric
from core.metrics.values.differences import SquaredDifferences


class RootMeanSquaredError(TargetMetric):
    """The square root of the mean over rows of `(prediction - target)²`; the mean of these over several targets.

    It is in the unit of the targets. It is scikit-learn's `root_mean_squared_error`. With several targets, it is not
    the square root of `mean_squared_error`.
    """

    type: ClassVar[str] = "root_mean_squared_error"
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = SquaredDifferences()

    def of_each(self, sums: Sums, rows: int) -> Sums:
        each: Sums = np.sqrt(sums / rows)
        return each
