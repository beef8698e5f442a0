"""Glorot initialization, uniform."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in, fan_out


class GlorotUniform(Initializer):
    """Uniform within `±sqrt(6 / (inputs + outputs))`, with the same variance as `glorot`.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010, equation 16.
    """

    type: ClassVar[str] = "glorot_uniform"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.uniform(-1, 1, shape) * sqrt(6 / (fan_in(shape) + fan_out(shape)))
