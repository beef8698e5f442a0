"""The hard hyperbolic tangent."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class HardTanh(Elementwise):
    """`min(max(x, -1), 1)`, elementwise. The derivative is 1 within (-1, 1) and 0 elsewhere, including at -1 and 1.

    Source: Collobert, "Large scale machine learning", thesis, Paris VI, 2004; the derivative at the kinks is PyTorch's.
    """

    type: ClassVar[str] = "hard_tanh"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def kinks(self) -> tuple[float, ...]:
        return (-1, 1)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.maximum(x, -1, out=output)
        xp.minimum(output, 1, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        # The sign of `1 - |y|`.
        xp.abs(y, out=slope)
        xp.subtract(1, slope, out=slope)
        xp.sign(slope, out=slope)
