"""Inverse time decay."""

from typing import ClassVar

from core.kernels.power import power
from core.registry import hyperparameter
from core.schedules.base import Schedule


class InverseDecay(Schedule):
    """`(1 + decay step)^-power`. Source: Caffe, "inv"; with power 1, Robbins and Monro, 1951."""

    type: ClassVar[str] = "inverse"

    decay: float = hyperparameter(doc="With power 1, the rate is halved after 1 / decay optimizer steps.", ge=0)
    power: float = hyperparameter(default=1.0, doc="Exponent of the decay in the long run.", ge=0)

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        return 1 / power(1 + self.decay * step, self.power)
