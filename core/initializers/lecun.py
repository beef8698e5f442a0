"""LeCun initialization, normal."""

from math import sqrt
from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer, fan_in


class LeCun(Initializer):
    """Normal with mean 0 and standard deviation `sqrt(1 / inputs)`, which keeps the variance through linear layers.

    Source: LeCun et al., "Efficient BackProp", 1998, equation 16.
    """

    type: ClassVar[str] = "lecun"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.standard_normal(shape) * sqrt(1 / fan_in(shape))
