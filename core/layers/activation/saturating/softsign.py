"""The softsign function."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise


class Softsign(Elementwise):
    """`x / (1 + |x|)`, elementwise. The derivative is `1 / (1 + |x|)²`.

    Source: Bergstra et al., "Quadratic polynomials learn better image features", Montreal, 2009.
    """

    type: ClassVar[str] = "softsign"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.abs(x, out=output)
        xp.add(output, 1, out=output)
        xp.divide(x, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.abs(x, out=slope)
        xp.add(slope, 1, out=slope)
        xp.reciprocal(slope, out=slope)
        xp.square(slope, out=slope)
