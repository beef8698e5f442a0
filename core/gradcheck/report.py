"""What a gradient check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: relative to the largest entry of a tensor's Jacobian, or to the norm of its gradient; there is no absolute slack
TOLERANCE = 1e-9


class Outcome(IntEnum):
    """What the check of a gradient says, from best to worst.

    A gradient cannot be checked if the rounding errors of the differences exceed the tolerance, if every entry is too
    close to a kink, if differences with different steps disagree, or if the forward pass is not finite.
    """

    RIGHT = 0
    UNCHECKED = 1
    WRONG = 2

    def __str__(self) -> str:
        return ("right", "cannot be checked", "WRONG")[self]


@dataclass(frozen=True)
class TensorCheck:
    """The largest error in the gradient of one input or parameter.

    `error` is relative, and `rounding` is a bound on the part of it that rounding in the differences can explain.
    `index` is the entry with this error, and `analytic` and `numeric` are its derivatives; it is None for the
    derivative along a whole direction, if directions were checked and none disagreed. `skipped` counts the entries or
    directions, of `total`, that are too close to a kink to be checked. `unsettled` says that the differences with
    different steps disagree, as they do too close to a pole.
    """

    name: str
    outcome: Outcome
    error: float
    rounding: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    skipped: int
    total: int
    unsettled: bool = False

    @property
    def ok(self) -> bool:
        """Whether the gradient is right, and some of it could be checked."""
        return self.outcome is Outcome.RIGHT

    @property
    def reason(self) -> str:
        """Why the gradient cannot be checked; "" if it can."""
        if self.outcome is not Outcome.UNCHECKED:
            return ""
        if self.skipped == self.total:
            return "all entries are too close to kinks"
        if self.unsettled:
            return "differences with different steps disagree"
        return f"rounding errors of up to {self.rounding:.1g} exceed the tolerance of {TOLERANCE:g}"

    def __str__(self) -> str:
        place = "along a direction" if self.index is None else f"at {list(self.index)}"
        because = f", since {self.reason}" if self.reason else ""
        return (
            f"{self.name}: {self.outcome}{because}; relative error {self.error:.2g} {place}, where backward says "
            f"{self.analytic:.12g} and differences say {self.numeric:.12g} ({self.skipped} of {self.total} skipped)"
        )


@dataclass(frozen=True)
class GradientReport:
    """Result of a check: the tensors, breaches of the rules for every backward, and what could not be checked."""

    seed: int
    tensors: tuple[TensorCheck, ...]
    breaches: tuple[str, ...]
    unchecked: tuple[str, ...] = ()

    def __add__(self, other: GradientReport) -> GradientReport:
        """What both found, with the seed of this one."""
        return GradientReport(
            self.seed,
            self.tensors + other.tensors,
            self.breaches + other.breaches,
            self.unchecked + other.unchecked,
        )

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of all."""
        found = [tensor.outcome for tensor in self.tensors]
        if self.breaches:
            found.append(Outcome.WRONG)
        if self.unchecked:
            found.append(Outcome.UNCHECKED)
        return max(found, default=Outcome.RIGHT)

    @property
    def ok(self) -> bool:
        """Whether every gradient is right, none was left unchecked and no rule is broken."""
        return self.outcome is Outcome.RIGHT

    def assert_ok(self) -> None:
        """Raise AssertionError with the whole report, unless `ok`."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        notes = [*self.breaches, *(f"cannot be checked: {each}" for each in self.unchecked)]
        return "\n".join([f"gradient check with seed {self.seed}", *map(str, self.tensors), *notes])
