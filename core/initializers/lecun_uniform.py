"""LeCun initialization, uniform."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in


class LeCunUniform(Initializer):
    """Uniform within `±sqrt(3 / inputs)`, with the same variance as `lecun`: `1 / inputs`.

    Source: LeCun et al., "Efficient BackProp", 1998, equation 16, for a uniform distribution.
    """

    type: ClassVar[str] = "lecun_uniform"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.uniform(-1, 1, shape) * sqrt(3 / fan_in(shape))
