"""Constant learning rate."""

from typing import ClassVar

from core.schedules.base import Schedule


class Constant(Schedule):
    """The same learning rate at every step."""

    type: ClassVar[str] = "constant"

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return 1."""
        return 1.0
