"""Mean over windows of images."""

from __future__ import annotations

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration
from core.layers.convolution.pooling import Pooling


class AveragePool2d(Pooling):
    """The mean over windows: (batch, height, width, channels) to (batch, windows down, windows across, channels).

    Padding counts as zeros: the sum is divided by the number of pixels of the window that lie in the image or its
    padding. That is Caffe's rule, and PyTorch's with `count_include_pad`.
    """

    type: ClassVar[str] = "average_pool2d"

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"shares": (self.infer(*shapes), "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        output.fill(0)
        for windows, pixels in self.entries(x.shape):
            xp.add(output[windows], x[pixels], out=output[windows])
        self._divide(xp, output, x.shape)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is None:
            return
        shares = workspace["shares"]
        xp.copyto(shares, upstream)
        self._divide(xp, shares, gradient.shape)
        gradient.fill(0)
        for windows, pixels in self.entries(gradient.shape):
            xp.add(gradient[pixels], shares[windows], out=gradient[pixels])

    def _divide(self, xp: Namespace, values: Array, images: Shape) -> None:
        """Divide, in place, by the number of pixels of each window, which is smaller only at the edges."""
        down, across = self.axes(images)
        sizes_down, sizes_across = down.sizes(), across.sizes()
        for i, rows in sizes_down:
            for j, columns in sizes_across:
                part = values[:, rows, columns]
                xp.divide(part, i * j, out=part)
