"""The logarithm of the logistic function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Elementwise, Kept, Layer, Workspace, WorkspaceDeclaration


class LogSigmoid(Elementwise, Layer):
    """`log(1 / (1 + exp(-x)))`, elementwise, computed as `min(x, 0) - log1p(exp(-|x|))`, which cannot overflow.

    The derivative is `1 / (1 + exp(x)) = 1 - exp(y)`, y being the output.
    """

    type: ClassVar[str] = "log_sigmoid"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for the negative part."""
        return {"negative": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `min(x, 0) - log1p(exp(-|x|))`."""
        negative = xp.minimum(x, 0, out=workspace["negative"])
        xp.abs(x, out=output)
        xp.negative(output, out=output)
        xp.exp(output, out=output)
        xp.log1p(output, out=output)
        xp.subtract(negative, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `-expm1(y)`."""
        xp.expm1(y, out=slope)
        xp.negative(slope, out=slope)
