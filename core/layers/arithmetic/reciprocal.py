"""The reciprocal."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Reciprocal(Elementwise):
    """`1 / x`, elementwise. The derivative is `-y²`, where y is the output."""

    type: ClassVar[str] = "reciprocal"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.reciprocal(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.square(y, out=slope)
        xp.negative(slope, out=slope)
