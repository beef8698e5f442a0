"""The area under the ROC curve."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from core.graph.node import Task
from core.metrics.base import RankingMetric
from core.metrics.labels.ranking import Numbers, mean_over_labels, positives_at_least


class ROCAUC(RankingMetric):
    """The area under the ROC curve: the share of pairs of rows, one of a label and one not, in which it scores higher.

    Pairs of equal scores count half. With two classes it is that of label 1, ranked by the score or, with two scores,
    by its softmax probability. With more, each class is ranked by its softmax probability, against the rest, and the
    value is the mean over the classes; in multilabel tasks, the mean over the labels. Labels that all rows have, or
    none, are left out of the mean, and NaN results if no label remains. It is scikit-learn's `roc_auc_score`, with
    `multi_class="ovr"`, which raises an error or gives NaN in these cases.
    """

    type: ClassVar[str] = "roc_auc"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification", "binary", "multilabel"})
    higher_is_better: ClassVar[bool] = True

    def value(self, predictions: npt.NDArray[np.floating], truth: npt.NDArray[np.generic]) -> float:
        return mean_over_labels(_area, predictions, truth)


def _area(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    if positive.all() or not positive.any():
        return np.nan
    hits, false = positives_at_least(scores, positive)
    # Twice the number of pairs, so that it is whole.
    pairs = (np.diff(false, prepend=0) * (hits + np.append(0, hits[:-1]))).sum()
    return float(pairs / (2 * hits[-1] * false[-1]))
