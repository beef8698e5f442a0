"""The mean of softmax cross-entropy, with its default settings."""

from typing import ClassVar

from core.graph.node import Loss, Task
from core.losses.softmax import SoftmaxCrossEntropy
from core.metrics.base import LossMetric


class SoftmaxMetric(LossMetric):
    """The mean of softmax cross-entropy with its default settings, whatever the loss of the job.

    It is scikit-learn's `log_loss` of the softmax probabilities, and PyTorch's `CrossEntropyLoss` of the scores.
    """

    type: ClassVar[str] = "softmax"
    tasks: ClassVar[frozenset[Task]] = frozenset({"classification"})
    loss: ClassVar[Loss] = SoftmaxCrossEntropy()
