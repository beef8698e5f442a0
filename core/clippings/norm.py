"""Clipping by norm."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.clippings.base import Clipping
from core.registry import hyperparameter


class NormClipping(Clipping):
    """`g = g min(1, limit / |g|)`, where |g| is the norm over all parameters. The direction does not change.

    The gradient of a penalty is part of what is clipped; PyTorch's `clip_grad_norm_` does not see the `weight_decay` of
    an optimizer. PyTorch adds 1e-6 to the norm. Here, a clipped gradient has exactly the norm `limit`.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
    """

    type: ClassVar[str] = "norm"

    limit: float = hyperparameter(doc="Largest norm.", gt=0)

    def clip(self, xp: Namespace, gradients: Array, norm: float) -> None:
        if norm > self.limit:
            xp.multiply(gradients, self.limit / norm, out=gradients)
