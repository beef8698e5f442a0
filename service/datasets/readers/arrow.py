"""Arrow IPC files and streams."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from service.datasets.files.opening import open_mapped
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from service.datasets.readers.reading import check_columns, check_names, pandas_index, reading
from service.datasets.readers.row_bytes import row_bytes
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAGIC = b"ARROW1"
NUMBER = re.compile(r"In column (\d+)")


class ArrowReader:
    """One or more Arrow files or streams (also Feather) with the same columns."""

    typed: ClassVar = True
    is_table: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as (schema, _):
            self.schema = schema
            self.hints = Hints(index=pandas_index(self.schema))
        check_names(files[0], schema.names)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files, memory-mapped, since a batch may be as large as the file."""
        columns = [*numbers, *categories]
        for file in self._files:
            with _opened(file) as (schema, batches):
                check_columns(columns, schema.names, file, self._files[0])
                start = 0
                for batch in batches:
                    chosen = batch.select(columns)
                    # So that a damaged file causes an error and not a crash.
                    with reading(file, "an Arrow file or stream", lambda error: _message(error, columns)):
                        chosen.validate(full=True)
                    size = rows_at_once(row_bytes(schema, columns))
                    for first in range(0, chosen.num_rows, size):
                        part = chosen.slice(first, size)
                        yield Rows(part, file.name, start)
                        start += part.num_rows


def _message(error: BaseException, columns: Sequence[str]) -> str:
    """Arrow's message with the name of the column instead of its number among those that are read."""
    return NUMBER.sub(lambda found: f"In column {columns[int(found[1])]!r}", text_of(error))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    with reading(path, "an Arrow file or stream"), open_mapped(path) as mapped:
        if mapped.read(len(MAGIC)) == MAGIC:
            with pa.ipc.open_file(mapped) as file:
                yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
        else:
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as stream:
                yield stream.schema, iter(stream)
