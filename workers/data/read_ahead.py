"""What a shuffle in blocks tells the system of the file that is mapped: what it reads next, and that nothing else."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.data.splitting import Blocks, Rows

# Rows with less than this between them are asked for as one part of the file: rows for validation lie between them.
NEAR = 65_536

_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class ReadAhead:
    """Has the rows of an epoch's next window read while those of this one are visited.

    `features` (rows, features) are mapped from a file, `order` has the epoch's row numbers. By itself the system reads
    up to megabytes around each row that it does not have in memory: of 4 GB with room for one, 220 rows a second were
    read so, and 830,000 with this.
    """

    def __init__(self, features: NDArray[Any], order: Rows, blocks: Blocks) -> None:
        self._features, self._order, self._window = features, order, blocks.rows * blocks.window
        self._asked = 0

    def visit(self, place: int) -> None:
        """Say that the row at this place of the order, and those after it, are visited now."""
        window = place // self._window
        start = max(self._asked, window * self._window)
        self._asked = max(self._asked, (window + 2) * self._window)
        if start >= min(self._asked, len(self._order)):
            return
        advise(self._features, mmap.MADV_RANDOM)
        for first, last in parts(self._order[start : self._asked], NEAR // self._features[0].nbytes):
            advise(self._features[first : last + 1], mmap.MADV_WILLNEED)


def parts(rows: Rows, near: int) -> list[tuple[int, int]]:
    """First and last of the row numbers, in any order, that follow each other with `near` or fewer between them."""
    ascending = np.sort(rows)
    ends = np.flatnonzero(np.diff(ascending) > near + 1)
    first, last = ascending[np.append(0, ends + 1)], ascending[np.append(ends, len(rows) - 1)]
    return list(zip(first.tolist(), last.tolist(), strict=True))


def advise(values: NDArray[Any], advice: int) -> None:
    """Give the system advice (`mmap.MADV_...`) on the pages of contiguous values; what it does not take is no harm."""
    start = values.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    _madvise(start, values.ctypes.data + values.nbytes - start, advice)
