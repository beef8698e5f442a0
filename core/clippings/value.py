"""Clipping by value."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.clippings.base import Clipping
from core.registry import hyperparameter


class ValueClipping(Clipping):
    """`g = min(max(g, -limit), limit)`, elementwise. The direction may change."""

    type: ClassVar[str] = "value"

    limit: float = hyperparameter(doc="Largest absolute value.", gt=0)

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        xp.clip(gradients, -self.limit, self.limit, out=gradients)
