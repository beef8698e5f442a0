"""Types of the vectors that workers exchange, and the columns of the table of shards."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# The first columns of the table of shards: the sum of the losses, and the samples whose loss has a gradient. What
# metrics count comes after them.
LOSS, ACTIVE = range(2)
FIRST_COLUMNS = 2

Vector: TypeAlias = NDArray[Any]
Table: TypeAlias = NDArray[np.float64]

# The vector that is added to, and the vector that is added.
Addition: TypeAlias = tuple[Vector, Vector]
