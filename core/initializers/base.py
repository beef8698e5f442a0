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
        """Return random values in float64. The last axis of `shape` is the outputs, the one before it the inputs.

        Axes in front of them are the entries of a window, as in a convolution.
        """
        raise NotImplementedError


def fan_in(shape: Shape) -> int:
    """Return the product of all axes but the last: the inputs per output of a weight; 1 for a vector or scalar."""
    return prod(shape[:-1])


def fan_out(shape: Shape) -> int:
    """Return the number of outputs that an input of a weight has: the last axis, times the entries of a window."""
    return prod(shape[:-2]) * prod(shape[-1:])
