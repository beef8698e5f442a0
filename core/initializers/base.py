"""Base class of the initializers."""

from math import prod
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.registry import Registered


class Initializer(Registered):
    """A distribution of initial values."""

    kind: ClassVar[str] = "initializer"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        """Return values of the given shape in float64. The last axis of `shape` counts outputs, the others inputs."""
        raise NotImplementedError


def fan_in(shape: Shape) -> int:
    """Return the number of inputs of each output of a weight: all axes but the last; 1 for a vector or a scalar."""
    return prod(shape[:-1])


def fan_out(shape: Shape) -> int:
    """Return the number of outputs of a weight, its last axis; 1 for a scalar."""
    return prod(shape[-1:])
