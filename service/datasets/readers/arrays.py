"""NumPy arrays as columns of a table."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray


MOST_AXES = 64  # of a NumPy array


def column_type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    """Type of a column whose rows are arrays of this shape. Raises TypeError for a dtype that is not numeric."""
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise TypeError(f"has dtype {dtype}; features are numbers of at most 64 bits")
    kind = pa.from_numpy_dtype(dtype.newbyteorder("="))
    if not shape:
        return kind
    return pa.list_(kind, shape[0]) if len(shape) == 1 else pa.fixed_shape_tensor(kind, shape)


def column_of(rows: NDArray[Any]) -> pa.Array:
    """Rows (rows, ...) as a column."""
    kind = column_type(rows.dtype, rows.shape[1:])
    flat = pa.array(np.ascontiguousarray(rows, rows.dtype.newbyteorder("=")).reshape(-1))
    if rows.ndim == 1:
        return flat
    lists = pa.FixedSizeListArray.from_arrays(flat, prod(rows.shape[1:]))
    return lists if rows.ndim == 2 else pa.ExtensionArray.from_storage(kind, lists)
