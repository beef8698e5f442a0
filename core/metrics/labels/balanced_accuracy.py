"""Balanced accuracy."""

from typing import ClassVar

import numpy as np

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric
from core.metrics.labels.counts import LabelCounts


class BalancedAccuracy(TallyMetric):
    """The mean over classes of the share of their rows that are predicted rightly.

    Classes without rows are left out of the mean. It is scikit-learn's `balanced_accuracy_score`.
    """

    type: ClassVar[str] = "balanced_accuracy"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = LabelCounts()

    def value(self, sums: Sums, rows: int) -> float:
        hits, missed, false, rest = sums.reshape(4, -1)
        if len(hits) <= 2:
            # Of two classes only label 1 is counted; its true negatives are the hits of label 0.
            hits, missed = np.array([rest[-1], hits[-1]]), np.array([false[-1], missed[-1]])
        present = hits + missed > 0
        return float((hits[present] / (hits + missed)[present]).mean())
