"""CSV files."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from service.datasets.readers.reader import Rows
from workers.data.arrow import values_of
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CHUNK_BYTES = 8 * 1024 * 1024  # also the maximum length of a line

NO_NUMBER = re.compile(
    r"In CSV column #(?P<column>\d+): (?:Row #(?P<line>\d+): )?CSV conversion error to double: "
    r"invalid value '(?P<value>.*)'",
    re.DOTALL,
)


class CsvReader:
    """One or more CSV files with the same columns, whose names are in the first line.

    The format has no types: a column is of integers if none of its numbers has a fraction.
    """

    typed: ClassVar = False
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0], {}) as reader:
            names = reader.schema.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise DatasetError(f"{files[0].name} has several columns called {twice[0]!r}; each needs a name of its own")
        if _look_like_data(names):
            raise DatasetError(f"{files[0].name} has numbers in its first line; it must name the columns")
        self.schema: pa.Schema = pa.schema({name: pa.float64() for name in names})

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        types = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(categories, pa.string())
        for file in self._files:
            with _opened(file, types) as reader:
                missing = [name for name in columns if name not in reader.schema.names]
                if missing:
                    raise DatasetError(f"{file.name} has no column {missing[0]!r}, which {self._files[0].name} has")
                start = 0
                for batch in reader:
                    arrays = [batch.column(name) for name in columns]
                    arrays = [_integers_if_all_are(array) for array in arrays]
                    yield Rows(pa.record_batch(arrays, names=columns), file.name, start)
                    start += batch.num_rows


@contextmanager
def _opened(path: Path, types: Mapping[str, pa.DataType]) -> Iterator[pc.CSVStreamingReader]:
    names: list[str] = []
    try:
        with (
            pa.memory_map(str(path)) as file,
            pc.open_csv(
                file,
                # One thread, so that errors include the line.
                read_options=pc.ReadOptions(use_threads=False, block_size=CHUNK_BYTES),
                parse_options=pc.ParseOptions(
                    delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
                ),
                # "NA" and "null" may be classes; an empty value is missing.
                convert_options=pc.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
            ) as reader,
        ):
            names = reader.schema.names
            yield reader
    except (
        pa.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # the last one for a column name that is not UTF-8
        raise DatasetError(f"{path.name} cannot be read as CSV: {_message(error, names or list(types))}") from error


def _message(error: BaseException, names: Sequence[str]) -> str:
    found = NO_NUMBER.match(str(error))
    if found is None:
        return text_of(error)
    index = int(found["column"])
    column = repr(names[index]) if index < len(names) else f"number {index + 1}"
    line = f" in line {found['line']}" if found["line"] else ""
    return f"column {column} has {found['value'][:40]!r}{line}, which is not a number"


def _integers_if_all_are(array: pa.Array) -> pa.Array:
    if array.null_count or not pa.types.is_floating(array.type):
        return array
    values = values_of(array)
    with np.errstate(invalid="ignore"):  # numbers beyond 64 bits do not convert back to themselves
        integers = values.astype(np.int64)
    # Compared by bits, since -0.0 equals 0.
    same = np.array_equal(integers.astype(np.float64).view(np.int64), values.view(np.int64))
    return pa.array(integers) if same else array


def _look_like_data(names: Sequence[str]) -> bool:
    # Libraries name columns without names 0, 1, 2 and so on.
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return False
    return numbers != list(range(len(names)))
