"""The sum of squared differences."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.node import Loss, Workspace, WorkspaceDeclaration, infer_loss_of_values


class SquaredError(Loss):
    """`sum (x - y)²` per sample, no factor 1/2: predictions x and targets y (batch, ...), to (batch,)."""

    type: ClassVar[str] = "squared_error"
    target: ClassVar[Literal["labels", "values"]] = "values"

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        return infer_loss_of_values(self.type, *shapes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the differences, and room for their squares."""
        return {"difference": (shapes[0], "float"), "square": (shapes[0], "float")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the differences."""
        difference = xp.subtract(*inputs, out=workspace["difference"])
        square = xp.square(difference, out=workspace["square"])
        xp.sum(square, axis=tuple(range(1, square.ndim)), out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `2 upstream (x - y)` for x and its negative for y."""
        difference = workspace["difference"]
        upstream = upstream.reshape(-1, *(1,) * (difference.ndim - 1))
        for gradient, factor in zip(gradients, (2, -2), strict=True):
            if gradient is not None:
                xp.multiply(difference, factor, out=gradient)
                xp.multiply(gradient, upstream, out=gradient)
