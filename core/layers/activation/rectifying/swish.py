"""The swish function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Elementwise, Kept, Layer, Workspace, WorkspaceDeclaration
from core.registry import hyperparameter


class Swish(Elementwise, Layer):
    """`x / (1 + exp(-beta x))`, elementwise; with beta = 1 it is also known as SiLU.

    With `s = 1 / (1 + exp(-beta x))` the derivative is `s + beta y (1 - s)`, y being the output.

    Source: Ramachandran et al., "Searching for activation functions", 2017.
    """

    type: ClassVar[str] = "swish"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    beta: float = hyperparameter(default=1.0, doc="How steep the logistic factor is.", gt=0)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for the logistic factor."""
        return {"sigmoid": (shapes[0], "float")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `x s`, and keep s."""
        sigmoid = xp.multiply(x, 0.5 * self.beta, out=workspace["sigmoid"])
        xp.tanh(sigmoid, out=sigmoid)
        xp.multiply(sigmoid, 0.5, out=sigmoid)
        xp.add(sigmoid, 0.5, out=sigmoid)
        xp.multiply(x, sigmoid, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `s + beta y (1 - s)`."""
        sigmoid = workspace["sigmoid"]
        xp.subtract(1, sigmoid, out=slope)
        xp.multiply(slope, y, out=slope)
        xp.multiply(slope, self.beta, out=slope)
        xp.add(slope, sigmoid, out=slope)
