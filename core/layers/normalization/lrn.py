"""Local response normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.graph.node import Kept, Layer
from core.layers.axes import IMAGE, check_axes
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class LRN(Layer):
    """`x s**-beta`, `s = k + alpha mean(x**2)` over neighbours: (batch, height, width, channels) to the same shape.

    The neighbours are `size` adjacent channels of the same pixel, or, within a channel, `size` x `size` pixels; those
    outside the image count as zeros. This is Caffe's rule, and PyTorch's for channels.

    The gradient is `u s**-beta - 2 alpha beta x mean(u y / s)`, with the mean over the same neighbours, where u is the
    upstream gradient and y the output.

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012, where alpha
    is not divided by the number of neighbours.
    """

    type: ClassVar[str] = "lrn"
    images: ClassVar[bool] = True
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs", "output"})

    size: int = hyperparameter(
        default=5, doc="Number of neighbours, odd; within a channel, along each axis.", ge=1, le=9_999
    )
    alpha: float = hyperparameter(default=1e-4, doc="Factor of the mean square.", ge=0)
    beta: float = hyperparameter(default=0.75, doc="The exponent.", ge=0)
    k: float = hyperparameter(default=1.0, doc="Added to the mean square; 2 in the paper.", ge=1e-30)
    region: Literal["across_channels", "within_channel"] = hyperparameter(
        default="across_channels", doc="Where the neighbours lie."
    )

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        check_axes(self.type, x, IMAGE)
        if self.size % 2 == 0:
            raise ValueError(f"lrn.size must be odd, not {self.size}")
        return x

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        return {
            "s": (x, "float"),
            "factor": (x, "float"),
            **dict.fromkeys(["mean", "lines"][: len(self._axes)], (x, "scratch")),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        s, factor = workspace["s"], workspace["factor"]
        xp.square(x, out=output)
        self._write_mean(xp, output, s, workspace)
        xp.multiply(s, self.alpha, out=s)
        xp.add(s, self.k, out=s)
        xp.power(s, -self.beta, out=factor)
        xp.multiply(x, factor, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (x,), (gradient,) = inputs, gradients
        if gradient is None:
            return
        mean = workspace["mean"]
        xp.multiply(upstream, output, out=gradient)
        xp.divide(gradient, workspace["s"], out=gradient)
        self._write_mean(xp, gradient, mean, workspace)
        xp.multiply(mean, 2 * self.alpha * self.beta, out=mean)
        xp.multiply(mean, x, out=mean)
        xp.multiply(upstream, workspace["factor"], out=gradient)
        xp.subtract(gradient, mean, out=gradient)

    @property
    def _axes(self) -> tuple[int, ...]:
        return (1, 2) if self.region == "within_channel" else (3,)

    def _write_mean(self, xp: Namespace, values: Array, mean: Array, workspace: Workspace) -> None:
        """Write the mean over the neighbours of each value, in a fixed order of additions."""
        *first, last = self._axes
        for axis in first:
            _write_sums(xp, values, axis, self.size, workspace["lines"])
            values = workspace["lines"]
        _write_sums(xp, values, last, self.size, mean)
        xp.divide(mean, self.size ** len(self._axes), out=mean)


def _write_sums(xp: Namespace, values: Array, axis: int, size: int, sums: Array) -> None:
    """Write the sum of each value and of `size - 1` neighbours along an axis, half of them on each side."""
    xp.copyto(sums, values)
    for distance in range(1, min(size // 2, values.shape[axis] - 1) + 1):
        early = (slice(None),) * axis + (slice(None, -distance),)
        late = (slice(None),) * axis + (slice(distance, None),)
        xp.add(sums[late], values[early], out=sums[late])
        xp.add(sums[early], values[late], out=sums[early])
