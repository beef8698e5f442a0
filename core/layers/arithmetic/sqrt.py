"""The square root."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Sqrt(Elementwise):
    """`sqrt(x)`, elementwise, for x >= 0. The derivative is `1 / (2 y)`, where y is the output: infinite at 0."""

    type: ClassVar[str] = "sqrt"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.sqrt(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.divide(0.5, y, out=slope)
