"""The sum of squares."""

from typing import ClassVar

from core.arrays import Array, Namespace, blocks
from core.penalties.base import Penalty, add_up
from core.registry import hyperparameter


class L2(Penalty):
    """`weight * sum w²`, without a factor 1/2; the gradient is `2 weight w`.

    PyTorch's `weight_decay` of SGD adds `weight_decay w` to the gradient: `weight = weight_decay / 2`. scikit-learn's
    LogisticRegression and LinearSVC with C on n rows: `weight = 1 / (2 C n)`. Its Ridge with alpha and squared_error:
    `weight = alpha / n`. Biases have no penalty.

    It favours many small weights over few large ones.
    """

    type: ClassVar[str] = "l2"

    weight: float = hyperparameter(doc="Factor of the sum of squares.", ge=0)

    def add_gradient(
        self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array, factor: float = 1.0
    ) -> None:
        if self.weight == 0:
            return
        for block in blocks(parameters.size):
            term = scratch[: block.stop - block.start]
            xp.multiply(parameters[block], 2 * factor * self.weight, out=term)
            xp.add(gradients[block], term, out=gradients[block])

    def value(self, xp: Namespace, parameters: Array) -> float:
        return self.weight * add_up(xp, xp.square, parameters)
