"""Columns with few different values, such as labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from service.datasets.preparation.columns import place
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.datasets.readers.reader import Rows


def categories_of(
    rows: Rows, name: str, what: str, *, booleans: bool = False
) -> tuple[list[int | str], NDArray[np.int32]]:
    """The distinct values of a column in the order of appearance, and for each row (rows,) the index of its value.

    Raises DatasetError for a row without a value, or with one that is neither an integer nor text; messages call it
    `what`. With `booleans`, booleans are accepted as the text "false" and "true".
    """
    column = rows.batch.column(name)
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DatasetError(f"{place(rows, name, row)} has no {what}; every row needs one")
    kind = column.type
    if pt.is_string_view(kind) or (booleans and pt.is_boolean(kind)):
        column = column.cast(pa.string())
    elif not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        known = "integers, booleans or text" if booleans else "integers or text"
        raise DatasetError(f"{rows.file}: {what} column {name!r} has type {kind}; {what}s are {known}")
    encoded = column.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
