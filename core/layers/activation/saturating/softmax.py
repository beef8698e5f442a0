"""The softmax function."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Layer, Workspace, WorkspaceDeclaration


class Softmax(Layer):
    """`y_j = exp(x_j) / sum_k exp(x_k)` along the last axis, computed from `x - max x`, which cannot overflow.

    The gradient is `y_j (u_j - sum_k u_k y_k)`, u being `upstream`. A classifier is better trained on scores and the
    loss of the same name, which keeps digits that this layer loses.
    """

    type: ClassVar[str] = "softmax"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"softmax needs an input of shape (batch, ..., classes), not {shapes[0]}")
        return shapes[0]

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for one number per row."""
        return {"row": ((*shapes[0][:-1], 1), "scratch")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the shares."""
        (x,) = inputs
        row = xp.max(x, axis=-1, keepdims=True, out=workspace["row"])
        xp.subtract(x, row, out=output)
        xp.exp(output, out=output)
        xp.sum(output, axis=-1, keepdims=True, out=row)
        xp.divide(output, row, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `y (u - sum u y)`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(upstream, output, out=gradient)
            row = xp.sum(gradient, axis=-1, keepdims=True, out=workspace["row"])
            xp.subtract(upstream, row, out=gradient)
            xp.multiply(gradient, output, out=gradient)
