"""A column of a table, as a dataset stores it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    """

    name: str
    kind: Kind
    width: int = 1
    categories: tuple[str, ...] = ()
    source: str | None = None
    part: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return {**asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Build from `to_json`."""
        return cls(**{**document, "categories": tuple(document["categories"])})
