"""The mean of squared differences."""

from math import prod
from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss


class MeanSquaredError(ValueLoss):
    """`(1/n) sum (x - t)²` per sample of n entries: predictions x and targets t (batch, ...), to (batch,).

    The derivative is `2 (x - t) / n`. The mean over the samples is PyTorch's `MSELoss`.
    """

    type: ClassVar[str] = "mean_squared_error"

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        entries = prod(difference.shape[1:])
        xp.square(difference, out=value)
        xp.divide(value, entries, out=value)
        xp.multiply(difference, 2, out=slope)
        xp.divide(slope, entries, out=slope)
