"""Sigmoid cross-entropy."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.losses.labels import LabelLoss, SignedLoss


class SigmoidCrossEntropy(SignedLoss):
    """`sum_j log(1 + exp(-z_j))` per sample, z_j being s_j where j is the label and -s_j elsewhere.

    Scores (batch, classes), each class against the rest; or (batch,) or (batch, 1), the score of label 1 against 0.
    Labels (batch,), to (batch,). It is the cross-entropy of `1 / (1 + exp(-s))` and the labels' one-hot codes, computed
    as `max(-z, 0) + log1p(exp(-|z|))`; the derivative by z is `-1 / (1 + exp(z))`.
    """

    type: ClassVar[str] = "sigmoid_cross_entropy"

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        """Write `log(1 + exp(-z))` and its derivative."""
        write_logistic(xp, z, value, slope)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        one_column = len(shapes[0]) < 2 or shapes[0][1:] == (1,)
        return super().infer(*shapes) if one_column else LabelLoss.infer(self, *shapes)


def write_logistic(xp: Namespace, z: Array, value: Array, slope: Array) -> None:
    """Write `log(1 + exp(-z))` into `value`, and its derivative `expm1(-value)` into `slope`."""
    xp.abs(z, out=value)
    xp.negative(value, out=value)
    xp.exp(value, out=value)
    xp.log1p(value, out=value)
    xp.minimum(z, 0, out=slope)
    xp.subtract(value, slope, out=value)
    xp.negative(value, out=slope)
    xp.expm1(slope, out=slope)
