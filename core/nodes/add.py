"""A sum."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.node import Arithmetic, Workspace


class Add(Arithmetic):
    """`x + y`, elementwise."""

    type: ClassVar[str] = "add"
    arity: ClassVar[int] = 2

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x + y`."""
        xp.add(*inputs, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Hand `upstream` on to both."""
        for gradient in gradients:
            if gradient is not None:
                xp.copyto(gradient, upstream)
