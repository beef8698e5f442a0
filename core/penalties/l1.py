"""The sum of absolute values."""

from typing import ClassVar

from core.arrays import Array, Namespace, blocks
from core.penalties.base import Penalty, add_up
from core.registry import hyperparameter


class L1(Penalty):
    """`weight * sum |w|`; the gradient is `weight sign(w)`, where sign(0) is 0. It favours sparse weights."""

    type: ClassVar[str] = "l1"

    weight: float = hyperparameter(doc="Factor of the sum of absolute values.", ge=0)

    def add_gradient(
        self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array, factor: float = 1.0
    ) -> None:
        if self.weight == 0:
            return
        for block in blocks(parameters.size):
            term = scratch[: block.stop - block.start]
            xp.sign(parameters[block], out=term)
            xp.multiply(term, factor * self.weight, out=term)
            xp.add(gradients[block], term, out=gradients[block])

    def value(self, xp: Namespace, parameters: Array) -> float:
        return self.weight * add_up(xp, xp.absolute, parameters)
