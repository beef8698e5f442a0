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
        """Return random values in float64. The last axis of `shape` is the outputs, the others are the inputs."""
        raise NotImplementedError


def fan_in(shape: Shape) -> int:
    """Return the product of all axes but the last: the inputs per output of a weight; 1 for a vector or scalar."""
    return prod(shape[:-1])


def fan_out(shape: Shape) -> int:
    """Return the size of the last axis: the outputs of a weight; 1 for a scalar."""
    return prod(shape[-1:])
