"""The logistic function."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace


class Sigmoid(Elementwise, Layer):
    """`1 / (1 + exp(-x))`, elementwise, computed as `tanh(x / 2) / 2 + 1 / 2`, which cannot overflow.

    The derivative is `y (1 - y)`, y being the output. Source: the lecture.
    """

    type: ClassVar[str] = "sigmoid"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write the function."""
        xp.multiply(x, 0.5, out=output)
        xp.tanh(output, out=output)
        xp.multiply(output, 0.5, out=output)
        xp.add(output, 0.5, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `(1 - y) y`."""
        xp.subtract(1, y, out=slope)
        xp.multiply(slope, y, out=slope)
