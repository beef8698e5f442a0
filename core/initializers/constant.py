"""A constant."""

from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer
from core.registry import hyperparameter


class ConstantInitializer(Initializer):
    """The same value everywhere, for example for biases that start slightly above zero."""

    type: ClassVar[str] = "constant"

    value: float = hyperparameter(doc="The value.")

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return np.full(shape, self.value)
