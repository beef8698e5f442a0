"""The reciprocal."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.node import Arithmetic, Kept, Workspace


class Reciprocal(Arithmetic):
    """`1 / x`, elementwise."""

    type: ClassVar[str] = "reciprocal"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `1 / x`."""
        xp.divide(1, inputs[0], out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `-upstream / x²`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(output, output, out=gradient)
            xp.multiply(gradient, upstream, out=gradient)
            xp.negative(gradient, out=gradient)
