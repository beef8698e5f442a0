"""NumPy's .npy files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from service.datasets.readers.arrays import column_of, column_type
from service.datasets.readers.reader import Rows, rows_at_once
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class NpyReader:
    """Arrays whose first axis is the rows; each file is a column with the name of the file."""

    typed: ClassVar = True
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
        size = rows_at_once(sum(array.nbytes // max(1, rows) for array in arrays.values()))
        for start in range(0, rows, size):
            parts = [_column(array[start : start + size]) for array in arrays.values()]
            yield Rows(pa.record_batch(parts, names=columns), f"{columns[0]}.npy", start)


def _mapped(path: Path) -> NDArray[Any]:
    try:
        # Unlike numpy.load it reads only arrays, and cannot unpickle.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path.name} cannot be read as a NumPy array: {text_of(error)}") from error
    if array.ndim == 0:
        raise DatasetError(f"{path.name} is a single number; its first axis must be the rows")
    return array


def _column(rows: NDArray[Any]) -> pa.Array:
    return pa.array(rows.tolist(), pa.string()) if rows.dtype.kind == "U" else column_of(rows)
