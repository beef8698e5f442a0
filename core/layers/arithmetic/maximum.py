"""The largest of several inputs."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, Workspace, WorkspaceDeclaration
from core.layers.base import Arithmetic


class Maximum(Arithmetic):
    """`max(x, y, ...)`, elementwise, of two or more inputs.

    The derivative is 1 for the largest input and 0 for the others; if n inputs tie, it is `1 / n` for each of them.
    """

    type: ClassVar[str] = "maximum"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs", "output"})
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"ties": (shapes[0], "scratch"), "largest": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        first, second, *rest = inputs
        xp.maximum(first, second, out=output)
        for each in rest:
            xp.maximum(output, each, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        ties, largest = workspace["ties"], workspace["largest"]
        ties.fill(0)
        for each in inputs:
            xp.equal(each, output, out=largest)
            xp.add(ties, largest, out=ties)
        for each, gradient in zip(inputs, gradients, strict=True):
            if gradient is not None:
                xp.equal(each, output, out=gradient)
                xp.divide(gradient, ties, out=gradient)
                xp.multiply(gradient, upstream, out=gradient)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        stacked = xp.stack(inputs)
        largest: Array = stacked == stacked.max(axis=0)
        return largest
