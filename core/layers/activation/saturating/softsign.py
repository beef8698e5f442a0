"""The softsign function."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace


class Softsign(Elementwise, Layer):
    """`x / (1 + |x|)`, elementwise. The derivative is `1 / (1 + |x|)²`.

    Source: Bergstra et al., "Quadratic polynomials learn better image features", Montreal, 2009.
    """

    type: ClassVar[str] = "softsign"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `x / (1 + |x|)`."""
        xp.abs(x, out=output)
        xp.add(output, 1, out=output)
        xp.divide(x, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `1 / (1 + |x|)²`."""
        xp.abs(x, out=slope)
        xp.add(slope, 1, out=slope)
        xp.reciprocal(slope, out=slope)
        xp.square(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive: the second derivative jumps at 0."""
        positive: Array = inputs[0] > 0
        return positive
