"""Huber's loss."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss
from core.registry import hyperparameter


class Huber(ValueLoss):
    """`sum h(x - t)` per sample, `h(d) = d² / 2` up to |d| = delta and `delta (|d| - delta / 2)` beyond.

    Predictions x and targets t (batch, ...), to (batch,). With `c = min(max(d, -delta), delta)` the value is
    `c (d - c / 2)` and the derivative c. PyTorch's `HuberLoss`, summed over the entries of a sample.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
    """

    type: ClassVar[str] = "huber"

    delta: float = hyperparameter(default=1.0, doc="The difference from which on the loss grows linearly.", gt=0)

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        """Write `c (d - c / 2)` and c."""
        xp.minimum(difference, self.delta, out=slope)
        xp.maximum(slope, -self.delta, out=slope)
        xp.multiply(slope, -0.5, out=value)
        xp.add(value, difference, out=value)
        xp.multiply(value, slope, out=value)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which differences are beyond delta; the second derivative jumps there."""
        beyond: Array = xp.abs(xp.subtract(*inputs)) > self.delta
        return beyond
