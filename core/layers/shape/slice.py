"""Slicing."""

import builtins
from typing import ClassVar

from core.arrays import Shape
from core.layers.axes import axis_of
from core.layers.shape.base import Indexing
from core.registry import hyperparameter


class Slice(Indexing):
    """The elements from `start` up to, but without, `stop` along an axis: (batch, ...) with two or more axes.

    The gradient is the upstream gradient at these elements and 0 elsewhere.
    """

    type: ClassVar[str] = "slice"

    start: int = hyperparameter(default=0, doc="The first index.", ge=0)
    stop: int | None = hyperparameter(default=None, doc="The index after the last; by default the axis's size.", ge=1)
    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 is the batch axis.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the input, with the size of the slice along the axis."""
        (x,) = shapes
        axis = axis_of(self.type, self.axis, len(x))
        stop = x[axis] if self.stop is None else self.stop
        if not self.start < stop <= x[axis]:
            raise ValueError(
                f"slice from {self.start} to {stop} is out of range along axis {axis} of an input of shape {x}"
            )
        return (*x[:axis], stop - self.start, *x[axis + 1 :])

    def index_for(self, dimensions: int) -> tuple[builtins.slice | int, ...]:
        before = (builtins.slice(None),) * (self.axis % dimensions)
        return (*before, builtins.slice(self.start, self.stop))
