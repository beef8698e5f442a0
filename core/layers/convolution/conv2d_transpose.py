"""Transposed convolution of images."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import ParameterDeclaration
from core.layers.convolution.conv2d import Conv2d
from core.layers.convolution.convolution import Convolution
from core.layers.convolution.window import Padding, enlarged
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class Conv2dTranspose(Convolution):
    """Images (batch, height, width, channels) to larger ones (batch, ..., ..., filters).

    Each pixel of the input adds a window of `x W` to the output, and b is added: weight W (kernel height, kernel width,
    filters / groups, channels), bias b (filters,). The windows lie in the output as those of `conv2d` in its input. A
    size n becomes `(n - 1) stride + (kernel - 1) dilation + 1`, less the padding on both sides, or with the padding
    "same" n times the stride.

    It is the gradient of `conv2d` with respect to its images, with the same weights. So the gradient of x is `conv2d`
    of the upstream gradient, that of W the gradient of its weights, and that of b the sum of the upstream gradient.
    Initializers take the filters for the inputs of a weight, as those of PyTorch and Keras do.

    Source: Zeiler et al., "Deconvolutional networks", CVPR 2010.
    """

    type: ClassVar[str] = "conv2d_transpose"

    padding: Padding = hyperparameter(
        default="valid",
        doc='What is cut off on each side of the output, likewise; "valid" is nothing, and "same" leaves as many '
        "pixels as the input has, times the stride.",
        ge=0,
    )

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        height, width = enlarged(
            self.type, x, kernel=self.kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        self.check_groups(x)
        return (x[0], height, width, self.filters)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return weight and bias."""
        x = shapes[0]
        return (*_convolution(self, x[3]).parameters(self.infer(x)), *self.biases())

    def multiply_adds(self, *shapes: Shape) -> int:
        (x,) = shapes
        return _convolution(self, x[3]).multiply_adds(self.infer(x))

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        return _convolution(self, x[3]).workspace(self.infer(x))

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, weight, *bias = inputs
        # Of the images, whose gradient is the output, the convolution reads the shape only.
        _convolution(self, x.shape[3]).backward(xp, x, (output, weight), x, workspace, (output, None))
        for each in bias:
            xp.add(output, each, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x, weight, *_ = inputs
        x_gradient, weight_gradient, *bias_gradient = gradients
        convolution = _convolution(self, x.shape[3])
        if x_gradient is not None:
            convolution.forward(xp, (upstream, weight), x_gradient, workspace)
        if weight_gradient is not None:
            convolution.backward(xp, x, (upstream, weight), x, workspace, (None, weight_gradient))
        self.write_bias_gradients(xp, upstream, bias_gradient)


@lru_cache(maxsize=256)  # a layer asks several times in each pass
def _convolution(layer: Conv2dTranspose, channels: int) -> Conv2d:
    """Return the convolution whose gradient with respect to its images is `layer` for this number of channels."""
    values = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return Conv2d(**{**values, "filters": channels, "bias": None})
