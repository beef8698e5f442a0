"""Columns on disk, whose type and length are not known in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK_BYTES = 16 * 1024 * 1024


class Spool:
    """Rows of numbers in a file: as bytes, until a number needs a wider type, to which all are converted then."""

    def __init__(self, path: Path, dtype: type[np.generic], max_bytes: int) -> None:
        self._path = path
        self.dtype = np.dtype(dtype)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._file = path.open("xb")

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows. Raises DatasetError above the limit."""
        if rows.dtype != self.dtype:
            if not np.can_cast(rows.dtype, self.dtype):
                self._widen(rows.dtype)
            rows = rows.astype(self.dtype)
        self._bytes += rows.nbytes
        if self._bytes > self._max_bytes:
            raise DatasetError(f"has more than {self._max_bytes} bytes of numbers, the limit for files of this size")
        self._file.write(np.ascontiguousarray(rows).data)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        before = self._path.with_suffix(".narrow")
        self._file.close()
        self._path.rename(before)
        narrow = self.dtype
        self._file, self.dtype, self._bytes = self._path.open("xb"), dtype, 0
        with before.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                self.append(np.frombuffer(chunk, narrow))
        before.unlink()

    def finish(self) -> NDArray[Any]:
        """All numbers, flat and memory-mapped; they may be changed in place."""
        self._file.close()
        return np.memmap(self._path, self.dtype, "r+")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
