"""Rows that are read as Python objects, from JSON and Excel: chunks of them as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from core.tables.encoding import text_of
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence


def column_of(values: Sequence[Any], name: str, file: str) -> pa.Array:
    """Values of any types as a column: numbers, booleans, dates or lists if all are, else text.

    Raises DatasetError for objects, and for text that is no Unicode.
    """
    try:
        return pa.array(values, from_pandas=True)
    except UnicodeEncodeError:
        raise DatasetError(f"{file}: column {name!r} has a text that is not Unicode") from None
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    if any(isinstance(value, list | dict) for value in values):
        raise DatasetError(
            f"{file}: column {name!r} has objects or lists of different types in it; features are single values, or "
            "lists of as many numbers in each row. A column can be left out with `exclude` (--exclude)"
        )
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return pa.array([None if value is None else _float(value) for value in values], pa.float64())
    return pa.array([None if value is None else text_of(value) for value in values], pa.string())


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf") if value > 0 else float("-inf")
