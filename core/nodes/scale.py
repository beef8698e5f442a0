"""A product with a constant."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.node import Arithmetic, Workspace
from core.registry import hyperparameter


class Scale(Arithmetic):
    """`factor x`, elementwise."""

    type: ClassVar[str] = "scale"

    factor: float = hyperparameter(doc="What to multiply by.")

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `factor x`."""
        xp.multiply(inputs[0], self.factor, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `factor upstream`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.multiply(upstream, self.factor, out=gradient)
