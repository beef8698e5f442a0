"""The mean over axes."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Workspace
from core.layers.reduction.base import Reduction


class Mean(Reduction):
    """The mean over `axes`: (batch, ...) to the shape without them. Of n numbers, each has the derivative `1 / n`."""

    type: ClassVar[str] = "mean"

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the means."""
        (x,) = inputs
        xp.sum(x, axis=self.axes_of(x.shape), out=output)
        xp.divide(output, self.count(x.shape), out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream / n`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.divide(self.expanded(upstream, gradient.shape), self.count(gradient.shape), out=gradient)
