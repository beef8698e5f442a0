"""What a gradient check found."""

from __future__ import annotations

from dataclasses import dataclass

#: relative to the largest entry of a tensor's Jacobian, or to the norm of its gradient; there is no absolute slack
TOLERANCE = 1e-9


@dataclass(frozen=True)
class TensorCheck:
    """The largest error in the gradient of one input or parameter.

    `error` is relative, and `rounding` the part of it that rounding in the differences can explain, which matters for
    tiny gradients. `index` is the entry with this error, and `analytic` and `numeric` are its derivatives; it is None
    for the derivative along a whole direction, if directions were checked and none disagreed. `skipped` counts the
    entries or directions, of `total`, that are too close to a kink to be checked.
    """

    name: str
    error: float
    rounding: float
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    skipped: int
    total: int

    @property
    def ok(self) -> bool:
        """Whether the gradient is right, and some of it could be checked."""
        return self.error - self.rounding <= TOLERANCE and (self.skipped < self.total or self.total == 0)

    def __str__(self) -> str:
        verdict = "right" if self.ok else "WRONG"
        place = "along a direction" if self.index is None else f"at {list(self.index)}"
        return (
            f"{self.name}: {verdict}, relative error {self.error:.2g} {place}, where backward says "
            f"{self.analytic:.12g} and differences say {self.numeric:.12g} ({self.skipped} of {self.total} skipped)"
        )


@dataclass(frozen=True)
class GradientReport:
    """Result of `check_graph`: each tensor, and breaches of the rules for every backward."""

    seed: int
    tensors: tuple[TensorCheck, ...]
    breaches: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every gradient is right and no rule is broken."""
        return not self.breaches and all(tensor.ok for tensor in self.tensors)

    def assert_ok(self) -> None:
        """Raise AssertionError with the whole report, unless `ok`."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return "\n".join([f"gradient check with seed {self.seed}", *map(str, self.tensors), *self.breaches])
