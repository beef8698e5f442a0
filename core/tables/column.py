"""A column of a table, as a dataset stores it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["number", "category"]


@dataclass(frozen=True)
class Column:
    """A column of a table and the numbers that stand for its values in a row.

    kind: "number", with NaN where a value is missing, or "category", the position of the value in `categories`, with
    NaN where it is missing and the number of categories for a value that is not among them.
    width: numbers in a row, more than 1 for a column of lists.
    source, part: for a column that is a part of a date, such as its "year", the name of the date's column.
    missing: whether the dataset has rows without a value in it.
    decimal: what separates the decimals of numbers that are text, "." or ",".
    """

    name: str
    kind: Kind
    width: int = 1
    categories: tuple[str, ...] = ()
    source: str | None = None
    part: str | None = None
    missing: bool = False
    decimal: str = "."

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON, without those that have their default: a table may have many columns."""
        named = {"name": self.name, "kind": self.kind}
        given = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        others = {name: value for name, value in given.items() if value != getattr(Column, name)}
        return named | others | ({"categories": list(self.categories)} if self.categories else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Build from `to_json`."""
        return cls(**{**document, "categories": tuple(document.get("categories", ()))})
