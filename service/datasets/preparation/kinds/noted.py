"""What is known about the numbers of a column after each chunk of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_INTEGERS = 2**24  # float32 represents all integers up to this one
MOST_DISTINCT = 1000  # values up to which the different ones are counted
FIRST_ROWS = 4096  # of a chunk, which show that there are more


class Noted:
    """The numbers of a column: whether they are bytes, are stored exactly, vary, or count the rows."""

    def __init__(self) -> None:
        self.rows = self.missing = 0
        self.are_bytes = self.exact = True
        # What must be subtracted from the numbers to count the rows from 0 on: 0 or 1.
        self._counting: float | None = None
        self._counts = True
        # The smallest and the largest of each number of a row, as given.
        self._least: NDArray[Any] | None = None
        self._most: NDArray[Any] | None = None
        self._distinct: dict[Any, None] = {}

    @property
    def counts_rows(self) -> bool:
        """Whether the numbers are those of the rows, from 0 or from 1 on."""
        return self._counts and self.rows > 0

    @property
    def distinct(self) -> int | None:
        """How many values are different; None if they are more than 1,000."""
        return None if len(self._distinct) > MOST_DISTINCT else len(self._distinct)

    @property
    def examples(self) -> list[Any]:
        """The first values that are different."""
        return list(self._distinct)[:3]

    def add(self, part: NDArray[Any], kept: NDArray[np.float32] | None) -> None:
        """Note numbers (rows, width), and how they are stored in 32 bits unless all of this chunk are bytes."""
        if self._counts:
            self._counts = self._go_on(part)
        if part.dtype.kind == "f":
            self.missing += int(np.isnan(part[:, 0]).sum())
        self.are_bytes = self.are_bytes and are_bytes(part)
        if kept is not None:
            self.exact = self.exact and _is_exact(part, kept)
        self._compare(part[:1] if self.are_bytes else part)  # bytes are stored exactly
        if part.shape[1] == 1:
            self.note_distinct(part[:, 0])
        self.rows += len(part)

    def note_distinct(self, values: NDArray[Any]) -> None:
        """Note values (rows,), of which NaN and NaT are missing."""
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # Arrow finds no different ones among halves
        for some in (values[:FIRST_ROWS], values[FIRST_ROWS:]):
            if len(self._distinct) > MOST_DISTINCT or not len(some):
                return
            found = pc.unique(pa.array(np.ascontiguousarray(some), from_pandas=True))
            self._distinct |= dict.fromkeys(found.slice(0, MOST_DISTINCT + 2).to_pylist())
            self._distinct.pop(None, None)

    @property
    def vary(self) -> NDArray[np.bool_]:
        """For each number of a row, whether it is known to differ between rows of the files."""
        if self._least is None or self._most is None:
            return np.zeros(0, np.bool_)
        varying: NDArray[np.bool_] = self._least != self._most
        return varying

    def _go_on(self, part: NDArray[Any]) -> bool:
        if part.shape[1] > 1 or not len(part):
            return bool(part.shape[1] == 1)
        # As Python's numbers, since those of small types overflow.
        first, last = float(part[0, 0]) - self.rows, float(part[-1, 0]) - self.rows
        if first not in {0, 1} or self._counting not in {None, first} or last - first != len(part) - 1:
            return False
        self._counting = first
        return np.array_equal(part[:, 0], np.arange(len(part)) + (self.rows + int(first)))

    def _compare(self, part: NDArray[Any]) -> None:
        least, most = np.fmin.reduce(part, axis=0), np.fmax.reduce(part, axis=0)
        self._least = least if self._least is None else np.fmin(self._least, least)
        self._most = most if self._most is None else np.fmax(self._most, most)


def are_bytes(part: NDArray[Any]) -> bool:
    """Whether all numbers are integers from 0 to 255."""
    if part.dtype in {np.dtype(np.uint8), np.dtype(np.bool_)}:
        return True
    return part.dtype.kind in "iu" and (not part.size or (part.min() >= 0 and part.max() <= 255))


def _is_exact(part: NDArray[Any], kept: NDArray[np.float32]) -> bool:
    if part.dtype.kind in "iu" and part.dtype.itemsize > 2:
        return not part.size or (int(part.min()) >= -EXACT_INTEGERS and int(part.max()) <= EXACT_INTEGERS)
    return part.dtype != np.float64 or np.array_equal(part, kept, equal_nan=True)
