"""The product with a constant."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Workspace
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Scale(Elementwise):
    """`factor x`, elementwise. The derivative is `factor`."""

    type: ClassVar[str] = "scale"

    factor: float = hyperparameter(doc="The factor.")

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.multiply(x, self.factor, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        slope.fill(self.factor)
