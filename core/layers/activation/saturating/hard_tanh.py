"""The hard hyperbolic tangent."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace


class HardTanh(Elementwise, Layer):
    """`min(max(x, -1), 1)`, elementwise. The derivative is 1 within (-1, 1), and 0 elsewhere, -1 and 1 included.

    Source: Collobert, "Large scale machine learning", thesis, Paris VI, 2004; the derivative at the kinks is PyTorch's.
    """

    type: ClassVar[str] = "hard_tanh"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `min(max(x, -1), 1)`."""
        xp.maximum(x, -1, out=output)
        xp.minimum(output, 1, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the sign of `1 - |y|`, which is 1 or 0."""
        xp.abs(y, out=slope)
        xp.subtract(1, slope, out=slope)
        xp.sign(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return on which of three pieces the input is."""
        piece: Array = xp.sign(inputs[0] + 1) + xp.sign(inputs[0] - 1)
        return piece
