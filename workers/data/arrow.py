"""Conversion between Arrow and NumPy arrays without a copy.

Arrow's own conversions import pandas if it is installed, which delays a worker's first step by most of a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DTYPES = {pa.uint8(): np.uint8, pa.float32(): np.float32, pa.float64(): np.float64, pa.int64(): np.int64}
TYPES = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}


def values_of(array: pa.Array) -> NDArray[Any]:
    """The values of an array of numbers, read-only; undefined at nulls."""
    dtype = np.dtype(DTYPES[array.type])
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(0, dtype)
    return np.frombuffer(buffer, dtype, count=len(array), offset=array.offset * dtype.itemsize)


def nulls_of(array: pa.Array) -> NDArray[np.bool_]:
    """Which entries of an array are null."""
    buffer = array.buffers()[0]
    if buffer is None:
        return np.zeros(len(array), np.bool_)
    valid = np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")
    nulls: NDArray[np.bool_] = valid[array.offset : array.offset + len(array)] == 0
    return nulls


def array_of(values: NDArray[Any], nulls: NDArray[np.bool_] | None = None) -> pa.Array:
    """An Arrow array of a contiguous vector of numbers; null where `nulls`."""
    validity = None if nulls is None else pa.py_buffer(np.packbits(~nulls, bitorder="little"))
    return pa.Array.from_buffers(TYPES[values.dtype], len(values), [validity, pa.py_buffer(values)])
