"""The rectified linear unit."""

from math import inf
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class ReLU(Elementwise):
    """`max(x, 0)`, elementwise. The derivative is 1 where x > 0 and 0 elsewhere, including at 0."""

    type: ClassVar[str] = "relu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        # NumPy's `clip` is vectorised; its `maximum` of an array and a scalar is not.
        xp.clip(x, 0, inf, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.greater(y, 0, out=slope)
