"""Precision."""

from typing import ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import LabelCounts, macro, ratio


class Precision(TallyMetric):
    """The share of the rows predicted as a label that have it: the mean over labels, or of label 1 in binary tasks.

    It is 0 for a label that is never predicted. In classification, classes that occur neither in the truth nor in the
    predictions are left out of the mean. It is scikit-learn's `precision_score`, with `average="macro"` unless binary.
    """

    type: ClassVar[str] = "precision"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = LabelCounts()

    def value(self, sums: Sums, rows: int) -> float:
        table = sums.reshape(4, -1)
        hits, _, false, _ = table
        return macro(ratio(hits, hits + false), table)
