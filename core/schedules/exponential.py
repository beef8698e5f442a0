"""Exponential decay."""

from typing import ClassVar

from core.kernels.power import power
from core.registry import hyperparameter
from core.schedules.base import Schedule


class ExponentialDecay(Schedule):
    """`decay^step`. Source: Caffe, "exp".

    PyTorch's `ExponentialLR` multiplies once per call of its `step()`, usually once per epoch: `decay` is then the root
    of its gamma whose degree is the number of steps of an epoch.
    """

    type: ClassVar[str] = "exponential"

    decay: float = hyperparameter(doc="Factor per optimizer step, a little below 1.", gt=0, le=1)

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in (0, 1]."""
        return power(self.decay, step)
