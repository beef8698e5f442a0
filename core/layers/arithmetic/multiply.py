"""The product of two inputs."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Kept, Workspace
from core.layers.base import Arithmetic


class Multiply(Arithmetic):
    """`x y`, elementwise. The derivatives are y and x."""

    type: ClassVar[str] = "multiply"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})
    arity: ClassVar[int] = 2

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.multiply(*inputs, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        for gradient, other in zip(gradients, reversed(inputs), strict=True):
            if gradient is not None:
                xp.multiply(upstream, other, out=gradient)
