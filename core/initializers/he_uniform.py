"""He initialization, uniform."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in


class HeUniform(Initializer):
    """Uniform within `±sqrt(6 / inputs)`, with the same variance as `he`: `2 / inputs`.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, equation 10, for a uniform distribution.
    """

    type: ClassVar[str] = "he_uniform"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.uniform(-1, 1, shape) * sqrt(6 / fan_in(shape))
