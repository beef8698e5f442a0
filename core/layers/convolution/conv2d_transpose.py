"""Transposed convolution of images."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from core.arrays import ones
from core.graph.node import Kept, Layer, ParameterDeclaration
from core.initializers.base import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.layers.convolution.conv2d import Conv2d
from core.layers.convolution.window import Padding, enlarged
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class Conv2dTranspose(Layer):
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
    images: ClassVar[bool] = True
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    filters: int = hyperparameter(doc="Number of channels of the output.", ge=1)
    kernel: int | tuple[int, ...] = hyperparameter(doc="Height and width of a window, or one number for both.", ge=1)
    stride: int | tuple[int, ...] = hyperparameter(default=1, doc="Distance between windows, likewise.", ge=1)
    padding: Padding = hyperparameter(
        default="valid",
        doc='What is cut off on each side of the output, likewise; "valid" is nothing, and "same" leaves as many '
        "pixels as the input has, times the stride.",
        ge=0,
    )
    dilation: int | tuple[int, ...] = hyperparameter(
        default=1, doc="Distance between the pixels of a window, likewise.", ge=1
    )
    groups: int = hyperparameter(default=1, doc="Number of parts of the channels.", ge=1)
    weight: Initializer = hyperparameter(default=He(), doc="Initializer of the weights.")
    bias: Initializer | None = hyperparameter(
        default=Zeros(), doc="Initializer of the biases, to which penalties do not apply; null for none."
    )
    penalized: bool = hyperparameter(default=True, doc="Whether penalties and weight decay apply to the weights.")

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        height, width = enlarged(
            self.type, x, kernel=self.kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        for name, count in (("channels", x[3]), ("filters", self.filters)):
            if count % self.groups:
                raise ValueError(f"conv2d_transpose needs {name} that {self.groups} groups divide, not {count}")
        return (x[0], height, width, self.filters)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return weight and bias."""
        x = shapes[0]
        weight = _convolution(self, x[3]).parameters(self.infer(x))
        if self.bias is None:
            return weight
        return (*weight, ParameterDeclaration("bias", (self.filters,), self.bias, penalized=False))

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
        for gradient in bias_gradient:
            if gradient is not None:
                rows = upstream.reshape(-1, self.filters)
                xp.matmul(ones(xp, len(rows), rows.dtype), rows, out=gradient)


@lru_cache(maxsize=256)  # a layer asks several times in each pass
def _convolution(layer: Conv2dTranspose, channels: int) -> Conv2d:
    """Return the convolution whose gradient with respect to its images is `layer` for this number of channels."""
    return Conv2d(
        filters=channels,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        weight=layer.weight,
        bias=None,
        penalized=layer.penalized,
    )
