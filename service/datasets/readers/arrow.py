"""Arrow IPC files and streams."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from service.datasets.readers.reader import Rows, rows_at_once
from service.datasets.readers.row_bytes import row_bytes
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAGIC = b"ARROW1"


class ArrowReader:
    """One or more Arrow files or streams (also Feather) with the same columns."""

    typed: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as (schema, _):
            self.schema = schema

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files, memory-mapped, since a batch may be as large as the file."""
        columns = [*numbers, *categories]
        for file in self._files:
            with _opened(file) as (schema, batches):
                start = 0
                for batch in batches:
                    missing = [name for name in columns if name not in schema.names]
                    if missing:
                        raise DatasetError(f"{file.name} has no column {missing[0]!r}, which {self._files[0].name} has")
                    chosen = batch.select(columns)
                    chosen.validate(full=True)  # so that a damaged file causes an error and not a crash
                    size = rows_at_once(row_bytes(schema, columns))
                    for first in range(0, chosen.num_rows, size):
                        part = chosen.slice(first, size)
                        yield Rows(part, file.name, start)
                        start += part.num_rows


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    try:
        with pa.memory_map(str(path)) as mapped:
            if mapped.read(len(MAGIC)) == MAGIC:
                with pa.ipc.open_file(mapped) as file:
                    yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
            else:
                mapped.seek(0)
                with pa.ipc.open_stream(mapped) as stream:
                    yield stream.schema, iter(stream)
    except (
        pa.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # the last one for a column name that is not UTF-8
        raise DatasetError(f"{path.name} cannot be read as an Arrow file or stream: {_message(error)}") from error


def _message(error: BaseException) -> str:
    # Arrow's own messages about files contain their paths.
    return text_of(error) if not isinstance(error, OSError) or error.errno is not None else "it is damaged"
