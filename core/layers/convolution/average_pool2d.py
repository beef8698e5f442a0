"""Mean over windows of images."""

from __future__ import annotations

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration
from core.layers.convolution.pooling import Pooling, reduce, spread


class AveragePool2d(Pooling):
    """The mean over windows: (batch, height, width, channels) to (batch, windows down, windows across, channels).

    Padding counts as zeros: the sum is divided by the number of pixels of the window that lie in the image or its
    padding. That is Caffe's rule, and PyTorch's with `count_include_pad`.
    """

    type: ClassVar[str] = "average_pool2d"

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        middle = self.middle(*shapes)
        return {"middle": (middle, "scratch"), "shares": ((middle[0], *self.infer(*shapes)[1:]), "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        down, across = self.axes(x.shape)
        for part in self.parts(x.shape):
            images, means = x[part], output[part]
            middle = workspace["middle"][: len(images)]
            reduce(xp.add, images, down, 1, 0, middle)
            reduce(xp.add, middle, across, 2, 0, means)
            self._divide(xp, means, x.shape)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is None:
            return
        down, across = self.axes(gradient.shape)
        for part in self.parts(gradient.shape):
            above = upstream[part]
            shares, middle = workspace["shares"][: len(above)], workspace["middle"][: len(above)]
            xp.copyto(shares, above)
            self._divide(xp, shares, gradient.shape)
            spread(xp.add, shares, across, 2, middle)
            spread(xp.add, middle, down, 1, gradient[part])

    def _divide(self, xp: Namespace, values: Array, images: Shape) -> None:
        """Divide, in place, by the number of pixels of each window, which is smaller only at the edges."""
        down, across = self.axes(images)
        sizes_down, sizes_across = down.sizes(), across.sizes()
        for i, rows in sizes_down:
            for j, columns in sizes_across:
                part = values[:, rows, columns]
                xp.divide(part, i * j, out=part)
