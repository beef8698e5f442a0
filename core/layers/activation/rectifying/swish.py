"""The swish function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.kernels.logistic import write_logistic
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Swish(Elementwise):
    """`x / (1 + exp(-beta x))`, elementwise. With beta = 1 this is SiLU.

    The derivative is `s + beta y (1 - s)`, where `s = 1 / (1 + exp(-beta x))` and y is the output.

    Source: Ramachandran et al., "Searching for activation functions", 2017.
    """

    type: ClassVar[str] = "swish"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    beta: float = hyperparameter(default=1.0, doc="Steepness of the logistic factor.", gt=0)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"sigmoid": (shapes[0], "float")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        sigmoid = write_logistic(xp, x, workspace["sigmoid"], self.beta)
        xp.multiply(x, sigmoid, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        sigmoid = workspace["sigmoid"]
        xp.subtract(1, sigmoid, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.multiply(slope, self.beta, out=slope)
        xp.add(slope, sigmoid, out=slope)
