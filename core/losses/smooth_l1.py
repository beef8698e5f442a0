"""The smooth L1 loss."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss
from core.registry import hyperparameter


class SmoothL1(ValueLoss):
    """`sum h(x - t)` per sample, `h(d) = d² / (2 beta)` up to |d| = beta and `|d| - beta / 2` beyond.

    Predictions x and targets t (batch, ...), to (batch,). With `c = min(max(d / beta, -1), 1)` the value is
    `c (d - c beta / 2)` and the derivative c: Huber's loss divided by its delta. PyTorch's `SmoothL1Loss`, summed over
    the entries of a sample.

    Source: Girshick, "Fast R-CNN", ICCV 2015, equation 3, where beta is 1.
    """

    type: ClassVar[str] = "smooth_l1"

    beta: float = hyperparameter(default=1.0, doc="The difference from which on the loss grows linearly.", gt=0)

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        """Write `c (d - c beta / 2)` and c."""
        xp.divide(difference, self.beta, out=slope)
        xp.minimum(slope, 1, out=slope)
        xp.maximum(slope, -1, out=slope)
        xp.multiply(slope, -0.5 * self.beta, out=value)
        xp.add(value, difference, out=value)
        xp.multiply(value, slope, out=value)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which differences are beyond beta; the second derivative jumps there."""
        beyond: Array = xp.abs(xp.subtract(*inputs)) > self.beta
        return beyond
