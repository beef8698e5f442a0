"""The softplus function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Elementwise, Kept, Layer, Workspace, WorkspaceDeclaration


class Softplus(Elementwise, Layer):
    """`log(1 + exp(x))`, elementwise, computed as `max(x, 0) + log1p(exp(-|x|))`, which cannot overflow.

    The derivative is `1 / (1 + exp(-x)) = 1 - exp(-y)`, y being the output. Caffe calls it BNLL.

    Source: Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS 2000.
    """

    type: ClassVar[str] = "softplus"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for the positive part."""
        return {"positive": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `max(x, 0) + log1p(exp(-|x|))`."""
        positive = xp.maximum(x, 0, out=workspace["positive"])
        xp.abs(x, out=output)
        xp.negative(output, out=output)
        xp.exp(output, out=output)
        xp.log1p(output, out=output)
        xp.add(output, positive, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `-expm1(-y)`."""
        xp.negative(y, out=slope)
        xp.expm1(slope, out=slope)
        xp.negative(slope, out=slope)
