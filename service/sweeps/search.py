"""Search spaces of sweeps."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Annotated, Self

from pydantic import Field, JsonValue, model_validator

from workers.job.fields import StrictModel

MAX_MEMBERS = 1000
Dotted = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^.\x00]+(\.[^.\x00]+)*$", examples=["optimizer.lr"])
]
Overrides = dict[Dotted, JsonValue]
Values = Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_MEMBERS)]
Members = Annotated[list[Overrides], Field(min_length=1, max_length=MAX_MEMBERS)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Draw(StrictModel):
    """Distribution of a field of a random search: exactly one of these."""

    choices: list[JsonValue] | None = Field(
        None, min_length=1, max_length=MAX_MEMBERS, description="Values with equal probability."
    )
    uniform: tuple[float, float] | None = Field(None, strict=False, description="Uniform between low and high.")
    log_uniform: tuple[float, float] | None = Field(
        None, strict=False, description="Log-uniform between low, above 0, and high."
    )
    integers: tuple[Integer, Integer] | None = Field(
        None, strict=False, description="Integers from low to high, inclusive."
    )

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        """Check that there is one distribution, and that low is at most high."""
        _exactly_one(self)
        for bounds in (self.uniform, self.log_uniform, self.integers):
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"must be a low and a high, not {bounds[0]} and {bounds[1]}")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform must start above 0, not at {self.log_uniform[0]}")
        return self


class RandomSearch(StrictModel):
    """Random search: every field is drawn independently for every sample."""

    fields: dict[Dotted, Draw] = Field(min_length=1, max_length=32, description="Distributions by dotted path.")
    samples: int = Field(ge=1, le=MAX_MEMBERS, description="Number of samples.")
    seed: int = Field(0, ge=0, lt=2**63, description="The same seed draws the same samples; more samples extend them.")


class Over(StrictModel):
    """Search space of a sweep: exactly one of these."""

    grid: dict[Dotted, Values] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="Grid search: values by field; all combinations, the last field varies fastest.",
    )
    list: Members | None = Field(None, description="A list of overrides, one per member.")
    random: RandomSearch | None = Field(None, description="Random search.")

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        """Check that there is one kind of search, and that no field is set together with an object around it."""
        _exactly_one(self)
        together = [self.swept] if self.list is None else [set(overrides) for overrides in self.list]
        for fields in together:
            for field in sorted(fields):
                parts = field.split(".")
                above = next((parent for parent in accumulate(parts[:-1], "{}.{}".format) if parent in fields), None)
                if above is not None:
                    raise ValueError(f"{field} is a part of {above}, which is set as well: only one of them can be")
        return self

    @property
    def size(self) -> int:
        """Number of combinations."""
        if self.grid is not None:
            return math.prod(len(values) for values in self.grid.values())
        return len(self.list) if self.list is not None else self.random.samples if self.random else 0

    @property
    def swept(self) -> set[str]:
        """Fields that are overridden."""
        if self.list is not None:
            return {field for overrides in self.list for field in overrides}
        return set(self.grid or (self.random.fields if self.random else ()))


def _exactly_one(model: StrictModel) -> None:
    given = [name for name in type(model).model_fields if getattr(model, name) is not None]
    if len(given) != 1:
        known = ", ".join(type(model).model_fields)
        raise ValueError(f"must have exactly one of {known}, not {' and '.join(given) or 'none'}")
