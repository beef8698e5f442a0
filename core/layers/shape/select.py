"""Selection of one index along an axis."""

from typing import ClassVar

from core.arrays import Shape
from core.layers.axes import axis_of
from core.layers.shape.base import Indexing
from core.registry import hyperparameter


class Select(Indexing):
    """The elements at `index` along an axis, which the output does not have: (batch, ...) with two or more axes.

    The gradient is the upstream gradient at these elements and 0 elsewhere.
    """

    type: ClassVar[str] = "select"

    index: int = hyperparameter(doc="The index along the axis.", ge=0)
    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 is the batch axis.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the input without the axis."""
        (x,) = shapes
        axis = axis_of(self.type, self.axis, len(x))
        if self.index >= x[axis]:
            raise ValueError(
                f"select needs an index below {x[axis]} along axis {axis} of an input of shape {x}, not {self.index}"
            )
        return (*x[:axis], *x[axis + 1 :])

    def index_for(self, dimensions: int) -> tuple[slice | int, ...]:
        return (*(slice(None),) * (self.axis % dimensions), self.index)
