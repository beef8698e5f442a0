"""Cosine decay."""

from math import cos, pi
from typing import ClassVar

from core.schedules.base import Schedule


class Cosine(Schedule):
    """`(1 + cos(pi step / total_steps)) / 2`: from 1 at the first step down to 0 after the last.

    It changes at each step; PyTorch's `CosineAnnealingLR` changes when its `step()` is called, usually once per epoch.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, without restarts.
    """

    type: ClassVar[str] = "cosine"

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        return 0.5 * (1 + cos(pi * step / total_steps))
