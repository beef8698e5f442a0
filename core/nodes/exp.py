"""The exponential function."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.node import Arithmetic, Kept, Workspace


class Exp(Arithmetic):
    """`exp(x)`, elementwise."""

    type: ClassVar[str] = "exp"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `exp(x)`."""
        xp.exp(inputs[0], out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream exp(x)`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(upstream, output, out=gradient)
