"""A product."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Kept, Workspace


class Multiply(Arithmetic):
    """`x y`, elementwise. The derivatives are y and x."""

    type: ClassVar[str] = "multiply"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})
    arity: ClassVar[int] = 2

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x y`."""
        xp.multiply(*inputs, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream y` for x and `upstream x` for y."""
        for gradient, other in zip(gradients, reversed(inputs), strict=True):
            if gradient is not None:
                xp.multiply(upstream, other, out=gradient)
