"""The hyperbolic tangent."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Tanh(Elementwise):
    """`tanh(x)`, elementwise. The derivative is `1 - y²`, where y is the output."""

    type: ClassVar[str] = "tanh"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.tanh(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.square(y, out=slope)
        xp.subtract(1, slope, out=slope)
