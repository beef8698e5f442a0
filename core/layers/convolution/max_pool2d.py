"""Maximum over windows of images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, Workspace, WorkspaceDeclaration
from core.layers.convolution.pooling import Pooling


class MaxPool2d(Pooling):
    """The maximum over windows: (batch, height, width, channels) to (batch, windows down, windows across, channels).

    Padding is ignored. The derivative is 1 for the maximum and 0 for the other pixels; of equal ones the first counts,
    row by row, as in Caffe and PyTorch.
    """

    type: ClassVar[str] = "max_pool2d"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs", "output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        windows = self.infer(*shapes)
        return dict.fromkeys(("left", "taken"), (windows, "scratch"))

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        output.fill(-np.inf)
        for windows, pixels in self.entries(x.shape):
            xp.maximum(output[windows], x[pixels], out=output[windows])

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (x,), (gradient,) = inputs, gradients
        if gradient is None:
            return
        # The upstream gradient of the windows whose maximum is not found yet.
        left = workspace["left"]
        xp.copyto(left, upstream)
        gradient.fill(0)
        for windows, pixels in self.entries(x.shape):
            rest, taken = left[windows], workspace["taken"][windows]
            xp.equal(x[pixels], output[windows], out=taken)
            xp.multiply(taken, rest, out=taken)
            xp.subtract(rest, taken, out=rest)
            xp.add(gradient[pixels], taken, out=gradient[pixels])

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        (x,) = inputs
        largest = xp.full(self.infer(x.shape), -np.inf)
        for windows, pixels in self.entries(x.shape):
            largest[windows] = xp.maximum(largest[windows], x[pixels])
        sides = []
        for windows, pixels in self.entries(x.shape):
            side = xp.zeros(largest.shape, bool)
            side[windows] = x[pixels] == largest[windows]
            sides.append(side)
        stacked: Array = xp.stack(sides)
        return stacked
