"""The maximum over axes."""

from typing import Any, ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration
from core.layers.reduction.base import Reduction


class Max(Reduction):
    """The maximum over `axes`: (batch, ...) to the shape without these axes.

    The derivative is 1 for the maximum and 0 for the other elements; if n elements tie for the maximum, it is `1 / n`
    for each of them.
    """

    type: ClassVar[str] = "max"

    def extreme(self, xp: Namespace) -> Any:
        """Return the reduction: NumPy's or CuPy's function."""
        return xp.max

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"slope": (shapes[0], "float"), "ties": (self.infer(*shapes), "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        slope, ties = workspace["slope"], workspace["ties"]
        axes = self.axes_of(x.shape)
        self.extreme(xp)(x, axis=axes, out=output)
        xp.equal(x, self.expanded(output, x.shape), out=slope)
        xp.sum(slope, axis=axes, out=ties)
        xp.divide(slope, self.expanded(ties, x.shape), out=slope)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(workspace["slope"], self.expanded(upstream, gradient.shape), out=gradient)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        (x,) = inputs
        extreme: Array = x == self.extreme(xp)(x, axis=self.axes_of(x.shape), keepdims=True)
        return extreme
