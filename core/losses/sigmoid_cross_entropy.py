"""Sigmoid cross-entropy."""

from typing import ClassVar

from core.arrays import Shape
from core.losses.labels import LabelLoss
from core.losses.soft_margin import SoftMargin


class SigmoidCrossEntropy(SoftMargin):
    """`sum_j log(1 + exp(-z_j))` per sample, where z_j is the score s_j if j is the label, and -s_j otherwise.

    Scores (batch, classes), each class against the rest; or (batch,) or (batch, 1), label 1 against 0. Labels (batch,),
    to (batch,). It is the cross-entropy of `1 / (1 + exp(-s))` and the one-hot vectors of the labels, computed as
    `max(-z, 0) + log1p(exp(-|z|))`. The derivative with respect to z is `-1 / (1 + exp(z))`.
    """

    type: ClassVar[str] = "sigmoid_cross_entropy"

    def infer(self, *shapes: Shape) -> Shape:
        one_column = len(shapes[0]) < 2 or shapes[0][1:] == (1,)
        return super().infer(*shapes) if one_column else LabelLoss.infer(self, *shapes)
