"""Base class of the layers that reduce windows of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeAlias

from core.graph.node import Layer
from core.layers.convolution.window import Axis, axes_of
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Shape

#: of an array (batch, height, width, channels)
Part: TypeAlias = tuple[slice, slice, slice]


class Pooling(Layer):
    """A reduction of each channel over windows of images (batch, height, width, channels)."""

    images: ClassVar[bool] = True

    kernel: int | tuple[int, ...] = hyperparameter(doc="Height and width of a window, or one number for both.", ge=1)
    stride: int | tuple[int, ...] | None = hyperparameter(
        default=None, doc="Distance between windows, likewise; by default the size of a window.", ge=1
    )
    padding: int | tuple[int, ...] = hyperparameter(
        default=0, doc="Padding on each side, likewise, smaller than a window.", ge=0
    )
    ceil: bool = hyperparameter(
        default=False,
        doc="Whether the last windows may reach beyond the padding, as in Caffe, so that no pixel is left out.",
    )

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        down, across = self.axes(x)
        return (x[0], down.count, across.count, x[3])

    def axes(self, x: Shape) -> tuple[Axis, Axis]:
        """Return the windows along height and width."""
        down, across = axes_of(
            self.type,
            x,
            kernel=self.kernel,
            stride=self.kernel if self.stride is None else self.stride,
            padding=self.padding,
            ceil=self.ceil,
        )
        for axis in (down, across):
            if axis.before >= axis.kernel:
                raise ValueError(
                    f"{self.type}.padding must be smaller than a window of {axis.kernel}, not {axis.before}"
                )
        return down, across

    def entries(self, x: Shape) -> Iterator[tuple[Part, Part]]:
        """Yield, for each entry of a window, the windows in which it lies inside the image, and its pixels."""
        down, across = self.axes(x)
        every = slice(None)
        for i in range(down.kernel):
            rows, ys = down.inside(i)
            for j in range(across.kernel):
                columns, xs = across.inside(j)
                yield (every, rows, columns), (every, ys, xs)
