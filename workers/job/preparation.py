"""The rules of a spec by which columns are prepared, and what they mean for the columns of a dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from core.tables.treatments import CategoryTreatment, NumberTreatment, Treatment
from workers.job.fields import FieldValueError, StrictModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.tables.column import Column
    from workers.job.spec import DataSpec

MOST_PATTERNS = 256

ColumnPattern = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]


class PrepareRule(StrictModel):
    """How columns of the dataset are prepared; the first rule that has a column in its `columns` is the one for it.

    Numbers are imputed, clipped, replaced by log(1 + x), and scaled, in this order. All statistics are those of the
    training rows.
    """

    columns: list[ColumnPattern] = Field(
        min_length=1, max_length=1000, description='Names of columns, or patterns such as "area_*".'
    )
    impute: Number | Annotated[str, Field(max_length=200)] | None = Field(
        None,
        description='What replaces a missing value: "mean", "median" (of numbers) or "most_frequent", or a number or '
        'category. Default: "median" for numbers; for categories nothing, so that a missing value has a number of its '
        "own in one_hot.",
    )
    indicator: bool | None = Field(
        None,
        description="Whether another number is 1 where a number is missing, if the dataset has missing values in that "
        "column. Default: true.",
    )
    clip: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[lowest, highest]: numbers beyond are replaced by these. Default: no limits."
    )
    log: bool | None = Field(None, description="Whether numbers are replaced by log(1 + x). Default: false.")
    scale: Literal["standard", "minmax", "none"] | None = Field(
        None,
        description="How numbers are scaled: to mean 0 and standard deviation 1, to the range 0 to 1, or not. Default: "
        '"standard", or "none" with `standardize` false.',
    )
    encode: Literal["one_hot", "index"] | None = Field(
        None,
        description='How categories become numbers: "one_hot" is a number for each category, of which that of the row '
        'is 1; "index" is the position of the category, for a layer such as `embedding`, and the number of categories '
        'for any other value. Default: "one_hot".',
    )

    @model_validator(mode="after")
    def _lowest_first(self) -> Self:
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise FieldValueError("clip", f"is {self.clip}: the lowest number must not be above the highest")
        return self


@dataclass(frozen=True)
class Matches:
    """The position of the rule of each column, None where no rule has it; and patterns that match no column.

    These are given by the positions of their rule and of the pattern in it.
    """

    rules: list[int | None]
    unmatched: list[tuple[int, int]]


def match(rules: Sequence[PrepareRule], columns: Sequence[Column]) -> Matches:
    """Find the columns of each rule. A pattern that is the name of a column is only that, even with stars in it."""
    chosen: dict[str, int | None] = {column.name: None for column in columns}
    unmatched = []
    for position, rule in enumerate(rules):
        for place, pattern in enumerate(rule.columns):
            found = [pattern] if pattern in chosen else []
            if not found and is_pattern(pattern):
                matches = re.compile(translate(pattern)).match
                found = [name for name in chosen if matches(name)]
            if not found:
                unmatched.append((position, place))
            for name in found:
                if chosen[name] is None:
                    chosen[name] = position
    return Matches(list(chosen.values()), unmatched)


def is_pattern(text: str) -> bool:
    """Whether a text can match other names than itself."""
    return any(letter in text for letter in "*?[")


def are_prepared(data: DataSpec, columns: Sequence[Column]) -> bool:
    """Whether the model reads other numbers than those of the dataset, scaled at most."""
    return bool(data.prepare) or any(column.kind == "category" or column.missing for column in columns)


def treatments_of(data: DataSpec, columns: Sequence[Column]) -> tuple[Treatment, ...]:
    """How the columns of a dataset are prepared, with rules that fit them; empty unless `are_prepared`."""
    if not are_prepared(data, columns):
        return ()
    rules = [*data.prepare, PrepareRule(columns=["*"])]  # the last one has the defaults
    chosen = match(data.prepare, columns).rules
    return tuple(
        _treatment(rules[-1 if rule is None else rule], column, standardize=data.standardize)
        for column, rule in zip(columns, chosen, strict=True)
    )


def _treatment(rule: PrepareRule, column: Column, *, standardize: bool) -> Treatment:
    if column.kind == "category":
        return CategoryTreatment(column, rule.encode or "one_hot", None if rule.impute is None else str(rule.impute))
    return NumberTreatment(
        column,
        impute="median" if rule.impute is None else rule.impute,
        indicator=rule.indicator is not False,
        clip=None if rule.clip is None else (rule.clip[0], rule.clip[1]),
        log=bool(rule.log),
        scale=rule.scale or ("standard" if standardize else "none"),
    )
