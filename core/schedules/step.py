"""Step decay."""

from typing import ClassVar

from core.kernels.power import power
from core.registry import hyperparameter
from core.schedules.base import Schedule


class StepDecay(Schedule):
    """`decay^floor(step / every)`: multiplied by `decay` once every `every` steps, or every `every_epochs` epochs.

    With `every_epochs` it is PyTorch's `StepLR`, whose `step()` is called once per epoch. Source: Caffe, "step".
    """

    type: ClassVar[str] = "step"

    every: int | None = hyperparameter(
        default=None, doc="Optimizer steps between two changes, if not `every_epochs`: a step is one batch.", ge=1
    )
    every_epochs: int | None = hyperparameter(default=None, doc="Epochs between two changes, if not `every`.", ge=1)
    decay: float = hyperparameter(default=0.1, doc="Factor of one change.", gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_of("every", "every_epochs")

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in (0, 1]."""
        return power(self.decay, step // self.steps_of("every", "every_epochs", epoch_steps))
