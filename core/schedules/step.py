"""Step decay."""

from typing import ClassVar

from core.registry import hyperparameter
from core.schedules.base import Schedule


class StepDecay(Schedule):
    """`decay^floor(step / every)`: multiplied by `decay` once every `every` steps. Source: Caffe, "step"."""

    type: ClassVar[str] = "step"

    every: int = hyperparameter(doc="Optimizer steps between two changes.", ge=1)
    decay: float = hyperparameter(default=0.1, doc="Factor of one change.", gt=0, le=1)

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor, in (0, 1]."""
        return self.decay ** (step // self.every)
