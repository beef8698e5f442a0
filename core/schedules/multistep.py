"""Decay at given steps."""

from bisect import bisect_right
from itertools import pairwise
from typing import ClassVar

from core.kernels.power import power
from core.registry import hyperparameter
from core.schedules.base import Schedule


class MultistepDecay(Schedule):
    """Multiplied by `decay` once at each step of `at`, or at the start of each epoch of `at_epochs`, from 0.

    With `at_epochs` it is PyTorch's `MultiStepLR`, whose `step()` is called once per epoch. Source: Caffe, "multistep".
    """

    type: ClassVar[str] = "multistep"

    at: tuple[int, ...] = hyperparameter(
        default=(),
        doc="Optimizer steps of the changes, in ascending order, if not `at_epochs`: the first step of a job is 0.",
        ge=1,
    )
    at_epochs: tuple[int, ...] = hyperparameter(
        default=(), doc="Epochs of the changes, in ascending order, if not `at`: the first epoch of a job is 0.", ge=1
    )
    decay: float = hyperparameter(default=0.1, doc="Factor of one change.", gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_of("at", "at_epochs")
        for field in ("at", "at_epochs"):
            changes = getattr(self, field)
            for position, (before, change) in enumerate(pairwise(changes), start=1):
                if change <= before:
                    raise ValueError(
                        f"multistep.{field}[{position}] must be greater than {before}, the one before it, not {change}"
                    )

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor, in (0, 1]."""
        past = bisect_right(self.at, step) if self.at else bisect_right(self.at_epochs, step // epoch_steps)
        return power(self.decay, past)
