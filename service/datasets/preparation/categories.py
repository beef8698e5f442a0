"""Columns with few different values, such as labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from service.datasets.preparation.columns import place
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.datasets.readers.reader import Rows


LONGEST = 200  # characters of a value: each is a name in messages, answers and pictures


def categories_of(rows: Rows, name: str, what: str, most: int) -> tuple[list[int | str], NDArray[np.int32]]:
    """The distinct values of a column in the order of appearance, and for each row (rows,) the index of its value.

    Booleans are the text "false" and "true". Only the first `most` + 1 distinct values are returned. Raises
    DatasetError for a row without a value, or with one that is neither an integer nor text, or too long; messages call
    it `what`.
    """
    column = _flat(rows.batch.column(name))
    if column.null_count:
        raise _missing(rows, name, what, column)
    if pt.is_dictionary(column.type):
        # Decoded, a long text would be in memory once per row.
        used = column.indices.dictionary_encode()
        values, indices = column.dictionary.take(used.dictionary), used.indices
        if values.null_count:
            raise _missing(rows, name, what, values.take(indices))
    else:
        values, indices = column, None
    kind = values.type
    if pt.is_boolean(kind) or pt.is_string_view(kind):
        values = values.cast(pa.string())
    elif not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind)):
        raise DatasetError(
            f"{rows.file_of(name)}: {what} column {name!r} has type {column.type}; {what}s are integers, booleans or "
            f"text{'. Numbers to predict are named in `targets` (--target)' if what == 'label' else ''}"
        )
    if indices is None:
        encoded = values.dictionary_encode()
        values, indices = encoded.dictionary, encoded.indices
    if not pt.is_integer(values.type):
        lengths = pc.utf8_length(values).to_numpy()
        if lengths.max(initial=0) > LONGEST:
            row = int(np.flatnonzero(indices.to_numpy() == lengths.argmax())[0])
            raise DatasetError(
                f"{place(rows, name, row)} has a {what} of {lengths.max()} characters; at most {LONGEST} are allowed"
            )
    return values.slice(0, most + 1).to_pylist(), indices.to_numpy()


def _flat(column: pa.Array) -> pa.Array:
    """The values of a column whose rows are lists of one value, such as an array of the shape (rows, 1)."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    is_list = pt.is_fixed_size_list(kind) or pt.is_list(kind) or pt.is_large_list(kind)
    if is_list and not column.null_count and pc.all(pc.equal(pc.list_value_length(column), 1)).as_py():
        return column.flatten()
    return column


def _missing(rows: Rows, name: str, what: str, column: pa.Array) -> DatasetError:
    row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
    return DatasetError(f"{place(rows, name, row)} has no {what}; every row needs one")
