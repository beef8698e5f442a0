"""The softmax function."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, Workspace, WorkspaceDeclaration
from core.layers.base import Featurewise


class Softmax(Featurewise):
    """`y_j = exp(x_j) / sum_k exp(x_k)` along the last axis: (batch, ..., classes) to the same shape.

    It is computed from `x - max x`, which cannot overflow. The gradient is `y_j (u_j - sum_k u_k y_k)`, where u is the
    upstream gradient. To train a classifier, prefer the loss of the same name on scores: it is numerically more precise
    than this layer followed by a logarithm.
    """

    type: ClassVar[str] = "softmax"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"row": ((*shapes[0][:-1], 1), "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        row = xp.max(x, axis=-1, keepdims=True, out=workspace["row"])
        xp.subtract(x, row, out=output)
        xp.exp(output, out=output)
        xp.sum(output, axis=-1, keepdims=True, out=row)
        xp.divide(output, row, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(upstream, output, out=gradient)
            row = xp.sum(gradient, axis=-1, keepdims=True, out=workspace["row"])
            xp.subtract(upstream, row, out=gradient)
            xp.multiply(gradient, output, out=gradient)
