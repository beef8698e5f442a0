"""The maximum over axes."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Workspace, WorkspaceDeclaration
from core.layers.reduction.base import Reduction


class Max(Reduction):
    """The maximum over `axes`: (batch, ...) to the shape without them.

    The derivative is 1 for the largest number and 0 for the others; n numbers that tie have `1 / n` each.
    """

    type: ClassVar[str] = "max"

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the derivatives, and room for the number of ties."""
        return {"slope": (shapes[0], "float"), "ties": (self.infer(*shapes), "scratch")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the maxima, and keep the derivatives."""
        (x,) = inputs
        slope, ties = workspace["slope"], workspace["ties"]
        axes = self.axes_of(x.shape)
        xp.max(x, axis=axes, out=output)
        xp.equal(x, self.expanded(output, x.shape), out=slope)
        xp.sum(slope, axis=axes, out=ties)
        xp.divide(slope, self.expanded(ties, x.shape), out=slope)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` times the derivatives."""
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(workspace["slope"], self.expanded(upstream, gradient.shape), out=gradient)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which numbers are the largest."""
        (x,) = inputs
        largest: Array = x == xp.max(x, axis=self.axes_of(x.shape), keepdims=True)
        return largest
