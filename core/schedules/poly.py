"""Polynomial decay."""

from typing import ClassVar

from core.kernels.power import power
from core.registry import hyperparameter
from core.schedules.base import Schedule


class PolynomialDecay(Schedule):
    """`(1 - step / total_steps)^power`: from 1 at the first step down to 0 after the last.

    Source: Caffe, "poly", with the job's number of steps as `max_iter`. It is PyTorch's `PolynomialLR` if its `step()`
    is called once per batch. Caffe's "quick" solver of GoogLeNet has power 0.5.
    """

    type: ClassVar[str] = "poly"

    power: float = hyperparameter(default=1.0, doc="1: the rate falls along a line; below 1, later.", ge=0)

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        return power(1 - step / total_steps, self.power)
