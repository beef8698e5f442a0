"""The natural logarithm."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Log(Elementwise):
    """`log(x)`, elementwise, for x > 0. The derivative is `1 / x`."""

    type: ClassVar[str] = "log"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.log(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.reciprocal(x, out=slope)
