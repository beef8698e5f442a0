"""Mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.metrics.base import Sums, Tally, TargetMetric
from core.metrics.values.differences import differences

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


class AbsoluteDifferences(Tally):
    """The sum of absolute differences of each target."""

    def columns(self, outputs: int) -> int:
        return outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        xp.add(sums, xp.abs(differences(xp, predictions, truth)).sum(axis=0), out=sums)


class MeanAbsoluteError(TargetMetric):
    """The mean over rows and targets of `|prediction - target|`, in the unit of the targets.

    It is scikit-learn's `mean_absolute_error`.
    """

    type: ClassVar[str] = "mean_absolute_error"
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = AbsoluteDifferences()

    def of_each(self, sums: Sums, rows: int) -> Sums:
        return sums / rows
