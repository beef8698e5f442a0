"""A sum with a constant."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Workspace
from core.registry import hyperparameter


class Shift(Elementwise, Arithmetic):
    """`x + offset`, elementwise. The derivative is 1."""

    type: ClassVar[str] = "shift"

    offset: float = hyperparameter(doc="What to add.")

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `x + offset`."""
        xp.add(x, self.offset, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write 1."""
        slope.fill(1)
