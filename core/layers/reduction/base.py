"""Base class of the reductions."""

from math import prod

from core.arrays import Array, Shape
from core.graph.node import Layer
from core.layers.axes import axis_of
from core.registry import hyperparameter


class Reduction(Layer):
    """A reduction of some axes of the input, which the output does not have."""

    axes: tuple[int, ...] = hyperparameter(
        default=(),
        doc="The axes to reduce; negative ones count from the back. Axis 0, the batch axis, cannot be reduced. By "
        "default all other axes are.",
    )

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the input without the axes."""
        (x,) = shapes
        reduced = self.axes_of(x)
        return tuple(size for axis, size in enumerate(x) if axis not in reduced)

    def axes_of(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes to reduce of an input of this shape, as non-negative numbers."""
        if not shape:
            raise ValueError(f"{self.type} needs an input of shape (batch, ...), not ()")
        if not self.axes:
            return tuple(range(1, len(shape)))
        axes = tuple(axis_of(self.type, axis, len(shape)) for axis in self.axes)
        if len(set(axes)) < len(axes):
            raise ValueError(f"{self.type} needs axes without duplicates, not {self.axes} of an input of shape {shape}")
        return axes

    def count(self, shape: Shape) -> int:
        """Return the number of elements that are reduced to one, for an input of this shape."""
        return prod(shape[axis] for axis in self.axes_of(shape))

    def expanded(self, array: Array, shape: Shape) -> Array:
        """Return a view of an array of the output's shape that broadcasts to `shape`, the shape of the input."""
        reduced = self.axes_of(shape)
        return array.reshape(tuple(1 if axis in reduced else size for axis, size in enumerate(shape)))
