"""Clipping by the norm."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.clippings.base import Clipping
from core.registry import hyperparameter


class NormClipping(Clipping):
    """`g = g min(1, limit / |g|)`, where |g| is the norm over all parameters: the direction stays.

    PyTorch adds 1e-6 to the norm; here a clipped gradient has the norm `limit`.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
    """

    type: ClassVar[str] = "norm"

    limit: float = hyperparameter(doc="Largest norm.", gt=0)

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        """Scale down to the limit; see `Clipping.clip`."""
        if norm > self.limit:
            xp.multiply(gradients, self.limit / norm, out=gradients)
