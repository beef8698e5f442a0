"""The softplus function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.kernels.logistic import write_log1p_exp
from core.layers.base import Elementwise


class Softplus(Elementwise):
    """`log(1 + exp(x))`, elementwise, computed as `max(x, 0) + log1p(exp(-|x|))`, which cannot overflow.

    The derivative is `1 / (1 + exp(-x)) = 1 - exp(-y)`, where y is the output. Caffe calls this layer BNLL.

    Source: Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS 2000.
    """

    type: ClassVar[str] = "softplus"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"positive": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        positive = xp.maximum(x, 0, out=workspace["positive"])
        write_log1p_exp(xp, x, output)
        xp.add(output, positive, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.negative(y, out=slope)
        xp.expm1(slope, out=slope)
        xp.negative(slope, out=slope)
