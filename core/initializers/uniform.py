"""A uniform distribution with a given limit."""

from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer
from core.registry import hyperparameter


class Uniform(Initializer):
    """Uniform within `±limit`, independent of the shape."""

    type: ClassVar[str] = "uniform"

    limit: float = hyperparameter(default=0.01, doc="Largest absolute value.", ge=0)

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return generator.uniform(-1, 1, shape) * self.limit
