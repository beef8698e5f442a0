"""The logarithm of the softmax function."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Layer, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate


class LogSoftmax(Layer):
    """`y_j = x_j - log(sum_k exp(x_k))` along the last axis.

    With m the largest x, it is computed as `(x_j - m) - log1p(A)`, A being the sum of `exp(x_k - m)` but for one that
    is 1: nothing overflows, and a y near 0 keeps its digits. The gradient is `u_j - exp(y_j) sum_k u_k`, u
    being `upstream`.
    """

    type: ClassVar[str] = "log_softmax"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"log_softmax needs an input of shape (batch, ..., classes), not {shapes[0]}")
        return shapes[0]

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for the exponentials, for one number per row, and for the place of the largest."""
        (x,) = shapes
        return {
            "exponentials": (x, "scratch"),
            "row": ((*x[:-1], 1), "scratch"),
            "largest": (x[:-1], "integer"),
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the logarithms."""
        (x,) = inputs
        exponentials, row, largest = workspace["exponentials"], workspace["row"], workspace["largest"].reshape(-1)
        xp.max(x, axis=-1, keepdims=True, out=row)
        xp.subtract(x, row, out=output)
        xp.exp(output, out=exponentials)
        xp.argmax(exponentials, axis=-1, out=workspace["largest"])
        locate(xp, largest, x.shape[-1], largest)
        xp.put(exponentials, largest, 0, mode="clip")
        xp.sum(exponentials, axis=-1, keepdims=True, out=row)
        xp.log1p(row, out=row)
        xp.subtract(output, row, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `u - exp(y) sum u`."""
        (gradient,) = gradients
        if gradient is not None:
            row = xp.sum(upstream, axis=-1, keepdims=True, out=workspace["row"])
            xp.exp(output, out=gradient)
            xp.multiply(gradient, row, out=gradient)
            xp.subtract(upstream, gradient, out=gradient)
