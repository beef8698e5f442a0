"""What is done with the values of a column before a model reads them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.tables.column import Column

Scale = Literal["standard", "minmax", "none"]
Encoding = Literal["one_hot", "index"]


@dataclass(frozen=True)
class NumberTreatment:
    """How a column of numbers is prepared: impute, clip, log(1 + x), scale, in this order.

    impute: "mean", "median" or "most_frequent", over the training rows, or a number.
    indicator: whether another number says where a value is missing, if the dataset has missing values there.
    scale: "standard" and "minmax" use the training rows too.
    """

    column: Column
    impute: str | float = "median"
    indicator: bool = True
    clip: tuple[float, float] | None = None
    log: bool = False
    scale: Scale = "standard"

    @property
    def has_indicator(self) -> bool:
        """Whether the column has indicators of missing values, one for each of its numbers."""
        return self.indicator and bool(self.column.missing)

    @property
    def width(self) -> int:
        """Numbers in a prepared row."""
        return self.column.width * (2 if self.has_indicator else 1)

    @property
    def names(self) -> list[str]:
        """Names of the prepared numbers."""
        own = _numbered(self.column)
        return own + [f"{name} is missing" for name in own if self.has_indicator]

    @property
    def words(self) -> str:
        """What is done, in words."""
        imputed = self.impute if isinstance(self.impute, str) else f"{self.impute:g}"
        steps = [f"impute {imputed.replace('_', ' ')}"]
        if self.clip is not None:
            steps.append("clip to {:g}, {:g}".format(*self.clip))
        if self.log:
            steps.append("log(1 + x)")
        if self.scale != "none":
            steps.append(f"scale {self.scale}")
        return ", ".join(steps) + ("; 1 where missing" if self.has_indicator else "")


@dataclass(frozen=True)
class CategoryTreatment:
    """How a column of categories is prepared.

    encode: "one_hot", a number for each category, or "index", a single number.
    impute: "most_frequent" over the training rows, a category, or None. Without it, a missing value has a number of its
    own in "one_hot", if the dataset has missing values there, and counts as unseen in "index".
    """

    column: Column
    encode: Encoding = "one_hot"
    impute: str | None = None

    @property
    def missing_has_place(self) -> bool:
        """Whether one of the numbers is 1 where the value is missing."""
        return self.encode == "one_hot" and self.impute is None and bool(self.column.missing)

    @property
    def width(self) -> int:
        """Numbers in a prepared row."""
        return 1 if self.encode == "index" else len(self.column.categories) + self.missing_has_place

    @property
    def names(self) -> list[str]:
        """Names of the prepared numbers."""
        if self.encode == "index":
            return [self.column.name]
        own = [f"{self.column.name} = {category}" for category in self.column.categories]
        return own + [f"{self.column.name} is missing"] * self.missing_has_place

    @property
    def words(self) -> str:
        """What is done, in words."""
        imputed = "" if self.impute is None else f"impute {self.impute.replace('_', ' ')}, "
        if self.encode == "index":
            return f"{imputed}index, {len(self.column.categories)} for other values"
        return f"{imputed}one-hot" + ("; 1 where missing" if self.missing_has_place else "")


Treatment: TypeAlias = NumberTreatment | CategoryTreatment


def treatment_json(treatment: Treatment) -> dict[str, Any]:
    """Return the fields as JSON, without the column."""
    return {field.name: getattr(treatment, field.name) for field in fields(treatment) if field.name != "column"}


def treatment_from_json(document: Mapping[str, Any], column: Column) -> Treatment:
    """Build the treatment of a column from `treatment_json`."""
    if column.kind == "category":
        return CategoryTreatment(column, **document)
    clip = document["clip"]
    return NumberTreatment(column, **{**document, "clip": None if clip is None else tuple(clip)})


def _numbered(column: Column) -> list[str]:
    if column.width == 1:
        return [column.name]
    return [f"{column.name} {index + 1}" for index in range(column.width)]
