"""The rows of a dataset from those of all columns: without those left out, and with categories in their own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.datasets.preparation.kinds.feature import FeatureColumn

CHUNK = 4 * 1024 * 1024  # numbers that are in memory at the same time


def finished(
    flat: NDArray[Any], columns: Sequence[FeatureColumn], left_out: Collection[str], path: Path
) -> tuple[NDArray[Any], list[int]]:
    """Return the numbers of the columns that are not left out, flat, and the place of each among those of all columns.

    They are in a file at `path`, unless nothing changes.
    """
    places: list[int] = []
    orders: dict[int, NDArray[np.float32]] = {}
    start = 0
    for column in columns:
        width = column.width or 1
        if column.name not in left_out:
            if column.kind == "category":
                orders[len(places)] = column.categories.ordered()[1]
            places.extend(range(start, start + column.stored_width))
        start += width
    all_bytes = all(column.is_plain and column.noted.are_bytes for column in columns if column.name not in left_out)
    dtype = np.dtype(np.uint8) if all_bytes else np.dtype(np.float32)
    if dtype == flat.dtype and len(places) == start and not orders:
        return flat, places
    rows = flat.reshape(-1, start)
    found = np.memmap(path, dtype, "w+", shape=(len(rows), len(places)))
    step = max(1, CHUNK // max(1, start))
    for first in range(0, len(rows), step):
        chunk = rows[first : first + step, places]
        for place, order in orders.items():
            codes = chunk[:, place]
            present = ~np.isnan(codes)
            codes[present] = order[codes[present].astype(np.int64)]
        found[first : first + step] = chunk
    return found.reshape(-1), places
