"""A gentle start before another schedule."""

from typing import ClassVar

from core.registry import hyperparameter
from core.schedules.base import Schedule
from core.schedules.constant import Constant


class Warmup(Schedule):
    """`(step + 1) / (steps + 1)` for the first `steps` steps, then another schedule over the steps that are left.

    The first step has a rate above 0, and the line reaches 1 where the other schedule begins.

    Source: Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    type: ClassVar[str] = "warmup"

    steps: int = hyperparameter(doc="Optimizer steps of the warm-up.", ge=1)
    then: Schedule = hyperparameter(default=Constant(), doc="The schedule after it.")

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        # A job may end before its warm-up does.
        rest = max(total_steps - self.steps, 1)
        if step < self.steps:
            return (step + 1) / (self.steps + 1) * self.then.factor(0, rest)
        return self.then.factor(step - self.steps, rest)
