"""Maximum error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
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


class MaxError(TallyMetric):
    """The largest `|prediction - target|` of all rows and targets, in the unit of the targets.

    It is scikit-learn's `max_error`, which does not take several targets.
    """

    type: ClassVar[str] = "max_error"
    tasks: ClassVar[frozenset[Task]] = frozenset({"regression"})
    higher_is_better: ClassVar[bool] = False
    tally: ClassVar[Tally] = LargestDifferences()

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums.max())
