"""Average precision."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from core.graph.node import Task
from core.metrics.base import RankingMetric
from core.metrics.labels.ranking import Numbers, mean_over_labels, positives_at_least


class AveragePrecision(RankingMetric):
    """`sum_n (r_n - r_(n-1)) p_n`, with precision p_n and recall r_n at each distinct score, from the highest down.

    With two classes it is that of label 1, ranked by the score or, with two scores, by its softmax probability. With
    more, each class is ranked by its softmax probability, against the rest, and the value is the mean over the classes;
    in multilabel tasks, the mean over the labels. Labels without rows are left out of the mean, and NaN results if no
    label remains. It is scikit-learn's `average_precision_score`, in which labels without rows count 0.
    """

    type: ClassVar[str] = "average_precision"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    higher_is_better: ClassVar[bool] = True

    def value(self, predictions: npt.NDArray[np.floating], truth: npt.NDArray[np.generic]) -> float:
        return mean_over_labels(_average, predictions, truth)


def _average(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    if not positive.any():
        return np.nan
    hits, false = positives_at_least(scores, positive)
    return float((np.diff(hits, prepend=0) * hits / (hits + false)).sum() / hits[-1])
