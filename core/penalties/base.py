"""Base class of the penalties. They are applied once per step, not once per shard."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace
from core.registry import Registered

# Elements: their terms in float64 take 64 KiB, which fits into the cache.
_CHUNK = 8_192


class Penalty(Registered):
    """A function of the weights that is added to the loss. The methods receive penalized parameters only."""

    kind: ClassVar[str] = "penalty"

    def add_gradient(
        self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array, factor: float = 1.0
    ) -> None:
        """Add `factor` times the gradient of the penalty to `gradients` in place. Any slice gives the same bits.

        `scratch` has the dtype of the vectors, and at least min(their length, `core.arrays.BLOCK`) elements.
        """
        raise NotImplementedError

    def value(self, xp: Namespace, parameters: Array) -> float:
        """Return the penalty, summed in float64. The last bits depend on how the vector is sliced."""
        raise NotImplementedError


def add_up(xp: Namespace, term: Callable[..., Array], parameters: Array) -> float:
    """Return the sum over a vector of `term`, an elementwise function of `xp`, in float64."""
    return sum(
        float(xp.sum(term(parameters[start : start + _CHUNK], dtype=np.float64)))
        for start in range(0, parameters.size, _CHUNK)
    )
