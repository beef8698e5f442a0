"""The natural logarithm."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace


class Log(Elementwise, Arithmetic):
    """`log(x)`, elementwise, for x > 0. The derivative is `1 / x`."""

    type: ClassVar[str] = "log"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `log(x)`."""
        xp.log(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `1 / x`."""
        xp.reciprocal(x, out=slope)
