"""The soft margin loss."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.labels import SignedLoss
from core.losses.sigmoid_cross_entropy import write_logistic


class SoftMargin(SignedLoss):
    """`log(1 + exp(-z))` per sample, z being s where the label is 1 and -s where it is 0.

    Scores (batch,) or (batch, 1), labels (batch,), to (batch,). It is sigmoid cross-entropy under the name that it has
    for two classes in Torch, where labels are 1 and -1. The derivative by z is `-1 / (1 + exp(z))`.
    """

    type: ClassVar[str] = "soft_margin"

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        """Write `log(1 + exp(-z))` and its derivative."""
        write_logistic(xp, z, value, slope)
