"""The gradient check of a penalty on the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.gradcheck.differences import STENCIL, central
from core.gradcheck.report import TOLERANCE

if TYPE_CHECKING:
    from core.arrays import Array
    from core.penalties.base import Penalty

WEIGHTS = 40
STEP = 1e-3


def penalty_problems(penalty: Penalty, random: np.random.Generator) -> list[str]:
    """Return what is wrong with the gradient that a penalty adds, weight by weight, in float64 and float32."""
    # No weight is near 0, where a penalty may have a kink.
    weights = random.choice([-1.0, 1.0], WEIGHTS) * random.uniform(0.1, 3, WEIGHTS)
    start = random.standard_normal(WEIGHTS)
    found = []
    added = _added(penalty, weights, start)
    numeric = np.array([_difference(penalty, weights, entry) for entry in range(WEIGHTS)])
    if not np.abs(added - numeric).max() <= TOLERANCE * np.abs(numeric).max():
        found.append("the gradient of the penalty differs from differences of its value")
    single = _added(penalty, weights.astype(np.float32), start.astype(np.float32))
    if not np.abs(single - added).max() <= 1e-5 * np.abs([*added, *start]).max():
        found.append("the gradient of the penalty differs between float32 and float64")
    return found


def _added(penalty: Penalty, weights: Array, start: Array) -> Array:
    gradients = start.copy()
    penalty.add_gradient(np, weights, gradients, np.empty_like(weights))
    added: Array = gradients - start
    return added


def _difference(penalty: Penalty, weights: Array, entry: int) -> float:
    """Return the difference of the terms of one weight."""
    return central([penalty.value(np, weights[entry : entry + 1] + times * STEP) for times in STENCIL], STEP)
