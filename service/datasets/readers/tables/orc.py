"""ORC files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.orc as po

from service.datasets.files.opening import open_file
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from service.datasets.readers.reading import check_columns, check_names, reading
from service.datasets.readers.row_bytes import row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class OrcReader:
    """One or more ORC files with the same columns."""

    typed: ClassVar = True
    is_table: ClassVar = True
    features: ClassVar = "*"
    hints: ClassVar = Hints()

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as orc:
            self.schema: pa.Schema = orc.schema
        check_names(files[0], self.schema.names)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files; only the selected columns are read, a stripe at a time."""
        columns = [*numbers, *categories]
        for file in self._files:
            with _opened(file) as orc:
                check_columns(columns, orc.schema.names, file, self._files[0])
                start, size = 0, rows_at_once(row_bytes(orc.schema, columns))
                for stripe in range(orc.nstripes):
                    batch = orc.read_stripe(stripe, columns=columns).select(columns)
                    batch.validate(full=True)  # so that a damaged file causes an error and not a crash
                    for first in range(0, batch.num_rows, size):
                        part = batch.slice(first, size)
                        yield Rows(part, file.name, start)
                        start += part.num_rows


@contextmanager
def _opened(path: Path) -> Iterator[po.ORCFile]:
    with reading(path, "an ORC file"), open_file(path) as file:
        yield po.ORCFile(file)
