"""The absolute value."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Abs(Elementwise):
    """`|x|`, elementwise. The derivative is the sign of x, 0 at 0."""

    type: ClassVar[str] = "abs"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.abs(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.sign(x, out=slope)
