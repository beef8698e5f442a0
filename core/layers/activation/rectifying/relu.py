"""The rectified linear unit."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Layer, Workspace


class ReLU(Layer):
    """`max(x, 0)`, elementwise. The derivative is 1 where x > 0 and 0 elsewhere, 0 included."""

    type: ClassVar[str] = "relu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return shapes[0]

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `max(x, 0)`."""
        # NumPy's `clip` is vectorised; its `maximum` of an array and a number is not.
        xp.clip(inputs[0], 0, inf, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` where the output is positive and 0 elsewhere."""
        (gradient,) = gradients
        if gradient is not None:
            xp.greater(output, 0, out=gradient)
            xp.multiply(gradient, upstream, out=gradient)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive."""
        positive: Array = inputs[0] > 0
        return positive
