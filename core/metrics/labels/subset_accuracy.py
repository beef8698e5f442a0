"""Subset accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import marks

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


class CorrectSets(Tally):
    """The number of rows for which every label is predicted rightly."""

    def columns(self, outputs: int) -> int:
        return 1

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        wrong = xp.count_nonzero(xp.not_equal(marks(xp, predictions), truth), axis=1)
        sums[0] += xp.count_nonzero(xp.equal(wrong, 0))


class SubsetAccuracy(TallyMetric):
    """The share of rows for which every label is predicted rightly: present if its score is above 0, else absent.

    It is scikit-learn's `accuracy_score` of several labels.
    """

    type: ClassVar[str] = "subset_accuracy"
    tasks: ClassVar[frozenset[Task]] = frozenset({"multilabel"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = CorrectSets()
    in_training: ClassVar[bool] = True

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums[0] / rows)
