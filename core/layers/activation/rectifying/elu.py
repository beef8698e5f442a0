"""The exponential linear unit."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Elementwise, Kept, Layer, Workspace, WorkspaceDeclaration
from core.registry import hyperparameter


class ELU(Elementwise, Layer):
    """`x` where x > 0 and `alpha (exp(x) - 1)` elsewhere, elementwise, computed with `expm1`.

    The derivative is 1 where x > 0 and `y + alpha` elsewhere, 0 included, y being the output.

    Source: Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.
    """

    type: ClassVar[str] = "elu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    alpha: float = hyperparameter(default=1.0, doc="What the function tends to on the left, negated.", gt=0)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for one of the two parts."""
        return {"part": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write the function: its positive part and its negative part, one of which is 0."""
        positive = xp.maximum(x, 0, out=workspace["part"])
        xp.minimum(x, 0, out=output)
        xp.expm1(output, out=output)
        xp.multiply(output, self.alpha, out=output)
        xp.add(output, positive, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write 1 where y > 0, and `y + alpha` elsewhere."""
        negative = xp.minimum(y, 0, out=workspace["part"])
        xp.add(negative, self.alpha, out=negative)
        xp.less_equal(y, 0, out=slope)
        xp.multiply(negative, slope, out=negative)
        xp.subtract(1, slope, out=slope)
        xp.add(slope, negative, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive."""
        positive: Array = inputs[0] > 0
        return positive
