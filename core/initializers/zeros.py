"""Zeros."""

from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.initializers.base import Initializer


class Zeros(Initializer):
    """All zeros, the usual initial value of biases."""

    type: ClassVar[str] = "zeros"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        return np.zeros(shape)
