"""The logistic function."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.node import Kept, Layer, Workspace


class Sigmoid(Layer):
    """`1 / (1 + exp(-x))`, elementwise, computed as `tanh(x / 2) / 2 + 1 / 2`, which cannot overflow."""

    type: ClassVar[str] = "sigmoid"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return shapes[0]

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the function's value."""
        xp.multiply(inputs[0], 0.5, out=output)
        xp.tanh(output, out=output)
        xp.multiply(output, 0.5, out=output)
        xp.add(output, 0.5, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream (1 - y) y`, y being the output."""
        (gradient,) = gradients
        if gradient is not None:
            xp.subtract(1, output, out=gradient)
            xp.multiply(gradient, output, out=gradient)
            xp.multiply(gradient, upstream, out=gradient)
