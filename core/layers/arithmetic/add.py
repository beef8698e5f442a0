"""The sum of several inputs."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Workspace
from core.layers.base import Arithmetic


class Add(Arithmetic):
    """`x + y + ...`, elementwise, of two or more inputs, added from left to right. Every derivative is 1."""

    type: ClassVar[str] = "add"
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        first, second, *rest = inputs
        xp.add(first, second, out=output)
        for each in rest:
            xp.add(output, each, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        for gradient in gradients:
            if gradient is not None:
                xp.copyto(gradient, upstream)
