"""Convolution of images."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import ParameterDeclaration
from core.kernels.im2row import Windows, matrix_of, unpack
from core.kernels.lines import buffers, convolve, correlate
from core.kernels.products import multiply
from core.layers.convolution.convolution import Convolution
from core.layers.convolution.window import Axis, axes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration

# Windows of the upstream gradient for each window of the images, up to which the input gradient is a convolution.
MORE = 1.5


class Conv2d(Convolution):
    """Images (batch, height, width, channels) to (batch, windows down, windows across, filters).

    Each output is the sum over a window of `x W`, plus b: weight W (kernel height, kernel width, channels / groups,
    filters), bias b (filters,). Windows are not mirrored: it is what PyTorch and Caffe call convolution.

    With `groups`, the channels and the filters are cut into that many parts, and filters see the channels of their part
    only. The gradient of x is the convolution of the padded upstream gradient with the mirrored weights, of W the
    product of the windows with the upstream gradient, and of b the sum of the upstream gradient.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86, 1998;
    groups: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012.
    """

    type: ClassVar[str] = "conv2d"

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        down, across = self._axes(x)
        self.check_groups(x)
        return (x[0], down.count, across.count, self.filters)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return weight and bias."""
        x = shapes[0]
        down, across = self._axes(x)
        shape = (down.kernel, across.kernel, x[3] // self.groups, self.filters)
        return (ParameterDeclaration("weight", shape, self.weight, penalized=self.penalized), *self.biases())

    def multiply_adds(self, *shapes: Shape) -> int:
        (x,) = shapes
        return prod(self.infer(x)[:3]) * prod(self.parameters(x)[0].shape)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        axes = self._axes(x)
        kernel, channels, filters = _kernel(axes), x[3] // self.groups, self.filters // self.groups
        sizes = [buffers(_windows(axes), x[0], channels, filters)]
        if _can_be_mirrored(axes):
            sizes.append(buffers(_mirrored_windows(axes), x[0], filters, channels))
        else:
            sizes.append(dict(zip(("padded", "rows"), _windows(axes).buffers(x[0], channels), strict=True)))
        scratch = {name: max(each.get(name, 0) for each in sizes) for name in ("padded", "rows", "sums")}
        return {
            **{name: ((size,), "scratch") for name, size in scratch.items()},
            "partial": ((kernel[1] * channels, filters), "scratch"),
            "transposed": ((prod(kernel) * channels * filters,), "scratch"),
            "line": ((axes[1].count, self.filters), "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, weight, *bias = inputs
        windows, line = _windows(self._axes(x.shape)), workspace["line"]
        for each in bias:
            xp.copyto(line, each)
        for channels, filters in self._parts(x):
            part = line[:, filters] if bias else None
            convolve(xp, x[..., channels], _matrix(weight)[:, filters], windows, workspace, output[..., filters], part)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x, weight, *_ = inputs
        x_gradient, weight_gradient, *bias_gradient = gradients
        if weight_gradient is not None:
            self._write_weight_gradient(xp, x, upstream, workspace, weight_gradient)
        self.write_bias_gradients(xp, upstream, bias_gradient)
        if x_gradient is not None:
            write = self._convolve_back if _can_be_mirrored(self._axes(x.shape)) else self._scatter_back
            write(xp, upstream, weight, workspace, x_gradient)

    def _write_weight_gradient(
        self, xp: Namespace, x: Array, upstream: Array, workspace: Workspace, gradient: Array
    ) -> None:
        windows = _windows(self._axes(x.shape))
        for channels, filters in self._parts(x):
            total = _matrix(gradient)[:, filters]
            correlate(xp, x[..., channels], upstream[..., filters], windows, workspace, workspace["partial"], total)

    def _convolve_back(
        self, xp: Namespace, upstream: Array, weight: Array, workspace: Workspace, gradient: Array
    ) -> None:
        """Write the gradient of the images, as a convolution of the upstream gradient with the mirrored weights."""
        windows = _mirrored_windows(self._axes(gradient.shape))
        for channels, filters in self._parts(gradient):
            part = weight[::-1, ::-1, :, filters].swapaxes(2, 3)
            mirrored = workspace["transposed"].reshape(part.shape)
            xp.copyto(mirrored, part)
            target = gradient[..., channels]
            convolve(xp, upstream[..., filters], _matrix(mirrored), windows, workspace, target, None)

    def _scatter_back(
        self, xp: Namespace, upstream: Array, weight: Array, workspace: Workspace, gradient: Array
    ) -> None:
        """Write the gradient of the images, by adding the gradient of each window to its pixels."""
        windows = _windows(self._axes(gradient.shape))
        for channels, filters in self._parts(gradient):
            matrix = _matrix(weight)[:, filters].T
            transposed = workspace["transposed"].reshape(matrix.shape)
            xp.copyto(transposed, matrix)
            blocks = unpack(xp, gradient[..., channels], windows, workspace["padded"], workspace["rows"])
            for rows, of, lines in blocks:
                multiply(xp, matrix_of(upstream, of, lines)[:, filters], transposed, rows)

    def _axes(self, x: Shape) -> tuple[Axis, Axis]:
        return axes_of(
            "conv2d", x, kernel=self.kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )

    def _parts(self, images: Array) -> Iterator[tuple[slice, slice]]:
        """Yield the channels and the filters of each group."""
        channels, filters = images.shape[3] // self.groups, self.filters // self.groups
        for group in range(self.groups):
            yield slice(group * channels, (group + 1) * channels), slice(group * filters, (group + 1) * filters)


def _kernel(axes: tuple[Axis, Axis]) -> tuple[int, int]:
    down, across = axes
    return down.kernel, across.kernel


def _windows(axes: tuple[Axis, Axis]) -> Windows:
    down, across = axes
    return Windows(
        (down.count, across.count),
        _kernel(axes),
        (down.stride, across.stride),
        (down.dilation, across.dilation),
        (down.size, across.size),
        (down.before, across.before),
        (down.padded, across.padded),
    )


def _mirrored_windows(axes: tuple[Axis, Axis]) -> Windows:
    """Windows of the upstream gradient with a margin of zeros: one for each pixel."""
    down, across = axes
    return Windows(
        (down.size, across.size),
        _kernel(axes),
        (1, 1),
        (down.dilation, across.dilation),
        (down.count, across.count),
        (down.extent - 1 - down.before, across.extent - 1 - across.before),
        (down.size + down.extent - 1, across.size + across.extent - 1),
    )


def _can_be_mirrored(axes: tuple[Axis, Axis]) -> bool:
    """Whether the upstream gradient only needs a margin, and few more windows: one for each pixel.

    With a stride it would also need zeros in between.
    """
    pixels, windows = prod(axis.size for axis in axes), prod(axis.count for axis in axes)
    only_margin = all(axis.stride == 1 and max(axis.before, axis.after) < axis.extent for axis in axes)
    return only_margin and pixels <= MORE * windows


def _matrix(weight: Array) -> Array:
    """Return weights (height, width, channels, filters) as a matrix (numbers of a window, filters)."""
    return weight.reshape(-1, weight.shape[-1])
