"""Precision."""

from typing import ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import LabelCounts, macro, ratio


class Precision(TallyMetric):
    """The share of the rows predicted as a label that have it: of label 1 of two classes, else the mean over labels.

    It is 0 for a label that is never predicted. In classification, classes that occur neither in the truth nor in the
    predictions are left out of the mean. It is scikit-learn's `precision_score`, with `average="binary"` for two
    classes, whether the model has one score or two, and else with `average="macro"`.
    """

    type: ClassVar[str] = "precision"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = LabelCounts()

    def value(self, sums: Sums, rows: int) -> float:
        table = sums.reshape(4, -1)
        hits, _, false, _ = table
        return macro(ratio(hits, hits + false), table)
