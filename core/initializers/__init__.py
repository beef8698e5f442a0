"""How parameters start, one class per file. A new file here is a new initializer; nothing else is to be touched."""

from typing import ClassVar

import numpy as np

from core.arrays import Array, Shape
from core.registry import Registered, import_modules


class Initializer(Registered):
    """A distribution of initial values."""

    kind: ClassVar[str] = "initializer"

    def draw(self, generator: np.random.Generator, shape: Shape) -> Array:
        """Return values of the given shape in float64. The last axis of `shape` counts outputs, the others inputs."""
        raise NotImplementedError


import_modules(__name__, __path__)
