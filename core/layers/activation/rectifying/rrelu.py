"""The randomized leaky rectified linear unit."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Node, Workspace, WorkspaceDeclaration
from core.layers.activation.rectifying.leaky_relu import LeakyReLU
from core.layers.base import Elementwise
from core.registry import hyperparameter


class RReLU(Elementwise):
    """`x` where x > 0 and `a x` elsewhere, elementwise, with a random slope a for each element, uniform in a range.

    The derivative is 1 where x > 0 and a elsewhere, including at 0. The slopes depend on the job's seed, the epoch, the
    step, the shard and the name of the node. In evaluation, the layer is `leaky_relu` with the mean slope.

    Source: Xu et al., "Empirical evaluation of rectified activations in convolutional network", 2015.
    """

    type: ClassVar[str] = "rrelu"

    lower: float = hyperparameter(default=1 / 8, doc="The lowest slope.", ge=0, le=1)
    upper: float = hyperparameter(default=1 / 3, doc="The end of the range of slopes.", ge=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower > self.upper:
            raise ValueError(f"rrelu.lower must be at most rrelu.upper, which is {self.upper}, not {self.lower}")

    def evaluation(self) -> Node:
        return LeakyReLU(slope=(self.lower + self.upper) / 2)

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        return {"noise": (x, "noise"), "factor": (x, "float"), "rest": (x, "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        factor, rest = workspace["factor"], workspace["rest"]
        xp.multiply(workspace["noise"], self.upper - self.lower, out=factor)
        xp.add(factor, self.lower, out=factor)
        # The factor is 1 where x > 0, and stays what it is elsewhere.
        xp.greater(x, 0, out=output)
        xp.subtract(1, factor, out=rest)
        xp.multiply(rest, output, out=rest)
        xp.add(factor, rest, out=factor)
        xp.multiply(x, factor, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.copyto(slope, workspace["factor"])
