"""The exponential linear unit."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.layers.base import Elementwise
from core.registry import hyperparameter


class ELU(Elementwise):
    """`x` where x > 0 and `alpha (exp(x) - 1)` elsewhere, elementwise, computed with `expm1`.

    The derivative is 1 where x > 0 and `alpha exp(x)` elsewhere, including at 0. In terms of the output y it would be
    `y + alpha`, which loses all digits where y is near `-alpha`.

    Source: Clevert et al., "Fast and accurate deep network learning by exponential linear units", ICLR 2016.
    """

    type: ClassVar[str] = "elu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    alpha: float = hyperparameter(default=1.0, doc="The output tends to `-alpha` for large negative inputs.", gt=0)

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"part": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        # The sum of the positive part and the negative part, one of which is 0.
        positive = xp.maximum(x, 0, out=workspace["part"])
        xp.minimum(x, 0, out=output)
        xp.expm1(output, out=output)
        xp.multiply(output, self.alpha, out=output)
        xp.add(output, positive, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        negative = xp.minimum(x, 0, out=workspace["part"])
        xp.exp(negative, out=negative)
        xp.multiply(negative, self.alpha, out=negative)
        xp.less_equal(x, 0, out=slope)
        xp.multiply(negative, slope, out=negative)
        xp.subtract(1, slope, out=slope)
        xp.add(slope, negative, out=slope)
