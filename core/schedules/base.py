"""Base class of the schedules."""

from typing import ClassVar

from core.registry import Registered


class Schedule(Registered):
    """A factor on the learning rate."""

    kind: ClassVar[str] = "schedule"

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor at `step`, counted from 0, of `total_steps`."""
        raise NotImplementedError
