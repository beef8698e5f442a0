"""Selection of feature columns, and their values as matrices."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from core.names import counted, listed
from service.datasets.readers.reading import NoNumbersError
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from service.datasets.preparation.kinds.feature import FirstText
    from service.datasets.readers.reader import Rows

WIDEST = 4 * 1024 * 1024  # numbers in a row, such as an image of 1024 x 1024 in colour


def choose(names: Sequence[str], patterns: Sequence[str], besides: Collection[str] = ()) -> list[str]:
    """The columns with the given names or patterns, for each pattern in the order of the file, without `besides`.

    Raises DatasetError for a pattern that no column has.
    """
    chosen: dict[str, None] = {}
    known, others = set(names), set(besides)
    for pattern in patterns:
        # A column's name may contain brackets or stars.
        found = [pattern] if pattern in known else [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise DatasetError(f"has no column {pattern!r}; its columns are {listed(names)}")
        chosen |= dict.fromkeys(found)
    return [name for name in chosen if name not in others]


def image_shape(kind: pa.DataType) -> tuple[int, ...] | None:
    """(height, width, channels) of a column of tensors that are images, else None."""
    if not isinstance(kind, pa.FixedShapeTensorType):
        return None
    shape = tuple(kind.shape)
    return {2: (*shape, 1), 3: shape}.get(len(shape))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is of text, or of a dictionary of texts."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def matrix_of(rows: Rows, name: str, column: pa.Array, width: int | None, *, missing: bool) -> NDArray[Any]:
    """The numbers of a column (rows, width) in its own dtype; without `width`, it is that of the first row.

    A row without a number has NaN, where it may be `missing`. Raises DatasetError for values that are not numbers, and
    lists that have other lengths or nulls.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pt.is_decimal(column.type):
        column = column.cast(pa.float64())
    kind, values, found = column.type, column, 1
    is_list = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    if column.null_count and (is_list or not missing):
        raise DatasetError(f"{place(rows, name, _first(column.is_null()))} has no value; every row needs one")
    if pt.is_fixed_size_list(kind):
        kind, values, found = kind.value_type, column.flatten(), kind.list_size
    elif is_list:
        kind, values, found = kind.value_type, column.flatten(), _length(rows, name, column, width)
    if not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)):
        raise no_numbers(rows, name, column.type)
    if not found:
        raise DatasetError(f"{place(rows, name, 0)} has an empty list; features are at least one number")
    if found > WIDEST:
        raise DatasetError(f"{place(rows, name, 0)} has {found} numbers; at most {WIDEST} are read")
    if width is not None and found != width:
        raise DatasetError(f"{place(rows, name, 0)} has {counted(found, 'number')} where the first file has {width}")
    if is_list and values.null_count:
        raise DatasetError(f"{place(rows, name, _first(values.is_null()) // found)} has a list with a null in it")
    matrix: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(len(column), found)
    return matrix


def no_numbers(rows: Rows, name: str, kind: pa.DataType, text: FirstText | None = None) -> NoNumbersError:
    """The error of a column that has something else than numbers."""
    if text is not None:
        return NoNumbersError(f"{text.place()} has {text.text[:40]!r}, which is not a number", name)
    return NoNumbersError(
        f"{rows.file_of(name)}: column {name!r} has type {kind}; features are numbers, text, booleans or dates, or "
        "lists of as many numbers in each row, and targets are numbers. A column can be left out with `exclude` "
        "(--exclude)",
        name,
    )


def place(rows: Rows, name: str, index: int) -> str:
    """Description of a place in a file, for a message."""
    return f"{rows.file_of(name)}: column {name!r} in {rows.locate(rows.start + index)}"


def _length(rows: Rows, name: str, column: pa.Array, width: int | None) -> int:
    lengths = np.diff(column.offsets.to_numpy())
    expected = int(lengths[0]) if width is None and len(lengths) else width
    ragged = np.flatnonzero(lengths != expected)
    if ragged.size:
        length = int(lengths[ragged[0]])
        raise DatasetError(
            f"{place(rows, name, int(ragged[0]))} has a list of {counted(length, 'number')} and the first row one of "
            f"{expected}; every row needs as many"
        )
    return int(expected or 0)


def _first(mask: pa.Array) -> int:
    return int(np.flatnonzero(mask.to_numpy(zero_copy_only=False))[0])


def type_name(kind: pa.DataType) -> str:
    """Name of a type, for people."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return f"{kind.value_type}[{', '.join(map(str, kind.shape))}]"
    return f"{kind.value_type}[{kind.list_size}]" if pt.is_fixed_size_list(kind) else str(kind)
