"""He initialization, normal."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in


class He(Initializer):
    """Normal with mean 0 and standard deviation `sqrt(2 / inputs)`, which keeps the variance through ReLU layers.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, equation 10.
    """

    type: ClassVar[str] = "he"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.standard_normal(shape) * sqrt(2 / fan_in(shape))
