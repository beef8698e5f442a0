"""Labels as positions in a table of scores."""

from functools import lru_cache

import numpy as np

from core.arrays import Array, Namespace


@lru_cache(maxsize=256)
def _row_starts(xp: Namespace, rows: int, columns: int) -> Array:
    starts: Array = xp.arange(rows, dtype=np.int64) * columns
    return starts


def locate(xp: Namespace, labels: Array, classes: int, out: Array) -> None:
    """Write into `out`, int64 (batch,), where entry `labels[i]` of row i lies in a (batch, classes) table."""
    xp.add(_row_starts(xp, len(labels), classes), labels, out=out)
