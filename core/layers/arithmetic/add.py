"""A sum."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Workspace


class Add(Arithmetic):
    """`x + y + ...`, elementwise, of two inputs or more, added from left to right. Every derivative is 1."""

    type: ClassVar[str] = "add"
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the sum."""
        first, second, *rest = inputs
        xp.add(first, second, out=output)
        for each in rest:
            xp.add(output, each, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Hand `upstream` on to each."""
        for gradient in gradients:
            if gradient is not None:
                xp.copyto(gradient, upstream)
