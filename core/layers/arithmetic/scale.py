"""A product with a constant."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Workspace
from core.registry import hyperparameter


class Scale(Elementwise, Arithmetic):
    """`factor x`, elementwise. The derivative is `factor`."""

    type: ClassVar[str] = "scale"

    factor: float = hyperparameter(doc="What to multiply by.")

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `factor x`."""
        xp.multiply(x, self.factor, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `factor`."""
        slope.fill(self.factor)
