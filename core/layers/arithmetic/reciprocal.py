"""The reciprocal."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace


class Reciprocal(Elementwise, Arithmetic):
    """`1 / x`, elementwise. The derivative is `-y²`, y being the output."""

    type: ClassVar[str] = "reciprocal"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `1 / x`."""
        xp.reciprocal(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `-y²`."""
        xp.square(y, out=slope)
        xp.negative(slope, out=slope)
