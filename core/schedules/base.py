"""Base class of the schedules."""

from typing import ClassVar

from core.registry import Registered


class Schedule(Registered):
    """A factor on the learning rate, which a job computes anew at each step."""

    kind: ClassVar[str] = "schedule"

    def factor(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the factor at `step`, counted from 0, of `total_steps`. An epoch has `epoch_steps`."""
        raise NotImplementedError

    def steps_of(self, field: str, epochs_field: str, epoch_steps: int) -> int:
        """Return a number of steps that is given either in steps or in epochs, in two fields."""
        steps: int | None = getattr(self, field)
        epochs: int | None = getattr(self, epochs_field)
        return steps if steps is not None else (epochs or 0) * epoch_steps

    def check_one_of(self, field: str, epochs_field: str) -> None:
        """Raise ValueError unless exactly one of two fields is given."""
        given = [name for name in (field, epochs_field) if getattr(self, name) not in {None, ()}]
        if len(given) != 1:
            number = "not both" if given else "and has neither"
            raise ValueError(f"{self.type} needs {self.type}.{field} or {self.type}.{epochs_field}, {number}")
