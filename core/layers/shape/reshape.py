"""Reshaping."""

from math import prod
from typing import ClassVar

from core.arrays import Shape
from core.layers.shape.base import Reshaping
from core.registry import hyperparameter


class Reshape(Reshaping):
    """Reshapes each sample: (batch, ...) to (batch, *shape), in row-major order.

    The gradient is the upstream gradient in the shape of the input.
    """

    type: ClassVar[str] = "reshape"

    shape: tuple[int, ...] = hyperparameter(doc="The shape of a sample, without the batch axis.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, *shape)."""
        (x,) = shapes
        if not x or prod(x[1:]) != prod(self.shape):
            raise ValueError(f"reshape to {self.shape} needs {prod(self.shape)} elements per sample, not shape {x}")
        return (x[0], *self.shape)
