"""The categories of a column, numbered in the order of appearance, and finally in their own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.types as pt

from core.tables.encoding import is_missing, text_of
from core.tables.texts import MISSING, are_booleans, category_of, in_order, number_of
from service.datasets.readers.reading import LONGEST_NAMES

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

MOST_CATEGORIES = 65_536
LONGEST = 200  # characters of a category: each is a name in messages, answers and pictures
FEW = 10  # values that are categories, however few rows there are


class Categories:
    """Numbers the values of a column.

    If a format is not `typed`, spaces around a text do not matter, and some texts stand for a missing value. With too
    many or too long values, `problem` says so, and further ones are not kept.
    """

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed
        self._codes: dict[str, int] = {}
        self._known: dict[str, int] = {}  # texts as they are in the file; not 0, which is looked up each time
        self._counts = np.zeros(0, np.int64)
        self._bytes = 0
        self.present = 0  # rows with a value
        self.problem: str | None = None

    @property
    def seen(self) -> list[str]:
        """The values in the order of appearance; the first ones, if there are too many."""
        return list(self._codes)

    @property
    def mostly_different(self) -> bool:
        """Whether there are more than half as many values as rows that have one, and not only a few."""
        return len(self._codes) > max(FEW, self.present / 2)

    def encode(self, column: pa.Array) -> NDArray[np.float32]:
        """The numbers (rows,) of values in the order of appearance, NaN where one is missing."""
        if self.problem:
            return np.full(len(column), np.nan, np.float32)
        if pt.is_dictionary(column.type):
            used = column.indices.dictionary_encode()
            values, indices = column.dictionary.take(used.dictionary), used.indices
        else:
            encoded = column.dictionary_encode()
            values, indices = encoded.dictionary, encoded.indices
        try:
            texts = values.to_pylist()
        except UnicodeDecodeError:
            self.problem = "has a text that is not in UTF-8"
            return np.full(len(column), np.nan, np.float32)
        known = self._known.get
        numbers = (known(text) or self._code(text) if type(text) is str else self._code(text) for text in texts)
        codes = np.array([*numbers, np.nan], np.float32)
        found: NDArray[np.float32] = codes[indices.fill_null(len(values)).to_numpy()]
        self._counts = np.pad(self._counts, (0, len(self._codes) - len(self._counts)))
        present = found[~np.isnan(found)].astype(np.int64)
        self._counts += np.bincount(present, minlength=len(self._counts))
        self.present += len(present)
        return found

    def _code(self, value: Any) -> float:
        text = "" if is_missing(value) else text_of(value)
        if not self._typed:
            text = category_of(text)
        if not text or (not self._typed and text in MISSING):
            return np.nan
        code = self._codes.get(text)
        if code is not None:
            if type(value) is str and len(self._known) < MOST_CATEGORIES:
                self._known[value] = code
            return code
        if self.problem is None:
            self._bytes += len(text.encode())
            if len(text) > LONGEST:
                self.problem = f"has a text of {len(text)} characters, and a category at most {LONGEST}"
            elif len(self._codes) == MOST_CATEGORIES:
                self.problem = f"has more than {MOST_CATEGORIES:,} different values"
            elif self._bytes > LONGEST_NAMES:
                self.problem = f"has texts of more than {LONGEST_NAMES:,} bytes together"
            else:
                return self._codes.setdefault(text, len(self._codes))
        return np.nan

    def share_of_numbers(self, decimal: str) -> float:
        """The share of the rows with a value whose text is a number."""
        numbers = [number_of(text, decimal) is not None for text in self._codes]
        return float(self._counts[numbers].sum() / max(1, self._counts.sum()))

    def ordered(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """The categories in their own order, and the number of a category for each number from `encode`."""
        booleans = are_booleans(self._codes)
        usual = [text.lower() if booleans else text for text in self._codes]
        categories = tuple(in_order(set(usual)))
        position = {category: index for index, category in enumerate(categories)}
        return categories, np.array([position[text] for text in usual], np.float32)
