"""The sum of squared differences."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss


class SquaredError(ValueLoss):
    """`sum (x - t)²` per sample, without a factor 1/2: predictions x and targets t (batch, ...), to (batch,).

    With n entries per sample, it is n times PyTorch's `MSELoss`, which is a mean over all entries; see also
    `mean_squared_error`.

    The derivative is `2 (x - t)`. Source: the lecture's sum of squared differences.
    """

    type: ClassVar[str] = "squared_error"

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        xp.square(difference, out=value)
        xp.multiply(difference, 2, out=slope)
