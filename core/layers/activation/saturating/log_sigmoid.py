"""The logarithm of the logistic function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.kernels.logistic import write_log1p_exp
from core.layers.base import Elementwise


class LogSigmoid(Elementwise):
    """`log(1 / (1 + exp(-x)))`, elementwise, computed as `min(x, 0) - log1p(exp(-|x|))`, which cannot overflow.

    The derivative is `1 / (1 + exp(x)) = 1 - exp(y)`, where y is the output.
    """

    type: ClassVar[str] = "log_sigmoid"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"negative": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        negative = xp.minimum(x, 0, out=workspace["negative"])
        write_log1p_exp(xp, x, output)
        xp.subtract(negative, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.expm1(y, out=slope)
        xp.negative(slope, out=slope)
