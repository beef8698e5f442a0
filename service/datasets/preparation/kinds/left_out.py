"""Columns that are no features unless they are named: those that number or name the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.datasets.readers.reading import LONGEST_NAMES
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from service.datasets.preparation.kinds.feature import FeatureColumn

COUNTS = "counts the rows"
FEWEST_ROWS = 5  # of a table whose column 1, 2, 3 is taken for a count of the rows
SOME_NUMBERS = 0.5  # share of the numbers in a column of categories that is worth a warning
# Share of the numbers in a column without types at which its texts are taken for mistakes.
MOSTLY_NUMBERS = 0.9


def left_out(columns: Sequence[FeatureColumn], named: Collection[str], index: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that are left out, and why; `named` are those that the request names itself.

    `index` has reasons that the files give. Columns that count the rows are kept, if there is nothing else. Raises
    DatasetError for a column that can neither be used nor left out without being asked.
    """
    reasons = {column.name: index.get(column.name) or _reason(column) for column in columns if column.name not in named}
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(found) == len(columns):
        found = {name: reason for name, reason in found.items() if reason != COUNTS}
    if len(found) == len(columns):
        said = "; ".join(f"{name!r} {reason}" for name, reason in list(found.items())[:5])
        raise DatasetError(f"has no feature column: {said}. Columns that are named in `features` (--feature) are used")
    kept = [column for column in columns if column.name not in found and column.kind == "category"]
    for column in kept:
        _check(column, is_named=column.name in named)
    sizes = {column.name: sum(len(text.encode()) for text in column.categories.seen) for column in kept}
    if sum(sizes.values()) > LONGEST_NAMES:
        largest = max(sizes, key=sizes.__getitem__)
        raise DatasetError(
            f"has categories of {sum(sizes.values()):,} bytes together, most of them in column {largest!r}; at most "
            f"{LONGEST_NAMES:,} are allowed. Leave columns out with `exclude` (--exclude)"
        )
    return found


def _reason(column: FeatureColumn) -> str | None:
    """Why a column is left out, if it is."""
    noted = column.noted
    if column.kind == "category":
        if not column.categories.mostly_different:
            return None
        text = column.first_text
        mixed = (
            "" if text is None or not _numbers(column) else f"; the first that is not a number is {text.text[:40]!r}"
        )
        return f"names the rows: more than half of its texts are different{mixed}"
    if noted.missing == noted.rows:
        return "has no value in any row"
    if column.kind != "date" and noted.counts_rows and noted.rows >= FEWEST_ROWS:
        return COUNTS
    return None


def _check(column: FeatureColumn, *, is_named: bool) -> None:
    """Raise DatasetError for a category column with too many values, or with numbers and few texts among them."""
    if column.categories.problem:
        raise DatasetError(
            f"column {column.name!r} {column.categories.problem}. Leave it out with `exclude` (--exclude)"
        )
    text = column.first_text
    if text is not None and not is_named and _numbers(column) >= MOSTLY_NUMBERS:
        raise DatasetError(
            f"{text.place()} has {text.text[:40]!r}, and nearly all other values are numbers. If these are categories, "
            "name the column in `categories` (--category); otherwise correct it, or leave it out with `exclude` "
            "(--exclude)"
        )


def mixed(column: FeatureColumn) -> str | None:
    """What makes a column of numbers one of categories, in words."""
    text = column.first_text
    if column.kind != "category" or column.way.as_category or text is None or _numbers(column) < SOME_NUMBERS:
        return None
    return (
        f"column {column.name!r} has categories, since {text.text[:40]!r} is not a number. If it denotes a missing "
        "value, remove it from the file, and register it again"
    )


def _numbers(column: FeatureColumn) -> float:
    return column.categories.share_of_numbers(column.way.decimal)
