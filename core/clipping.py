"""Limits on a gradient, for losses with cliffs: applied after the penalty's gradient and before the optimizer."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.registry import Registered, hyperparameter


class Clipping(Registered):
    """A limit that a gradient is brought under."""

    kind: ClassVar[str] = "clipping"

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        """Change `gradients` in place: the whole flat vector or any slice of it, which changes no bit.

        `norm` is the Euclidean norm of the whole vector, and finite.
        """
        raise NotImplementedError


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


class ValueClipping(Clipping):
    """`g = min(max(g, -limit), limit)`, each number for itself: the direction may change."""

    type: ClassVar[str] = "value"

    limit: float = hyperparameter(doc="Largest absolute value.", gt=0)

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        """Bring each number within the limits; see `Clipping.clip`."""
        xp.clip(gradients, -self.limit, self.limit, out=gradients)
