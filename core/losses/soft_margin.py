"""The soft margin loss."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.kernels.logistic import write_log1p_exp
from core.losses.labels import SignedLoss


class SoftMargin(SignedLoss):
    """`log(1 + exp(-z))` per sample, where z is the score s if the label is 1, and -s if it is 0.

    Scores (batch,) or (batch, 1), labels (batch,), to (batch,). The derivative with respect to z is
    `-1 / (1 + exp(z))`. It is sigmoid cross-entropy under its name in Torch, where the labels are 1 and -1.
    """

    type: ClassVar[str] = "soft_margin"

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        write_log1p_exp(xp, z, value)
        xp.minimum(z, 0, out=slope)
        xp.subtract(value, slope, out=value)
        # The derivative `-1 / (1 + exp(z))` is `expm1(-value)`.
        xp.negative(value, out=slope)
        xp.expm1(slope, out=slope)
