"""Warnings about a dataset that is registered: what is allowed but may be a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import counted
from service.datasets.preparation.precision import coarse, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.datasets.preparation.features import FeatureColumns

MOST_INTEGER_CLASSES = 20  # of integers that do not begin at 0 or 1 or have gaps, such as years and prices
FEWEST_ROWS = 5  # of a class, on average


def warning(field: str, message: str) -> dict[str, str]:
    """Return a warning about a field of the request, as JSON."""
    return {"field": field, "message": message}


def label_warnings(column: str, classes: Sequence[str], rows: int) -> Iterator[dict[str, str]]:
    """Yield a warning if the classes of a label look like numbers to predict, or like names of single rows."""
    if len(classes) <= MOST_INTEGER_CLASSES:
        return
    few = rows < FEWEST_ROWS * len(classes)
    if few or _are_measured(classes):
        shown = f"{classes[0]!r} to {classes[-1]!r}, " if _are_integers(classes) else ""
        yield warning(
            "label",
            f"column {column!r} has {counted(len(classes), 'class', 'classes')}, {shown}in {counted(rows, 'row')}: if "
            "these are numbers to predict, register the column with `targets` (--target) instead",
        )


def precision_warnings(
    field: str, columns: FeatureColumns, statistics: Mapping[str, Any] | None
) -> Iterator[dict[str, str]]:
    """Yield a warning if columns are rounded to steps that are large beside their standard deviation."""
    if statistics is None:
        return
    rounded = ~columns.exact_numbers()
    lost = rounded & columns.varying() & (np.asarray(statistics["std"]) == 0)
    found = lost | (coarse(statistics) & rounded)
    if not found.any():
        return
    first = int(found.argmax())
    words = "different numbers are stored as the same one" if lost[first] else in_words(statistics, first)
    more = f" (and {counted(int(found.sum()) - 1, 'number')} of a row like it)" if found.sum() > 1 else ""
    yield warning(
        field,
        f"column {columns.name_of(first)!r} is rounded to 32 bits: {words}{more}. Subtract a constant from the column, "
        "such as its mean, and register it again",
    )


def _are_integers(classes: Sequence[str]) -> bool:
    return all(name.removeprefix("-").isdecimal() for name in classes)


def _are_measured(classes: Sequence[str]) -> bool:
    """Whether classes are integers other than those that count classes: from 0 or 1 on, without gaps."""
    if not _are_integers(classes):
        return False
    first, last = int(classes[0]), int(classes[-1])
    return first not in {0, 1} or last - first + 1 != len(classes)
