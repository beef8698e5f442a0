"""The mean over axes."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Workspace
from core.layers.reduction.base import Reduction


class Mean(Reduction):
    """The mean over `axes`: (batch, ...) to the shape without these axes.

    The derivative is `1 / n` for each of n elements.
    """

    type: ClassVar[str] = "mean"

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        xp.sum(x, axis=self.axes_of(x.shape), out=output)
        xp.divide(output, self.count(x.shape), out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.divide(self.expanded(upstream, gradient.shape), self.count(gradient.shape), out=gradient)
