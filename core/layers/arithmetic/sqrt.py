"""The square root."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace


class Sqrt(Elementwise, Arithmetic):
    """`sqrt(x)`, elementwise, for x >= 0. The derivative is `1 / (2 y)`, y being the output: infinite at 0."""

    type: ClassVar[str] = "sqrt"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `sqrt(x)`."""
        xp.sqrt(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `1 / (2 y)`."""
        xp.divide(0.5, y, out=slope)
