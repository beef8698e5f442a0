"""Base class of the layers that reduce windows of images."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from core.graph.node import Layer
from core.layers.convolution.window import Axis, axes_of
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.arrays import Array, Shape

#: of an array (batch, height, width, channels)
Part: TypeAlias = tuple[slice, slice, slice]


# Numbers of the images that are reduced together: with what is written, they fit into the level-two cache.
BLOCK = 65_536


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

    def parts(self, x: Shape) -> Iterator[slice]:
        """Yield the images that are reduced together."""
        most = max(1, BLOCK // prod(x[1:]))
        for start in range(0, x[0], most):
            yield slice(start, min(start + most, x[0]))

    def middle(self, x: Shape) -> Shape:
        """Return the shape of the images of a part whose height is already that of the output."""
        down, _ = self.axes(x)
        return (min(x[0], max(1, BLOCK // prod(x[1:]))), down.count, *x[2:])

    def entries(self, x: Shape) -> Iterator[tuple[Part, Part]]:
        """Yield, for each entry of a window, the windows in which it lies inside the image, and its pixels."""
        down, across = self.axes(x)
        every = slice(None)
        for i in down.offsets:
            rows, ys = down.inside(i)
            for j in across.offsets:
                columns, xs = across.inside(j)
                yield (every, rows, columns), (every, ys, xs)


def reduce(combine: Callable[..., Any], images: Array, axis: Axis, along: int, start: float, out: Array) -> None:
    """Combine the entries of windows along one axis of images. `start` is for windows without an entry."""
    before = (slice(None),) * along
    entries = [tuple((*before, place) for place in axis.inside(number)) for number in axis.offsets]
    first = next((each for each in entries if each[0][along] == slice(0, axis.count)), None)
    if first is None:
        out.fill(start)
    else:
        out[...] = images[first[1]]
    for windows, pixels in entries:
        if first is None or pixels != first[1]:
            combine(out[windows], images[pixels], out=out[windows])


def spread(combine: Callable[..., Any], windows: Array, axis: Axis, along: int, out: Array) -> None:
    """Add each window to its entries along one axis of images."""
    before = (slice(None),) * along
    out.fill(0)
    for number in axis.offsets:
        places, pixels = axis.inside(number)
        combine(out[(*before, pixels)], windows[(*before, places)], out=out[(*before, pixels)])
