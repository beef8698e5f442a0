"""Linear warm-up before another schedule."""

from typing import ClassVar

from core.registry import hyperparameter
from core.schedules.base import Schedule
from core.schedules.constant import Constant


class Warmup(Schedule):
    """`(step + 1) / (steps + 1)` for the first `steps` steps, then another schedule over the remaining steps.

    With `epochs`, `steps` is the number of steps of these epochs.
    The first step has a rate above 0, and the factor reaches 1 at the first step of the other schedule.

    Source: Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    type: ClassVar[str] = "warmup"

    steps: int | None = hyperparameter(default=None, doc="Optimizer steps of the warm-up, if not `epochs`.", ge=1)
    epochs: int | None = hyperparameter(default=None, doc="Epochs of the warm-up, if not `steps`.", ge=1)
    then: Schedule = hyperparameter(default=Constant(), doc="The schedule after the warm-up.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_of("steps", "epochs")

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in [0, 1]."""
        steps = self.steps_of("steps", "epochs", epoch_steps)
        # A job may be shorter than its warm-up.
        rest = max(total_steps - steps, 1)
        if step < steps:
            return (step + 1) / (steps + 1) * self.then.factor(0, rest, epoch_steps)
        return self.then.factor(step - steps, rest, epoch_steps)
