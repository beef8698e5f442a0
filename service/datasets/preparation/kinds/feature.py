"""A column of features or targets: what it holds, and its numbers, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow.types as pt

from core.tables.column import Column
from core.tables.dates import PARTS, parts_of
from service.datasets.preparation.columns import is_text, matrix_of, no_numbers, place
from service.datasets.preparation.kinds.noted import Noted
from service.datasets.preparation.kinds.parsing import dates_in, first_text, instants_of, numbers_in, whole_if_all_are
from service.datasets.preparation.kinds.texts import Categories
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray

    from service.datasets.readers.reader import Rows

Kind = Literal["number", "category", "date"]


class FirstText(NamedTuple):
    """The first text in a column whose other values may be numbers; `place` describes where it is."""

    text: str
    place: Callable[[], str]


@dataclass(frozen=True)
class Way:
    """How a column is read: a target has numbers alone, an array too, and a category is one on request."""

    typed: bool
    decimal: str = "."
    is_target: bool = False
    of_array: bool = False
    as_category: bool = False

    @property
    def may_miss(self) -> bool:
        """Whether rows may have no value."""
        return not (self.is_target or self.of_array)


class FeatureColumn:
    """A column, of numbers until a value shows that it is of dates or categories.

    `changed` says that the kind is another one than that of rows before: all rows must be read again, by `again()`.
    """

    def __init__(self, name: str, way: Way, kind: Kind | None = None) -> None:
        self.name, self.way = name, way
        self.kind: Kind | None = "category" if way.as_category else kind
        self.changed = False
        self.first_text: FirstText | None = None
        self.width: int | None = None
        self.noted = Noted()
        self.categories = Categories(typed=way.typed)
        self.has_times = False

    def again(self) -> FeatureColumn:
        """The column before its first row, of the kind that is known now."""
        column = FeatureColumn(self.name, self.way, self.kind)
        column.first_text = self.first_text
        return column

    @property
    def is_plain(self) -> bool:
        """Whether all values are numbers, and none is missing."""
        return self.kind in {None, "number"} and not self.noted.missing

    def read(self, rows: Rows) -> NDArray[Any]:
        """The numbers (rows, width): of a date its parts, and of a category its number in the order of appearance.

        Raises DatasetError for values that cannot be used.
        """
        kind, values = self._values(rows, rows.batch.column(self.name))
        if kind is not None and kind != self.kind:
            # Rows before this chunk have numbers, or one NaN where a date has several.
            self.changed = self.kind is not None or (kind == "date" and self.noted.rows > 0)
            if self.changed and self.way.typed and "number" in {kind, self.kind}:
                found = rows.batch.column(self.name).type
                raise DatasetError(
                    f"{rows.file_of(self.name)}: column {self.name!r} has type {found}, and another one in files before"
                )
            self.kind = kind if self.kind is None else "category"
        count = rows.batch.num_rows
        if self.changed:
            return np.zeros((count, 1), np.uint8)
        matrix: NDArray[Any]
        if self.kind == "date":
            matrix = self._parts(np.full(count, "NaT", "datetime64[us]") if values is None else values)
        else:
            matrix = np.full((count, self.width or 1), np.nan) if values is None else values
        self.width = matrix.shape[1]
        return matrix

    @property
    def stored_width(self) -> int:
        """Numbers in a row of the dataset: a date whose seconds are always 0 has none for them."""
        return (self.width or 1) - (self.kind == "date" and not self.has_times)  # the seconds are the last part

    def columns(self) -> tuple[Column, ...]:
        """The columns that a dataset stores; `categories` are in their own order."""
        missing, decimal = self.noted.missing > 0, self.way.decimal
        if self.kind == "date":
            return tuple(
                Column(f"{self.name}.{part}", "number", source=self.name, part=part, missing=missing)
                for part in PARTS[: self.stored_width]
            )
        if self.kind == "category":
            return (Column(self.name, "category", categories=self.categories.ordered()[0], missing=missing),)
        return (Column(self.name, "number", self.width or 1, missing=missing, decimal=decimal),)

    def described(self, source_type: str) -> dict[str, Any]:
        """Return what is known about the column, as JSON."""
        of_categories = self.kind == "category"
        distinct = len(self.categories.seen) if of_categories else self.noted.distinct
        countable = self.width == 1 or self.kind == "date"
        return {
            "name": self.name,
            "type": source_type,
            "kind": self.kind or "number",
            "width": self.stored_width,
            "exact": self.noted.exact,
            "examples": [
                _shown(value) for value in (self.categories.seen[:3] if of_categories else self.noted.examples)
            ],
            "distinct": distinct if countable else None,
            "missing": self.noted.missing,
        }

    def _values(self, rows: Rows, array: pa.Array) -> tuple[Kind | None, Any]:
        """The kind of a chunk, None if all of its values are missing, and the values."""
        kind = array.type
        if self.way.may_miss:
            if array.null_count == len(array):
                return None, None
            if pt.is_dictionary(kind) and not is_text(kind):
                array = array.dictionary_decode()
                kind = array.type
            if pt.is_date(kind) or pt.is_timestamp(kind):
                return self._category(array) if self.kind == "category" else ("date", instants_of(array))
            is_one = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)
            if is_one and (self.kind == "category" or pt.is_boolean(kind)):
                return self._category(array)
        if is_text(kind):
            return self._of_texts(rows, array)
        matrix = matrix_of(rows, self.name, array, self.width, missing=self.way.may_miss)
        return "number", matrix if self.way.typed or matrix.dtype != np.float64 else whole_if_all_are(matrix)

    def _category(self, array: pa.Array) -> tuple[Kind, NDArray[np.float32]]:
        return "category", self.categories.encode(array)[:, None]

    def _of_texts(self, rows: Rows, array: pa.Array) -> tuple[Kind | None, Any]:
        if self.kind == "category":
            return self._category(array)
        texts = array.dictionary_decode() if pt.is_dictionary(array.type) else array
        dates = dates_in(texts) if self.kind == "date" else None
        if not self.way.typed and dates is None:
            numbers = numbers_in(texts, self.way.decimal)
            if numbers is not None:
                return self._of_numbers(rows, numbers)
            if self.first_text is None:
                row, text = first_text(texts, self.way.decimal)
                self.first_text = FirstText(text, partial(place, rows._replace(batch=None), self.name, row))
        if not self.way.may_miss:
            raise no_numbers(rows, self.name, array.type, self.first_text)
        if dates is None:
            dates = dates_in(texts)
        if dates is None:
            return self._category(array)
        return (None, None) if np.isnat(dates).all() else ("date", dates)

    def _of_numbers(self, rows: Rows, numbers: NDArray[np.float64]) -> tuple[Kind | None, Any]:
        missing = np.isnan(numbers)
        if self.way.is_target and missing.any():
            raise DatasetError(f"{place(rows, self.name, int(missing.argmax()))} has no value; every row needs one")
        return (None, None) if missing.all() else ("number", whole_if_all_are(numbers)[:, None])

    def _parts(self, dates: NDArray[np.datetime64]) -> NDArray[np.float32]:
        parts = parts_of(dates)
        self.has_times = self.has_times or bool((parts["seconds"] > 0).any())
        self.noted.note_distinct(dates)
        return np.stack([parts[part] for part in PARTS], axis=1)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).removesuffix(" 00:00:00")
