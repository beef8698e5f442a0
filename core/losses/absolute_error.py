"""The sum of absolute differences."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss


class AbsoluteError(ValueLoss):
    """`sum |x - t|` per sample: predictions x and targets t (batch, ...), to (batch,).

    With n entries per sample, it is n times PyTorch's `L1Loss`, which is a mean over all entries.

    The derivative is `sign(x - t)`, which is 0 where x = t.

    Source: the lecture's sum of absolute differences.
    """

    type: ClassVar[str] = "absolute_error"

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        xp.abs(difference, out=value)
        xp.sign(difference, out=slope)
