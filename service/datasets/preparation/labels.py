"""Labels as numbers of classes, whose names are known after all rows are read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from core.tables.texts import is_integer
from service.datasets.preparation.categories import categories_of
from service.datasets.preparation.columns import place
from service.datasets.readers.reading import LONGEST_NAMES
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.datasets.readers.reader import Rows

MOST_CLASSES = 65536
# A decimal fraction, or a number as libraries write small and large floats: 1e-05 and 1e+20.
FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e[+-]))(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


class LabelEncoder:
    """Numbers the labels of a column in the order of appearance, and finally the classes in their own order.

    With `names`, either all labels are among them, or all are indices from 0 on: integers, or text that is one.
    Without, the classes are the labels in ascending order. If a format is not `typed`, text that looks like an integer
    is one.
    """

    def __init__(self, column: str, names: Sequence[str] | None, *, typed: bool) -> None:
        if names is not None and (len(names) < 2 or len(set(names)) < len(names)):
            raise DatasetError(f"the classes must be at least 2 different names, not {', '.join(names[:20])}")
        self._column = column
        # Looked up for each label, of which there may be as many.
        self._numbers = None if names is None else {name: number for number, name in enumerate(names)}
        self._typed = typed
        self._seen: dict[int | str, int] = {}
        self._are_names = self._are_numbers = True  # labels so far
        self._bytes = 0

    def encode(self, rows: Rows) -> NDArray[np.int64]:
        """Numbers of the labels, in the order of appearance. Raises DatasetError for one that is missing or invalid."""
        labels, indices = categories_of(rows, self._column, "label", MOST_CLASSES)
        numbers = np.empty(len(labels), np.int64)
        for index, label in enumerate(labels):
            if label not in self._seen:
                if problem := self._problem(label):
                    row = int(np.flatnonzero(indices == index)[0])
                    raise DatasetError(f"{place(rows, self._column, row)} has {problem}")
                self._seen[label] = len(self._seen)
            numbers[index] = self._seen[label]
        codes: NDArray[np.int64] = numbers[indices]
        return codes

    def _problem(self, label: int | str) -> str | None:
        """What is wrong with a label that was not seen before."""
        if len(self._seen) == MOST_CLASSES:
            return f"the label number {MOST_CLASSES + 1}; numbers to predict are named in `targets`"
        self._bytes += len(str(label).encode())
        if self._bytes > LONGEST_NAMES:
            return f"a label with which all {len(self._seen) + 1} together have more than {LONGEST_NAMES} bytes"
        if self._seen and type(label) is not type(next(iter(self._seen))):
            return f"{label!r}, and labels before are of another type"
        if self._numbers is None:
            return None
        are_names = self._are_names and str(label) in self._numbers
        are_numbers = self._are_numbers and is_integer(str(label)) and 0 <= int(label) < len(self._numbers)
        if not are_names and not are_numbers:
            others = "" if self._are_names and self._are_numbers else ", as labels before are"
            return (
                f"{label!r}, which is none of the {len(self._numbers)} classes that are given, nor the number of one "
                f"from 0 on{others}"
            )
        self._are_names, self._are_numbers = are_names, are_numbers
        return None

    def classes(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The names of the classes, and the class number for each number from `encode`."""
        labels = list(self._seen)
        if self._numbers is not None:
            numbers = [self._numbers[str(label)] if self._are_names else int(label) for label in labels]
            return tuple(self._numbers), np.array(numbers, np.int64)
        if not self._typed:
            self._check_no_fractions(labels)
        if len(labels) < 2:
            raise DatasetError(f"label column {self._column!r} has only the value {labels[0]!r}; 2 classes are needed")
        as_numbers = not self._typed and all(is_integer(str(label)) for label in labels)
        key: Any = int if as_numbers else None
        ordered = sorted(labels, key=key)
        position = {label: index for index, label in enumerate(ordered)}
        return tuple(map(str, ordered)), np.array([position[label] for label in labels], np.int64)

    def _check_no_fractions(self, labels: list[int | str]) -> None:
        """Raise DatasetError for a column of floats, which are no labels in a typed format either."""
        fraction = next((label for label in labels if FRACTION.fullmatch(str(label))), None)
        if fraction is not None and all(_is_number(label) for label in labels):
            raise DatasetError(
                f"label column {self._column!r} has numbers with fractions, such as {fraction!r}; labels are integers, "
                "booleans or text. Numbers to predict are named in `targets` (--target); numbers that do name classes "
                "are listed in `classes` (--class)"
            )


def _is_number(label: int | str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
