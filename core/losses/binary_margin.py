"""The margin loss of two classes."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Inputs
from core.losses.labels import SignedLoss
from core.registry import hyperparameter


class BinaryMargin(SignedLoss):
    """`max(0, margin - z)` per sample, where z is the score s if the label is 1, and -s if it is 0.

    Scores (batch,) or (batch, 1), labels (batch,), to (batch,). The derivative with respect to z is -1 where z < margin
    and 0 elsewhere, including at z = margin. Torch calls it the margin criterion.
    Its mean with a margin of 1 is scikit-learn's `hinge_loss` of two classes.

    Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20, 1995.
    """

    type: ClassVar[str] = "binary_margin"

    margin: float = hyperparameter(default=1.0, doc="The smallest value of z at which the loss is 0.", gt=0)

    def curve(self, xp: Namespace, z: Array, value: Array, slope: Array) -> None:
        xp.subtract(self.margin, z, out=value)
        xp.maximum(value, 0, out=value)
        xp.sign(value, out=slope)
        xp.negative(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        scores, labels = inputs
        below: Array = (2 * labels.reshape(scores.shape) - 1) * scores < self.margin
        return below
