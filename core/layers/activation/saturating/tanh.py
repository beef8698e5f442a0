"""The hyperbolic tangent."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace


class Tanh(Elementwise, Layer):
    """`tanh(x)`, elementwise. The derivative is `1 - y²`, y being the output."""

    type: ClassVar[str] = "tanh"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `tanh(x)`."""
        xp.tanh(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `1 - y²`."""
        xp.square(y, out=slope)
        xp.subtract(1, slope, out=slope)
