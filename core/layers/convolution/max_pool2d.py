"""Maximum over windows of images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, Workspace, WorkspaceDeclaration
from core.kernels.fused import run_compiled
from core.layers.convolution.pooling import Pooling, reduce


class MaxPool2d(Pooling):
    """The maximum over windows: (batch, height, width, channels) to (batch, windows down, windows across, channels).

    Padding is ignored. The derivative is 1 for the maximum and 0 for the other pixels; of equal ones the first counts,
    row by row, as in Caffe and PyTorch.
    """

    type: ClassVar[str] = "max_pool2d"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs", "output"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        middle = self.middle(*shapes)
        windows = (middle[0], *self.infer(*shapes)[1:])
        return {"middle": (middle, "scratch"), "left": (windows, "scratch"), "taken": (windows, "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        down, across = self.axes(x.shape)
        for part in self.parts(x.shape):
            images = x[part]
            middle = workspace["middle"][: len(images)]
            reduce(xp.maximum, images, down, 1, -np.inf, middle)
            reduce(xp.maximum, middle, across, 2, -np.inf, output[part])

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (x,), (gradient,) = inputs, gradients
        if gradient is None:
            return
        gradient.fill(0)
        sizes = tuple((axis.kernel, axis.stride, axis.before) for axis in self.axes(x.shape))
        left = workspace["left"].reshape(-1)[: x.shape[3]]
        if run_compiled(xp, scatter, x, (output, upstream, gradient), left, x.dtype.type(0), sizes):
            return
        for part in self.parts(x.shape):
            images, largest, pixels_gradient = x[part], output[part], gradient[part]
            # The upstream gradient of the windows whose maximum is not found yet.
            left, taken = workspace["left"][: len(images)], workspace["taken"][: len(images)]
            xp.copyto(left, upstream[part])
            for windows, pixels in self.entries(x.shape):
                found, rest = taken[windows], left[windows]
                xp.equal(images[pixels], largest[windows], out=found)
                xp.multiply(found, rest, out=found)
                xp.subtract(rest, found, out=rest)
                xp.add(pixels_gradient[pixels], found, out=pixels_gradient[pixels])

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


def scatter(
    x: Array,
    windows: tuple[Array, Array, Array],
    left: Array,
    zero: float,
    sizes: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> None:
    """Add the upstream gradient of each window to its first pixel that is the largest.

    windows: the largest pixels, their upstream gradient, and the gradient of x. left: scratch for one. sizes: kernel,
    stride and padding, down and across.

    The operations are those of NumPy's form. A pixel's windows come in reverse, because NumPy's form adds for the first
    entry of all windows first.
    """
    (largest, upstream, gradient), (down, across) = windows, sizes
    height, width, channels = x.shape[1:]
    for image in range(x.shape[0]):
        for row in range(largest.shape[1] - 1, -1, -1):
            top = row * down[1] - down[2]
            for column in range(largest.shape[2] - 1, -1, -1):
                first = column * across[1] - across[2]
                best, above = largest[image, row, column], upstream[image, row, column]
                for channel in range(channels):
                    left[channel] = above[channel]
                for i in range(max(0, top), min(top + down[0], height)):
                    for j in range(max(0, first), min(first + across[0], width)):
                        pixel, sums = x[image, i, j], gradient[image, i, j]
                        for channel in range(channels):
                            rest = left[channel]
                            taken = rest if pixel[channel] == best[channel] else rest * zero
                            left[channel] = rest - taken
                            sums[channel] += taken
