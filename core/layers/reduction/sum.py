"""The sum over axes."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Workspace
from core.layers.reduction.base import Reduction


class Sum(Reduction):
    """The sum over `axes`: (batch, ...) to the shape without them. Each number summed has the derivative 1."""

    type: ClassVar[str] = "sum"

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the sums."""
        (x,) = inputs
        xp.sum(x, axis=self.axes_of(x.shape), out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Hand `upstream` on to each number summed."""
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient, self.expanded(upstream, gradient.shape))
