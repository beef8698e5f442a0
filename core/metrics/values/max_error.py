"""Maximum error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.metrics.base import Sums, Tally, TargetMetric
from core.metrics.values.differences import differences

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


class LargestDifferences(Tally):
    """The largest absolute difference of each target."""

    combine: ClassVar[Literal["sum", "max"]] = "max"

    def columns(self, outputs: int) -> int:
        return outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        if len(predictions):
            xp.maximum(sums, xp.abs(differences(xp, predictions, truth)).max(axis=0), out=sums)


class MaxError(TargetMetric):
    """The largest `|prediction - target|` of all rows and targets, in the unit of the targets.

    It is scikit-learn's `max_error`, which does not take several targets.
    """

    type: ClassVar[str] = "max_error"
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = LargestDifferences()

    def of_each(self, sums: Sums, rows: int) -> Sums:
        return sums

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums.max())
