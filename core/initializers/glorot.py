"""Glorot initialization, normal."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in, fan_out


class Glorot(Initializer):
    """Normal with mean 0 and standard deviation `sqrt(2 / (inputs + outputs))`.

    A compromise between keeping the variance of the values in forward and that of the gradients in backward.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, equation 12.
    """

    type: ClassVar[str] = "glorot"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.standard_normal(shape) * sqrt(2 / (fan_in(shape) + fan_out(shape)))
