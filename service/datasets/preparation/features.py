"""Columns of numbers as a matrix of uint8 or float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.datasets.preparation.columns import matrix_of, place, type_name
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.datasets.readers.reader import Reader, Rows

EXACT_INTEGERS = 2**24  # float32 represents all integers up to this one


class FeatureColumns:
    """Columns of numbers: their widths, from the first rows, and whether float32 represents all numbers exactly."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._widths: list[int | None] = [None] * len(names)
        self._exact = [True] * len(names)
        # The first row as given, and which numbers differ from it in any row, of columns that are not exact.
        self._first: list[NDArray[Any] | None] = [None] * len(names)
        self._varying: list[NDArray[np.bool_] | None] = [None] * len(names)

    @property
    def width(self) -> int:
        """Numbers per row."""
        return sum(width or 0 for width in self._widths)

    def chunk(self, rows: Rows, dtype: type[np.generic] | None = None) -> NDArray[Any]:
        """The numbers (rows, width): uint8 if all of them are bytes, unless `dtype` is float32."""
        parts = [matrix_of(rows, name, width) for name, width in zip(self.names, self._widths, strict=True)]
        self._widths = [part.shape[1] for part in parts]
        if dtype is None and all(_are_bytes(part) for part in parts):
            for index, part in enumerate(parts):
                self._compare(index, part)
            return _side_by_side(parts, np.dtype(np.uint8))
        chunk = _side_by_side(parts, np.dtype(np.float32))
        start = 0
        for index, part in enumerate(parts):
            kept = chunk[:, start : start + part.shape[1]]
            start += part.shape[1]
            self._check(rows, index, kept)
            self._exact[index] = self._exact[index] and _is_exact(part, kept)
            self._compare(index, part)
        return chunk

    def _compare(self, index: int, part: NDArray[Any]) -> None:
        """Note which numbers vary from row to row, which may be lost in 32 bits."""
        first, varying = self._first[index], self._varying[index]
        if first is None or varying is None:
            first, varying = part[0].copy(), np.zeros(part.shape[1], np.bool_)
            self._first[index], self._varying[index] = first, varying
        if not self._exact[index]:
            varying |= (part != first).any(axis=0)

    def exact_numbers(self) -> NDArray[np.bool_]:
        """For each number of a row, whether its column is stored exactly."""
        return np.repeat(self._exact, [width or 0 for width in self._widths])

    def varying(self) -> NDArray[np.bool_]:
        """For each number of a row, whether it is known to differ between rows of the files."""
        return np.concatenate(
            [
                np.zeros(width or 0, np.bool_) if varying is None else varying
                for width, varying in zip(self._widths, self._varying, strict=True)
            ]
        )

    def name_of(self, number: int) -> str:
        """The name of the column that has a number of a row."""
        ends = np.cumsum([width or 0 for width in self._widths])
        return self.names[int(np.searchsorted(ends, number, side="right"))]

    def _check(self, rows: Rows, index: int, kept: NDArray[np.float32]) -> None:
        finite = np.isfinite(kept)
        if not finite.all():
            row = int(np.flatnonzero(~finite.all(axis=1))[0])
            raise DatasetError(f"{place(rows, self.names[index], row)} has a value that is not a finite 32-bit number")

    def described(self, reader: Reader) -> list[dict[str, Any]]:
        """Name, source type and width of each column, and whether its numbers are stored exactly."""
        return [
            {
                "name": name,
                "type": type_name(reader.schema.field(name).type) if reader.typed else "text",
                "width": width,
                "exact": exact,
            }
            for name, width, exact in zip(self.names, self._widths, self._exact, strict=True)
        ]


def _are_bytes(part: NDArray[Any]) -> bool:
    if part.dtype in {np.dtype(np.uint8), np.dtype(np.bool_)}:
        return True
    return part.dtype.kind in "iu" and (not part.size or (part.min() >= 0 and part.max() <= 255))


def _is_exact(part: NDArray[Any], kept: NDArray[np.float32]) -> bool:
    if part.dtype.kind in "iu" and part.dtype.itemsize > 2:
        return not part.size or (int(part.min()) >= -EXACT_INTEGERS and int(part.max()) <= EXACT_INTEGERS)
    return part.dtype != np.float64 or np.array_equal(part, kept)


def _side_by_side(parts: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(parts) == 1:
        with np.errstate(over="ignore"):  # numbers beyond 32 bits become infinite and are rejected
            return parts[0].astype(dtype, copy=False)
    chunk = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), dtype)
    start = 0
    with np.errstate(over="ignore"):
        for part in parts:
            chunk[:, start : start + part.shape[1]] = part
            start += part.shape[1]
    return chunk
