"""The Huber loss."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.values import ValueLoss
from core.registry import hyperparameter


class Huber(ValueLoss):
    """`sum h(x - t)` per sample, where `h(d) = d² / 2` if |d| <= delta, and `delta (|d| - delta / 2)` otherwise.

    Predictions x and targets t (batch, ...), to (batch,). h is computed as `c (d - c / 2)`, where
    `c = min(max(d, -delta), delta)` is its derivative. This is PyTorch's `HuberLoss`, but the sum over the n
    entries of a sample instead of the mean: n times as much. scikit-learn's `HuberRegressor` divides the differences by
    a scale that it learns, and its function is twice this one.

    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
    """

    type: ClassVar[str] = "huber"

    delta: float = hyperparameter(default=1.0, doc="The absolute difference above which the loss is linear.", gt=0)

    def kinks(self) -> tuple[float, ...]:
        return (-self.delta, self.delta)

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        xp.minimum(difference, self.delta, out=slope)
        xp.maximum(slope, -self.delta, out=slope)
        xp.multiply(slope, -0.5, out=value)
        xp.add(value, difference, out=value)
        xp.multiply(value, slope, out=value)
