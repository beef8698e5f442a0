"""How the learning rate changes over a job, one class per file. A new file here is a new schedule."""

from typing import ClassVar

from core.registry import Registered, import_modules


class Schedule(Registered):
    """A factor on the learning rate."""

    kind: ClassVar[str] = "schedule"

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor at `step`, counted from 0, of `total_steps`."""
        raise NotImplementedError


import_modules(__name__, __path__)
