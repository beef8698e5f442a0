"""Columns of features or targets as a matrix of uint8 or float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.datasets.preparation.columns import place
from service.datasets.preparation.kinds.feature import FeatureColumn
from service.datasets.preparation.kinds.noted import are_bytes
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.datasets.preparation.kinds.feature import Way
    from service.datasets.readers.reader import Rows


class FeatureColumns:
    """Columns by name, and how each is read; their numbers side by side."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        self.columns = [FeatureColumn(name, way) for name, way in ways.items()]
        self.names = list(ways)

    def again(self) -> bool:
        """Whether all rows must be read again, since a column is of another kind than its first rows; prepares that."""
        changed = any(column.changed for column in self.columns)
        if changed:
            self.columns = [column.again() for column in self.columns]
        return changed

    def chunk(self, rows: Rows, dtype: type[np.generic] | None = None) -> NDArray[Any] | None:
        """The numbers (rows, width): uint8 if all of them are bytes, unless `dtype` is float32.

        None if all rows must be read again.
        """
        parts = [column.read(rows) for column in self.columns]
        if any(column.changed for column in self.columns):
            return None
        if dtype is None and all(map(are_bytes, parts)):
            for column, part in zip(self.columns, parts, strict=True):
                column.noted.add(part, None)
            return _side_by_side(parts, np.dtype(np.uint8))
        chunk = _side_by_side(parts, np.dtype(np.float32))
        start = 0
        for column, part in zip(self.columns, parts, strict=True):
            kept = chunk[:, start : start + part.shape[1]]
            start += part.shape[1]
            _check(rows, column, kept)
            column.noted.add(part, kept)
        return chunk


def _check(rows: Rows, column: FeatureColumn, kept: NDArray[np.float32]) -> None:
    finite = np.isfinite(kept)
    if finite.all():
        return
    # One number of a feature may be missing, but not some of a list.
    if column.way.may_miss and (kept.shape[1] == 1 or column.kind == "date"):
        finite = ~np.isinf(kept)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise DatasetError(f"{place(rows, column.name, row)} has a value that is not a finite 32-bit number")


def _side_by_side(parts: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # numbers beyond 32 bits become infinite and are rejected
        if len(parts) == 1:
            return parts[0].astype(dtype, copy=False)
        chunk = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), dtype)
        start = 0
        for part in parts:
            chunk[:, start : start + part.shape[1]] = part
            start += part.shape[1]
    return chunk
