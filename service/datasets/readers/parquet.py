"""Parquet files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets.files.opening import open_file
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from service.datasets.readers.reading import check_columns, check_names, pandas_index, reading
from service.datasets.readers.row_bytes import row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Bytes of each column that are read at once, since a row group may be as large as the file.
BUFFER_BYTES = 64 * 1024


class ParquetReader:
    """One or more Parquet files with the same columns."""

    typed: ClassVar = True
    is_table: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as parquet:
            self.schema: pa.Schema = parquet.schema_arrow
            self.hints = Hints(index=pandas_index(self.schema))
        check_names(files[0], self.schema.names)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files; only the selected columns are read."""
        columns = [*numbers, *categories]
        for file in self._files:
            with _opened(file, categories) as parquet:
                schema = parquet.schema_arrow
                check_columns(columns, schema.names, file, self._files[0])
                start = 0
                for batch in parquet.iter_batches(rows_at_once(row_bytes(schema, columns)), columns=columns):
                    yield Rows(batch, file.name, start)
                    start += batch.num_rows


@contextmanager
def _opened(path: Path, categories: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    # With an open file instead of a path, the library neither reveals the path nor adds columns for its folders.
    with reading(path, "a Parquet file"), open_file(path) as file:
        metadata = pq.read_metadata(file)
        # Text that is read as a dictionary is in memory once, however many rows have it.
        leaves = _leaves(metadata.schema, categories) if categories else []
        with pq.ParquetFile(
            file, metadata=metadata, read_dictionary=leaves, buffer_size=BUFFER_BYTES, pre_buffer=False
        ) as parquet:
            yield parquet


def _leaves(schema: pq.ParquetSchema, columns: Sequence[str]) -> list[str]:
    """The format's names of the values in some columns, such as "label" or, in lists, "label.list.element"."""
    paths = [schema.column(index).path for index in range(len(schema))]
    return [path for path in paths if path.startswith(tuple(columns))]
