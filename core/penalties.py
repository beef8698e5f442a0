"""Penalties on the weights, which enter once per step and never once per shard."""

from dataclasses import dataclass

import numpy as np

from core.arrays import Array, Namespace, blocks


@dataclass(frozen=True)
class L2:
    """`weight * sum w²`, without a factor 1/2. Vectors given here hold penalized parameters only."""

    weight: float

    def add_gradient(self, xp: Namespace, parameters: Array, gradients: Array, scratch: Array) -> None:
        """Add `2 weight w` to `gradients` in place; where a slice begins and ends does not change a bit.

        `scratch` has the vectors' dtype and at least min(their length, `core.arrays.BLOCK`) elements.
        """
        for block in blocks(parameters.size):
            term = scratch[: block.stop - block.start]
            xp.multiply(parameters[block], 2 * self.weight, out=term)
            xp.add(gradients[block], term, out=gradients[block])

    def value(self, xp: Namespace, parameters: Array) -> float:
        """Return the penalty, added up in float64 block by block; the last bits depend on where the vector is cut."""
        return self.weight * sum(
            float(xp.sum(xp.square(parameters[block], dtype=np.float64))) for block in blocks(parameters.size)
        )
