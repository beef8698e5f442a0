"""IDX files, MNIST's format."""

from __future__ import annotations

import os
import struct
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from service.datasets.files.opening import open_file
from service.datasets.readers.arrays import MOST_AXES, column_of, column_type
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class _Header(NamedTuple):
    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """A range of rows."""
        size = self.dtype.itemsize * prod(self.shape[1:])
        with open_file(self.path) as file:
            file.seek(self.offset + start * size)
            return np.frombuffer(file.read((stop - start) * size), self.dtype).reshape(-1, *self.shape[1:])


class IdxReader:
    """The column "image" from a file of arrays, and the column "label" from a file with a number for each array."""

    typed: ClassVar = True
    is_table: ClassVar = False
    hints: ClassVar = Hints()
    features: ClassVar = "image"

    def __init__(self, files: Sequence[Path]) -> None:
        self._columns: dict[str, _Header] = {}
        for header in map(_header, files):
            name = "label" if len(header.shape) == 1 else "image"
            if name in self._columns:
                raise DatasetError(f"{header.path.name} and {self._columns[name].path.name} are both files of {name}s")
            self._columns[name] = header
        self.schema = pa.schema({name: column_type(one.dtype, one.shape[1:]) for name, one in self._columns.items()})

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows. Raises DatasetError unless there are as many labels as images."""
        columns = [*numbers, *categories]
        headers = [self._columns[name] for name in columns]
        first = headers[0]
        for other in headers[1:]:
            if other.shape[0] != first.shape[0]:
                raise DatasetError(
                    f"{first.path.name} has {first.shape[0]} rows and {other.path.name} has {other.shape[0]}; "
                    "each needs one for each of the other's"
                )
        files = {name: self._columns[name].path.name for name in columns}
        size = rows_at_once(8 * prod(first.shape[1:]))
        for start in range(0, first.shape[0], size):
            stop = min(start + size, first.shape[0])
            parts = [column_of(header.rows(start, stop)) for header in headers]
            yield Rows(pa.record_batch(parts, names=columns), first.path.name, start, files=files)


def _header(path: Path) -> _Header:
    with open_file(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not magic[3]:
            raise DatasetError(f"{path.name} is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}")
        sizes = file.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise DatasetError(f"{path.name} is cut short: its header ends after {4 + len(sizes)} bytes")
        size = os.fstat(file.fileno()).st_size
    dtype, shape, offset = np.dtype(DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes), 4 + len(sizes)
    if len(shape) > MOST_AXES:
        raise DatasetError(f"{path.name} has {len(shape)} axes; at most {MOST_AXES} are read")
    if not all(shape[1:]):
        raise DatasetError(f"{path.name} has rows without numbers: its shape is {shape}")
    expected = offset + dtype.itemsize * prod(shape)
    if size != expected:
        raise DatasetError(f"{path.name} has {size} bytes, but its header requires {expected}")
    return _Header(path, dtype, shape, offset)
