"""From a table, as people have it, to the numbers that a dataset stores."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.names import counted, listed
from core.tables.column import Column
from core.tables.dates import instant_of, parts_of
from core.tables.texts import MISSING, are_booleans, category_of, number_of


class TableError(ValueError):
    """A table that does not have the columns or values of a dataset; the message names the column and the row."""


def encode(columns: Sequence[Column], table: Mapping[str, Any], ignored: Collection[str] = ()) -> NDArray[np.float32]:
    """Return the numbers (rows, width) that a dataset with these columns stores for a table.

    The table maps names to arrays or lists of any type, in any order; of its columns those that are `ignored` may have
    any values. Raises TableError for a column that is missing or unknown, and for a value that its column cannot have.
    """
    sources = [column.source or column.name for column in columns]
    for name in sources:
        if name not in table:
            raise TableError(f"has no column {name!r}; it needs {listed(list(dict.fromkeys(sources)))}")
    known = {*sources, *ignored}
    unknown = next((name for name in table if name not in known), None)
    if unknown is not None:
        raise TableError(f"has a column {unknown!r}, which is unknown; it needs {listed(list(dict.fromkeys(sources)))}")
    values = {name: _array(table[name]) for name in dict.fromkeys(sources)}
    rows = len(values[sources[0]])
    for name, array in values.items():
        if len(array) != rows:
            raise TableError(f"has {counted(len(array), 'row')} in column {name!r} and {rows} in column {sources[0]!r}")
    encoded = np.empty((rows, sum(column.width for column in columns)), np.float32)
    start = 0
    for source, group in groupby(columns, lambda column: column.source or column.name):
        several = list(group)
        parts = _dates(several, values[source]) if several[0].part else [_column(several[0], values[source])]
        for column, part in zip(several, parts, strict=True):
            encoded[:, start : start + column.width] = part
            start += column.width
    return encoded


def _array(values: Any) -> NDArray[Any]:
    """The values as an array; those of a list remain as they are, since NumPy would make text of 1 and "a"."""
    if isinstance(values, list | tuple):
        array = np.empty(len(values), np.object_)
        for row, value in enumerate(values):
            array[row] = value
        return array
    return np.asarray(values)


def _column(column: Column, values: NDArray[Any]) -> NDArray[np.float32]:
    if column.kind == "category":
        return _codes(column, values)[:, None]
    if column.width > 1 and values.dtype == np.object_ and values.ndim == 1:
        rows = [np.asarray(row).reshape(-1) for row in values]
        for row, found in enumerate(rows):
            if len(found) != column.width:
                raise _wrong(column, row, f"{counted(len(found), 'number')} and not {column.width}")
        values = np.array(rows)
    # The width of no rows cannot be inferred.
    return _numbers(column, values.reshape(len(values), -1 if len(values) else column.width))


def _numbers(column: Column, values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers (rows, width)."""
    if values.shape[1] != column.width:
        raise _wrong(column, 0, f"{counted(values.shape[1], 'number')} and not {column.width}")
    with np.errstate(over="ignore"):  # numbers beyond 32 bits become infinite and are rejected
        if values.dtype.kind in "buif":
            numbers = values.astype(np.float32)
        else:
            flat = values.reshape(-1).tolist()
            found = [_number(column, value, index // column.width) for index, value in enumerate(flat)]
            numbers = np.array(found, np.float32).reshape(values.shape)
    infinite = np.isinf(numbers).any(axis=1)
    if infinite.any():
        raise _wrong(column, int(infinite.argmax()), "a value that is not a finite 32-bit number")
    return numbers


def _number(column: Column, value: Any, row: int) -> np.float32:
    if is_missing(value):
        return np.float32(np.nan)
    if isinstance(value, str):
        number = number_of(value, column.decimal)
    elif isinstance(value, int) and abs(value) < 2**63:
        return np.int64(value).astype(np.float32)  # by way of float64 it could be rounded twice
    else:
        try:
            number = float(value)
        except (OverflowError, TypeError, ValueError):
            number = None
    if number is None:
        raise _wrong(column, row, f"{str(value)[:40]!r}, which is not a number")
    return np.float32(number)


def _codes(column: Column, values: NDArray[Any]) -> NDArray[np.float32]:
    codes = {category: code for code, category in enumerate(column.categories)}
    booleans = are_booleans(column.categories)
    if values.ndim > 1 and values.size != len(values):
        raise _wrong(column, 0, f"{counted(values[0].size, 'value')}; a category is one")
    return np.array([_code(codes, value, booleans=booleans) for value in values.reshape(-1).tolist()], np.float32)


def _code(codes: Mapping[str, int], value: Any, *, booleans: bool) -> float:
    if is_missing(value):
        return math.nan
    text = text_of(value)
    if text in codes:  # "NA" and "?" may be categories of a format that has missing values of its own
        return codes[text]
    usual = category_of(text)
    if booleans and usual.lower() in codes:
        return codes[usual.lower()]
    if usual in codes:
        return codes[usual]
    return math.nan if usual in MISSING else len(codes)


def text_of(value: Any) -> str:
    """Return the category that a value is: true, or 3 for 3.0."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas' NA or NaT."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in {"NAType", "NaTType"}


def _dates(columns: Sequence[Column], values: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The parts (rows, 1) of dates that the columns are."""
    if values.dtype.kind != "M":
        flat = values.reshape(len(values), -1)[:, 0].tolist()
        values = np.array([_instant(columns[0], value, row) for row, value in enumerate(flat)], "datetime64[us]")
    parts = parts_of(values)
    return [parts[column.part or ""][:, None] for column in columns]


def _instant(column: Column, value: Any, row: int) -> np.datetime64:
    if is_missing(value):
        return np.datetime64("NaT", "us")
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text in MISSING:
        return np.datetime64("NaT", "us")
    instant = None if isinstance(text, bool | int | float) else instant_of(text)
    if instant is None:
        raise _wrong(column, row, f"{str(value)[:40]!r}, which is not a date in ISO 8601, such as 2026-01-31 12:30:00")
    return instant


def _wrong(column: Column, row: int, what: str) -> TableError:
    return TableError(f"column {column.source or column.name!r} in row {row + 1} has {what}")
