"""The difference of two inputs."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Workspace
from core.layers.base import Arithmetic


class Subtract(Arithmetic):
    """`x - y`, elementwise. The derivatives are 1 and -1."""

    type: ClassVar[str] = "subtract"
    arity: ClassVar[int] = 2

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.subtract(*inputs, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, y_gradient = gradients
        if x_gradient is not None:
            xp.copyto(x_gradient, upstream)
        if y_gradient is not None:
            xp.negative(upstream, out=y_gradient)
