"""Parquet files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets.readers.reader import Rows, rows_at_once
from service.datasets.readers.row_bytes import row_bytes
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Bytes of each column that are read at once, since a row group may be as large as the file.
BUFFER_BYTES = 64 * 1024


class ParquetReader:
    """One or more Parquet files with the same columns."""

    typed: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as parquet:
            self.schema: pa.Schema = parquet.schema_arrow

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files; only the selected columns are read."""
        columns = [*numbers, *categories]
        for file in self._files:
            with _opened(file) as parquet:
                schema = parquet.schema_arrow
                missing = [name for name in columns if name not in schema.names]
                if missing:
                    raise DatasetError(f"{file.name} has no column {missing[0]!r}, which {self._files[0].name} has")
                start = 0
                for batch in parquet.iter_batches(rows_at_once(row_bytes(schema, columns)), columns=columns):
                    yield Rows(batch, file.name, start)
                    start += batch.num_rows


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        # With an open file instead of a path, the library neither reveals the path nor adds columns for its folders.
        with path.open("rb") as file, pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False) as parquet:
            yield parquet
    except (
        pa.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # the last one for a column name that is not UTF-8
        raise DatasetError(f"{path.name} cannot be read as a Parquet file: {text_of(error)}") from error
