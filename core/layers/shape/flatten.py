"""Flattening."""

from math import prod
from typing import ClassVar

from core.arrays import Shape
from core.layers.shape.base import Reshaping


class Flatten(Reshaping):
    """Flattens each sample: (batch, ...) to (batch, features), in row-major order.

    The gradient is the upstream gradient in the shape of the input.
    """

    type: ClassVar[str] = "flatten"

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, features)."""
        (x,) = shapes
        if not x:
            raise ValueError("flatten needs an input of shape (batch, ...), not ()")
        return (x[0], prod(x[1:]))
