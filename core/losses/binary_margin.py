"""The margin loss of two classes."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.losses.labels import SignedLoss
from core.registry import hyperparameter


class BinaryMargin(SignedLoss):
    """`max(0, margin - z)` per sample, z being s where the label is 1 and -s where it is 0.

    Scores (batch,) or (batch, 1), labels (batch,), to (batch,). The derivative by z is -1 where z < margin and 0
    elsewhere, z = margin included. Torch calls it the margin criterion.

    Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20, 1995.
    """

    type: ClassVar[str] = "binary_margin"

    margin: float = hyperparameter(default=1.0, doc="How far from 0 a score must be, on its label's side.", gt=0)

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        """Write `max(0, margin - z)`, and -1 where it is positive."""
        xp.subtract(self.margin, z, out=value)
        xp.maximum(value, 0, out=value)
        xp.sign(value, out=slope)
        xp.negative(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which samples count."""
        scores, labels = inputs
        counts: Array = (2 * labels.reshape(scores.shape) - 1) * scores < self.margin
        return counts
