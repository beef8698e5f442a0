"""Sums of differences between predictions and targets, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.base import Sums, Tally

if TYPE_CHECKING:
    from core.arrays import Array, Namespace


def differences(xp: Namespace, predictions: Array, targets: Array) -> Array:
    """Return `prediction - target` in float64."""
    difference: Array = xp.subtract(predictions, targets, dtype=np.float64)
    return difference


class SquaredDifferences(Tally):
    """The sum of squared differences of each target."""

    def columns(self, outputs: int) -> int:
        return outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        squares = xp.square(differences(xp, predictions, truth))
        xp.add(sums, squares.sum(axis=0), out=sums)
