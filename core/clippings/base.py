"""Base class of the clippings."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.registry import Registered


class Clipping(Registered):
    """A limit that a gradient is brought under."""

    kind: ClassVar[str] = "clipping"

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        """Change `gradients` in place: the whole flat vector or any slice of it, which changes no bit.

        `norm` is the Euclidean norm of the whole vector, and finite.
        """
        raise NotImplementedError
