"""Base class of the reductions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from core.graph.node import Arithmetic
from core.layers.axes import axis_of
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Shape


class Reduction(Arithmetic):
    """A node that makes one number out of all along some axes, which are gone in its output."""

    axes: tuple[int, ...] = hyperparameter(
        default=(), doc="The axes to go; negative ones count from the back. Axis 0 stays. By default all others go."
    )

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape without the axes."""
        (x,) = shapes
        gone = self.axes_of(x)
        return tuple(size for axis, size in enumerate(x) if axis not in gone)

    def axes_of(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes of an input of this shape, counted from the front."""
        if not shape:
            raise ValueError(f"{self.type} needs an input of shape (batch, ...), not ()")
        if not self.axes:
            return tuple(range(1, len(shape)))
        axes = tuple(axis_of(self.type, axis, len(shape)) for axis in self.axes)
        if len(set(axes)) < len(axes):
            raise ValueError(f"{self.type} needs axes that differ, not {self.axes} of an input of shape {shape}")
        return axes

    def count(self, shape: Shape) -> int:
        """Return how many numbers of an input of this shape become one."""
        return prod(shape[axis] for axis in self.axes_of(shape))

    def expanded(self, array: Array, shape: Shape) -> Array:
        """Return an array of the output's shape as a view that broadcasts to `shape`, that of the input."""
        gone = self.axes_of(shape)
        return array.reshape(tuple(1 if axis in gone else size for axis, size in enumerate(shape)))
