"""The logarithm of the softmax function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, Workspace, WorkspaceDeclaration
from core.kernels.locate import locate
from core.layers.base import Featurewise


class LogSoftmax(Featurewise):
    """`y_j = x_j - log(sum_k exp(x_k))` along the last axis: (batch, ..., classes) to the same shape.

    It is computed as `(x_j - m) - log1p(A)`, where m is the maximum of x and A is the sum of `exp(x_k - m)` without one
    term that is 1. This cannot overflow, and values near 0 keep their precision. The gradient is
    `u_j - exp(y_j) sum_k u_k`, where u is the upstream gradient.
    """

    type: ClassVar[str] = "log_softmax"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        return {
            "exponentials": (x, "scratch"),
            "row": ((*x[:-1], 1), "scratch"),
            "largest": (x[:-1], "integer"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
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
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            row = xp.sum(upstream, axis=-1, keepdims=True, out=workspace["row"])
            xp.exp(output, out=gradient)
            xp.multiply(gradient, row, out=gradient)
            xp.subtract(upstream, gradient, out=gradient)
