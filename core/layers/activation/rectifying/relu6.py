"""The rectified linear unit with an upper bound."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class ReLU6(Elementwise):
    """`min(max(x, 0), 6)`, elementwise. The derivative is 1 within (0, 6) and 0 elsewhere, including at 0 and 6.

    Source: Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """

    type: ClassVar[str] = "relu6"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def kinks(self) -> tuple[float, ...]:
        return (0, 6)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.maximum(x, 0, out=output)
        xp.minimum(output, 6, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        # The sign of `(6 - y) y`. Within (0, 6) neither factor rounds to 0, and their product does not underflow.
        xp.subtract(6, y, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.sign(slope, out=slope)
