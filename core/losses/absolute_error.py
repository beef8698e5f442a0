"""The sum of absolute differences."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss


class AbsoluteError(ValueLoss):
    """`sum |x - t|` per sample: predictions x and targets t (batch, ...), to (batch,).

    The derivative is `sign(x - t)`; a difference of 0 has gradient 0.

    Source: the lecture's sum of absolute differences.
    """

    type: ClassVar[str] = "absolute_error"

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        """Write `|d|` and its sign."""
        xp.abs(difference, out=value)
        xp.sign(difference, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which predictions exceed their targets."""
        above: Array = xp.greater(*inputs)
        return above
