"""NumPy's .npy files."""

from __future__ import annotations

import os
from math import prod
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from service.datasets.files.opening import open_file
from service.datasets.readers.arrays import MOST_AXES, column_of, column_type
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


# Functions that read a header, by the version of the format.
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpyReader:
    """Arrays whose first axis is the rows; each file is a column with the name of the file."""

    typed: ClassVar = True
    is_table: ClassVar = False
    hints: ClassVar = Hints()
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._arrays = {file.stem: _mapped(file) for file in files}
        fields = {}
        for name, array in self._arrays.items():
            try:
                fields[name] = pa.string() if array.dtype.kind == "U" else column_type(array.dtype, array.shape[1:])
            except TypeError as error:
                raise DatasetError(f"{name}.npy {error}") from error
        self.schema = pa.schema(fields)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows. Raises DatasetError unless all arrays have the same number."""
        columns = [*numbers, *categories]
        arrays = {name: self._arrays[name] for name in columns}
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DatasetError(f"the arrays must have the same number of rows, but have {counts}")
        rows = next(iter(lengths.values()))
        files = {name: f"{name}.npy" for name in columns}
        size = rows_at_once(sum(array.nbytes // max(1, rows) for array in arrays.values()))
        for start in range(0, rows, size):
            parts = [_column(array[start : start + size]) for array in arrays.values()]
            yield Rows(pa.record_batch(parts, names=columns), files[columns[0]], start, files=files)


def _mapped(path: Path) -> NDArray[Any]:
    # Unlike numpy.load this reads only arrays, and cannot unpickle.
    with open_file(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"version {version} of the format, of which 1.0 and 2.0 are read")  # noqa: TRY301
            shape, is_fortran, dtype = HEADERS[version](file)
        # NumPy evaluates the header as a Python literal, whose parser has limits of its own.
        except (OSError, ValueError, TypeError, RecursionError, MemoryError, SyntaxError, TokenError) as error:
            said = text_of(error) or "its header is nested too deeply"
            raise DatasetError(f"{path.name} cannot be read as a NumPy array: {said}") from error
        if dtype.hasobject:
            raise DatasetError(f"{path.name} has Python objects, which are not read; its rows must be numbers or text")
        if any(isinstance(length, bool) or length < 0 for length in shape):
            raise DatasetError(f"{path.name} has the shape {shape}, which no array has")
        if len(shape) > MOST_AXES:
            raise DatasetError(f"{path.name} has {len(shape)} axes; at most {MOST_AXES} are read")
        if not shape:
            raise DatasetError(f"{path.name} is a single number; its first axis must be the rows")
        if not prod(shape[1:]) * dtype.itemsize:
            raise DatasetError(f"{path.name} has rows without numbers: its shape is {shape}")
        expected = file.tell() + prod(shape) * dtype.itemsize
        size = os.fstat(file.fileno()).st_size
        if size < expected:
            raise DatasetError(f"{path.name} is cut short: it has {size} bytes, but its header requires {expected}")
        if not shape[0]:
            return np.empty(shape, dtype)  # nothing can be mapped
        array: NDArray[Any] = np.memmap(file, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")
    # A column of one text per row is often a matrix.
    return array.reshape(shape[0]) if dtype.kind == "U" and prod(shape) == shape[0] else array


def _column(rows: NDArray[Any]) -> pa.Array:
    return pa.array(rows.tolist(), pa.string()) if rows.dtype.kind == "U" else column_of(rows)
