"""Base class of the penalties. They enter once per step and never once per shard."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from core.arrays import Array, Namespace
from core.registry import Registered

# Elements whose terms in float64 take 64 KiB: few enough to stay in the cache.
_CHUNK = 8_192


class Penalty(Registered):
    """A function of the weights, added to the loss. Vectors given here hold penalized parameters only."""

    kind: ClassVar[str] = "penalty"

    def add_gradient(self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array) -> None:
        """Add the penalty's gradient to `gradients` in place; where a slice begins and ends does not change a bit.

        `scratch` has the vectors' dtype and at least min(their length, `core.arrays.BLOCK`) elements.
        """
        raise NotImplementedError

    def value(self, xp: Namespace, parameters: Array) -> float:
        """Return the penalty, added up in float64; the last bits depend on where the vector is cut."""
        raise NotImplementedError


def add_up(xp: Namespace, term: Callable[..., Array], parameters: Array) -> float:
    """Return the sum of `term`, an elementwise function of the array module, over a vector, in float64."""
    return sum(
        float(xp.sum(term(parameters[start : start + _CHUNK], dtype=np.float64)))
        for start in range(0, parameters.size, _CHUNK)
    )
