"""The mean of the hinge loss, with its default settings."""

from typing import ClassVar

from core.graph.node import Loss, Task
from core.losses.hinge import Hinge
from core.metrics.base import LossMetric


class HingeMetric(LossMetric):
    """The mean of the hinge loss with its default settings, whatever the loss of the job.

    With K classes it is K times PyTorch's `MultiMarginLoss`. scikit-learn's `hinge_loss` is of the other form: only the
    largest term counts.
    """

    type: ClassVar[str] = "hinge"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification"})
    loss: ClassVar[Loss] = Hinge()
