"""Warnings about a dataset that is registered: what is allowed but may be a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import counted
from core.tables.texts import MISSING
from service.datasets.preparation.precision import coarse, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.datasets.preparation.kinds.feature import FeatureColumn

MOST_INTEGER_CLASSES = 20  # of integers that do not begin at 0 or 1 or have gaps, such as years and prices
FEWEST_ROWS = 5  # of a class, on average


def warning(field: str, message: str) -> dict[str, str]:
    """Return a warning about a field of the request, as JSON."""
    return {"field": field, "message": message}


def label_warnings(column: str, classes: Sequence[str], rows: int) -> Iterator[dict[str, str]]:
    """Yield a warning if classes look like numbers to predict, like names of single rows, or like missing values."""
    missing = next((name for name in classes if name in MISSING), None)
    if missing is not None:
        yield warning(
            "label",
            f"column {column!r} has the class {missing!r}, which often denotes a missing value: if it does, remove its "
            "rows",
        )
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
    field: str, columns: Sequence[FeatureColumn], statistics: Mapping[str, Any] | None
) -> Iterator[dict[str, str]]:
    """Yield a warning if columns are rounded to steps that are large beside their standard deviation."""
    if statistics is None or all(column.noted.exact for column in columns):
        return
    widths = [column.stored_width for column in columns]
    rounded = np.repeat([not column.noted.exact for column in columns], widths)
    varying = np.concatenate([column.noted.vary[:width] for column, width in zip(columns, widths, strict=True)])
    lost = rounded & varying & (np.asarray(statistics["std"]) == 0)
    found = lost | (coarse(statistics) & rounded)
    if not found.any():
        return
    first = int(found.argmax())
    name = columns[int(np.searchsorted(np.cumsum(widths), first, side="right"))].name
    words = "different numbers are stored as the same one" if lost[first] else in_words(statistics, first)
    more = f" (and {counted(int(found.sum()) - 1, 'number')} of a row like it)" if found.sum() > 1 else ""
    yield warning(
        field,
        f"column {name!r} is rounded to 32 bits: {words}{more}. Subtract a constant from the column, such as its mean, "
        "and register it again",
    )


def _are_integers(classes: Sequence[str]) -> bool:
    return all(name.removeprefix("-").isdecimal() for name in classes)


def _are_measured(classes: Sequence[str]) -> bool:
    """Whether classes are integers other than those that count classes: from 0 or 1 on, without gaps."""
    if not _are_integers(classes):
        return False
    first, last = int(classes[0]), int(classes[-1])
    return first not in {0, 1} or last - first + 1 != len(classes)
