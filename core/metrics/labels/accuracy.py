"""Accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import predict

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


class CorrectRows(Tally):
    """The number of rows whose label is predicted."""

    def columns(self, outputs: int) -> int:
        return 1

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        sums[0] += xp.count_nonzero(xp.equal(predict(xp, predictions), truth))


class Accuracy(TallyMetric):
    """The share of rows whose label is predicted. It is scikit-learn's `accuracy_score`."""

    type: ClassVar[str] = "accuracy"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = CorrectRows()
    in_training: ClassVar[bool] = True

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums[0] / rows)
