"""The split column, which has the part that each row belongs to, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.datasets.preparation.categories import categories_of
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.datasets.readers.reader import Rows

MOST_SPLITS = 256


class SplitEncoder:
    """Numbers the values of a split column in the order of appearance, and finally in ascending order.

    Integers and booleans are ordered as text, since some formats have only text.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._seen: dict[str, int] = {}

    def encode(self, rows: Rows) -> NDArray[np.uint8]:
        """Numbers of the values, in the order of appearance. Raises DatasetError for one that is missing or invalid."""
        values, indices = categories_of(rows, self._column, "split", MOST_SPLITS)
        for value in values:
            self._seen.setdefault(str(value), len(self._seen))
        if len(self._seen) > MOST_SPLITS:
            raise DatasetError(
                f"{rows.file_of(self._column)}: split column {self._column!r} has more than {MOST_SPLITS} different "
                "values; it says which rows train and which validate"
            )
        codes: NDArray[np.uint8] = np.array([self._seen[str(value)] for value in values], np.uint8)[indices]
        return codes

    def values(self) -> tuple[list[str], NDArray[np.uint8]]:
        """The values, and the position among them for each number from `encode`."""
        ordered = sorted(self._seen)
        return ordered, np.array([ordered.index(value) for value in self._seen], np.uint8)
