"""A normal distribution with a given standard deviation."""

from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer
from core.registry import hyperparameter


class Normal(Initializer):
    """Normal with mean 0 and standard deviation `std`, independent of the shape."""

    type: ClassVar[str] = "normal"

    std: float = hyperparameter(default=0.01, doc="Standard deviation.", ge=0)

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.standard_normal(shape) * self.std
