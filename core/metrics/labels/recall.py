"""Recall."""

from typing import ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import LabelCounts, macro, ratio


class Recall(TallyMetric):
    """The share of the rows of a label that are predicted as it: of label 1 of two classes, else the mean over labels.

    It is 0 for a label without rows. In classification, classes that occur neither in the truth nor in the predictions
    are left out of the mean. It is scikit-learn's `recall_score`, with `average="binary"` for two classes, whether the
    model has one score or two, and else with `average="macro"`.
    """

    type: ClassVar[str] = "recall"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = LabelCounts()

    def value(self, sums: Sums, rows: int) -> float:
        table = sums.reshape(4, -1)
        hits, missed, _, _ = table
        return macro(ratio(hits, hits + missed), table)
