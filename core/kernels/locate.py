"""Labels as flat indices into a matrix of scores."""

from functools import lru_cache

import numpy as np

from core.arrays import Array, Namespace


@lru_cache(maxsize=256)
def _row_starts(xp: Namespace, rows: int, columns: int) -> Array:
    starts: Array = xp.arange(rows, dtype=np.int64) * columns
    return starts


def locate(xp: Namespace, labels: Array, classes: int, out: Array) -> None:
    """Write the flat indices of the entries (i, labels[i]) of a matrix (batch, classes) into `out`, int64 (batch,)."""
    xp.add(_row_starts(xp, len(labels), classes), labels, out=out)
