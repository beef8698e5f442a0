"""The sum over axes."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Gradients, Inputs, Workspace
from core.layers.reduction.base import Reduction


class Sum(Reduction):
    """The sum over `axes`: (batch, ...) to the shape without these axes. The derivative is 1 for each element."""

    type: ClassVar[str] = "sum"

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        xp.sum(x, axis=self.axes_of(x.shape), out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient, self.expanded(upstream, gradient.shape))
