"""The smooth L1 loss."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss
from core.registry import hyperparameter


class SmoothL1(ValueLoss):
    """`sum h(x - t)` per sample, where `h(d) = d² / (2 beta)` if |d| <= beta, and `|d| - beta / 2` otherwise.

    Predictions x and targets t (batch, ...), to (batch,). h is computed as `c (d - c beta / 2)`, where
    `c = min(max(d / beta, -1), 1)` is its derivative. This is the Huber loss divided by its delta, and PyTorch's
    `SmoothL1Loss`, but the sum over the n entries of a sample instead of the mean: n times as much.

    Source: Girshick, "Fast R-CNN", ICCV 2015, equation 3, where beta is 1.
    """

    type: ClassVar[str] = "smooth_l1"

    beta: float = hyperparameter(default=1.0, doc="The absolute difference above which the loss is linear.", gt=0)

    def kinks(self) -> tuple[float, ...]:
        return (-self.beta, self.beta)

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        xp.divide(difference, self.beta, out=slope)
        xp.minimum(slope, 1, out=slope)
        xp.maximum(slope, -1, out=slope)
        xp.multiply(slope, -0.5 * self.beta, out=value)
        xp.add(value, difference, out=value)
        xp.multiply(value, slope, out=value)
