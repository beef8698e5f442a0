"""The rectified linear unit with a ceiling."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace


class ReLU6(Elementwise, Layer):
    """`min(max(x, 0), 6)`, elementwise. The derivative is 1 within (0, 6), and 0 elsewhere, 0 and 6 included.

    Source: Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """

    type: ClassVar[str] = "relu6"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `min(max(x, 0), 6)`."""
        xp.maximum(x, 0, out=output)
        xp.minimum(output, 6, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the sign of `(6 - y) y`, which is 1 or 0."""
        # Neither factor can round to 0 where it is not, and their product cannot underflow to it.
        xp.subtract(6, y, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.sign(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return on which of three pieces the input is."""
        piece: Array = xp.sign(inputs[0]) + xp.sign(inputs[0] - 6)
        return piece
