"""A difference."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Workspace


class Subtract(Arithmetic):
    """`x - y`, elementwise. The derivatives are 1 and -1."""

    type: ClassVar[str] = "subtract"
    arity: ClassVar[int] = 2

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x - y`."""
        xp.subtract(*inputs, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Hand `upstream` on to x, and its negative to y."""
        x_gradient, y_gradient = gradients
        if x_gradient is not None:
            xp.copyto(x_gradient, upstream)
        if y_gradient is not None:
            xp.negative(upstream, out=y_gradient)
