"""Top-5 accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Task
from core.metrics.base import Sums, Tally, TallyMetric

if TYPE_CHECKING:
    from core.arrays import Array, Namespace

K = 5


class RowsInTop5(Tally):
    """The number of rows whose label has one of the 5 highest scores."""

    def columns(self, outputs: int) -> int:
        return 1

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        rows, outputs = predictions.shape
        classes = xp.arange(outputs)
        own = xp.take(predictions, truth + xp.arange(rows) * outputs).reshape(rows, 1)
        # Scores that are surely behind that of the label, or this itself. A NaN is never behind, nor is any score
        # behind it, so that a row of NaN does not count as right.
        equal = xp.equal(predictions, own) * xp.greater_equal(truth.reshape(rows, 1), classes)
        behind = xp.count_nonzero(equal + xp.greater(own, predictions), axis=1)
        sums[0] += xp.count_nonzero(xp.greater(behind, outputs - K))


class Top5Accuracy(TallyMetric):
    """The share of rows whose label has one of the 5 highest scores, for models of more than 5 classes.

    Of equal scores, that of the later class is the higher one, as in scikit-learn's `top_k_accuracy_score`, which this
    is with k = 5. `accuracy` takes the first of equal scores.
    """

    type: ClassVar[str] = "top_5_accuracy"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification"})
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = RowsInTop5()

    def fits(self, outputs: int) -> bool:
        return outputs > K

    def value(self, sums: Sums, rows: int) -> float:
        return float(sums[0] / rows)
