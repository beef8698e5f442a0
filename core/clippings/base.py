"""Base class of the clippings."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.registry import Registered


class Clipping(Registered):
    """A limit on the gradient."""

    kind: ClassVar[str] = "clipping"

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        """Clip `gradients` in place: the flat vector of all gradients, or a slice of it, which gives the same bits.

        `norm` is the Euclidean norm of the whole vector. It is finite.
        """
        raise NotImplementedError
