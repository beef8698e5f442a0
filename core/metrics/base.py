"""Base classes of the metrics: figures of a model's predictions on many rows.

Predictions are float (rows, outputs). The truth is int64 labels (rows,) for `classification` and `binary`, and float
(rows, outputs) for `multilabel`, where it is 0 or 1, and `regression`. In a `binary` job there is one output, the score
of label 1, which is predicted if its score is greater than 0. In a `multilabel` job this holds for each label.

If a prediction is NaN, metrics of values and of rankings are NaN. Metrics of predicted labels count rows, and a row
with a NaN counts for the label that NumPy's `argmax` finds, or, with one score per label, for label 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from core.graph.node import Loss, Task
from core.registry import Registered

if TYPE_CHECKING:
    from core.arrays import Array, Namespace

Sums: TypeAlias = npt.NDArray[np.float64]


class Metric(Registered):
    """A figure of predictions. Its series are named after its `type`: `val/<type>`, and `train/<type>`."""

    kind: ClassVar[str] = "metric"
    #: the tasks in which it is computed
    tasks: ClassVar[frozenset[Task]]
    higher_is_better: ClassVar[bool]

    def fits(self, outputs: int) -> bool:
        """Whether it says anything about a model with this many outputs."""
        return True


class Tally:
    """What metrics need of the rows: float64 numbers that are combined over batches and shards.

    Equal tallies are made once and used by several metrics, so a subclass with fields is a frozen dataclass.
    """

    #: how the numbers of two sets of rows are combined
    combine: ClassVar[Literal["sum", "max"]] = "sum"

    def columns(self, outputs: int) -> int:
        """Return the number of its numbers for a model with this many outputs."""
        raise NotImplementedError

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        """Combine the numbers of a batch with `sums`, (columns,), in place. These are 0 before the first batch."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).items()))


class TallyMetric(Metric):
    """A metric that follows from a tally, so that each worker contributes the numbers of its shards."""

    tally: ClassVar[Tally]
    #: whether it is also computed of each batch in training, where it must cost next to nothing
    in_training: ClassVar[bool] = False

    def value(self, sums: Sums, rows: int) -> float:
        """Return the value over all rows, of which there is at least one."""
        raise NotImplementedError


class TargetMetric(TallyMetric):
    """A metric that each target has; the value of several targets is the mean of theirs."""

    tasks: ClassVar[frozenset[Task]] = frozenset({"regression"})

    def of_each(self, sums: Sums, rows: int) -> Sums:
        """Return the value of each target (targets,) over all rows, of which there is at least one."""
        raise NotImplementedError

    def value(self, sums: Sums, rows: int) -> float:
        return float(self.of_each(sums, rows).mean())


class LossMetric(Metric):
    """The mean of a loss with its default settings, so that models that were trained with others can be compared."""

    loss: ClassVar[Loss]
    higher_is_better: ClassVar[bool] = False


class RankingMetric(Metric):
    """A metric that depends on the order of all rows, so that it is computed once, at the end of training."""

    def value(self, predictions: npt.NDArray[np.floating], truth: npt.NDArray[np.generic]) -> float:
        """Return the value over all rows; NaN where it is not defined."""
        raise NotImplementedError
