"""Linear warm-up before another schedule."""

from typing import ClassVar

from core.registry import hyperparameter
from core.schedules.base import Schedule
from core.schedules.constant import Constant


class Warmup(Schedule):
    """`(step + 1) / (steps + 1)` for the first `steps` steps, then another schedule over the remaining steps.

    The first step has a rate above 0, and the factor reaches 1 at the first step of the other schedule.

    Source: Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    type: ClassVar[str] = "warmup"

    steps: int = hyperparameter(doc="Optimizer steps of the warm-up.", ge=1)
    then: Schedule = hyperparameter(default=Constant(), doc="The schedule after the warm-up.")

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        # A job may be shorter than its warm-up.
        rest = max(total_steps - self.steps, 1)
        if step < self.steps:
            return (step + 1) / (self.steps + 1) * self.then.factor(0, rest)
        return self.then.factor(step - self.steps, rest)
