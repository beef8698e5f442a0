"""A sum with a constant."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.node import Arithmetic, Workspace
from core.registry import hyperparameter


class Shift(Arithmetic):
    """`x + offset`, elementwise."""

    type: ClassVar[str] = "shift"

    offset: float = hyperparameter(doc="What to add.")

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x + offset`."""
        xp.add(inputs[0], self.offset, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Hand `upstream` on."""
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient, upstream)
