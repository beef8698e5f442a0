"""The square."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace


class Square(Elementwise, Arithmetic):
    """`x²`, elementwise. The derivative is `2 x`."""

    type: ClassVar[str] = "square"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `x²`."""
        xp.square(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `2 x`."""
        xp.multiply(x, 2, out=slope)
