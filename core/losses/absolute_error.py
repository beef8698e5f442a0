"""The sum of absolute differences."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from core.arrays import Array, Namespace, Shape
from core.node import Loss, Workspace, WorkspaceDeclaration, infer_loss_of_values


class AbsoluteError(Loss):
    """`sum |x - y|` per sample: predictions x and targets y (batch, ...), to (batch,).

    A difference of 0 has gradient 0.
    """

    type: ClassVar[str] = "absolute_error"
    target: ClassVar[Literal["labels", "values"]] = "values"

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        return infer_loss_of_values(self.type, *shapes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the signs of the differences, and room for their sizes."""
        return {"sign": (shapes[0], "float"), "size": (shapes[0], "float")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the signs."""
        difference = xp.subtract(*inputs, out=workspace["sign"])
        size = xp.abs(difference, out=workspace["size"])
        xp.sum(size, axis=tuple(range(1, size.ndim)), out=output)
        xp.sign(difference, out=workspace["sign"])

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream sign(x - y)` for x and its negative for y."""
        x_gradient, y_gradient = gradients
        sign = workspace["sign"]
        upstream = upstream.reshape(-1, *(1,) * (sign.ndim - 1))
        if x_gradient is not None:
            xp.multiply(sign, upstream, out=x_gradient)
        if y_gradient is not None:
            xp.multiply(sign, upstream, out=y_gradient)
            xp.negative(y_gradient, out=y_gradient)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which predictions exceed their targets."""
        above: Array = xp.greater(*inputs)
        return above
