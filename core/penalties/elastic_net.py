"""The sum of an L1 and an L2 penalty."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.penalties.base import Penalty
from core.penalties.l1 import L1
from core.penalties.l2 import L2
from core.registry import hyperparameter


class ElasticNet(Penalty):
    """`l1 * sum |w| + l2 * sum w²`; the gradient is `l1 sign(w) + 2 l2 w`, where sign(0) is 0.

    Source: Zou and Hastie, "Regularization and variable selection via the elastic net", 2005, equation 3.
    """

    type: ClassVar[str] = "elastic_net"

    l1: float = hyperparameter(default=0.0, doc="Factor of the sum of absolute values.", ge=0)
    l2: float = hyperparameter(default=0.0, doc="Factor of the sum of squares.", ge=0)

    def add_gradient(
        self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array, factor: float = 1.0
    ) -> None:
        L1(self.l1).add_gradient(xp, parameters, gradients, scratch, factor)
        L2(self.l2).add_gradient(xp, parameters, gradients, scratch, factor)

    def value(self, xp: Namespace, parameters: Array) -> float:
        return L1(self.l1).value(xp, parameters) + L2(self.l2).value(xp, parameters)
