"""Published training and test files as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from service.datasets.preparation.columns import type_name
from service.datasets.readers.reader import Hints
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.datasets.readers.reader import Reader, Rows

COLUMN = "split"


class SplitsReader:
    """The rows of several readers of images, with the column "split" for the name of the part."""

    typed: ClassVar = True
    is_table: ClassVar = False
    hints: ClassVar = Hints()
    features: ClassVar = "image"

    def __init__(self, parts: Mapping[str, Reader]) -> None:
        self._parts = parts
        (first, reader), *others = parts.items()
        for name, other in others:
            if other.schema != reader.schema:
                raise DatasetError(
                    f"the files of {first} have the columns {_described(reader)}, and those of {name} "
                    f"{_described(other)}; they must be the same"
                )
        self.schema = reader.schema.append(pa.field(COLUMN, pa.string()))

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all parts."""
        for name, reader in self._parts.items():
            for rows in reader.read(numbers, [column for column in categories if column != COLUMN]):
                part = pa.repeat(pa.scalar(name), rows.batch.num_rows)
                yield rows._replace(batch=rows.batch.append_column(COLUMN, part))


def _described(reader: Reader) -> str:
    return ", ".join(f"{field.name} ({type_name(field.type)})" for field in reader.schema)
