"""CSV files."""

from __future__ import annotations

import csv
import io
import re
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from service.datasets.files.opening import open_file, open_mapped
from service.datasets.readers.reader import Rows
from service.datasets.readers.reading import check_columns, check_count, check_names, reading
from workers.data.arrow import values_of
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CHUNK_BYTES = 8 * 1024 * 1024  # also the maximum length of a line
HEADER = 2  # Arrow numbers rows from 1 on and includes the first line

CONVERSION = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to \w+: (.*)", re.DOTALL)
NO_NUMBER = re.compile(r"invalid value '(.*)'", re.DOTALL)
ROW = re.compile(r"Row #(\d+)")


class CsvReader:
    """One or more CSV files with the same columns, whose names are in the first line.

    The format has no types: a column is of integers if none of its numbers has a fraction.
    """

    typed: ClassVar = False
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        names = _names(files[0])
        if _look_like_data(names):
            raise DatasetError(f"{files[0].name} has numbers in its first line; it must name the columns")
        self.schema: pa.Schema = pa.schema([(name, pa.float64()) for name in names])

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        types = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(categories, pa.string())
        for file in self._files:
            names = self.schema.names if file == self._files[0] else _names(file)
            check_columns(columns, names, file, self._files[0])
            locate = partial(_line, file)
            with _opened(file, types, names) as reader:
                start = 0
                for batch in reader:
                    arrays = [batch.column(name) for name in columns]
                    arrays = [_integers_if_all_are(array) for array in arrays]
                    yield Rows(pa.record_batch(arrays, names=columns), file.name, start, locate)
                    start += batch.num_rows


@contextmanager
def _opened(path: Path, types: Mapping[str, pa.DataType], names: Sequence[str]) -> Iterator[pc.CSVStreamingReader]:
    with (
        reading(path, "CSV", lambda error: _message(error, path, names), lambda error: _text_column(error, names)),
        open_mapped(path) as file,
        pc.open_csv(
            file,
            # One thread, so that errors include the row.
            read_options=pc.ReadOptions(use_threads=False, block_size=CHUNK_BYTES),
            parse_options=pc.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            # "NA" and "null" may be classes; an empty value is missing.
            convert_options=pc.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
            ),
        ) as reader,
    ):
        yield reader


def _names(path: Path) -> list[str]:
    """The names of the columns, from the first line."""
    with open_file(path) as file:
        # Counted by the standard library, since Arrow needs a second for 20,000 columns.
        start = io.TextIOWrapper(io.BytesIO(file.read(CHUNK_BYTES)), encoding="latin-1", newline="")
    try:
        check_count(path, len(next(csv.reader(start, delimiter=_delimiter(path)), ())))
    except csv.Error as error:
        raise DatasetError(f"{path.name} cannot be read as CSV: {error} in its first line") from error
    with _opened(path, {}, ()) as reader:
        names: list[str] = reader.schema.names
    check_names(path, names)
    return names


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _message(error: BaseException, path: Path, names: Sequence[str]) -> str:
    """Arrow's message with the name of the column instead of its number, and the line in the file."""
    text = text_of(error)
    if text.startswith("straddling object"):
        return f"a line is longer than {CHUNK_BYTES} bytes, or a quotation mark is not closed"
    if found := CONVERSION.match(text):
        index, row, said = int(found[1]), found[2], found[3]
        column = repr(names[index]) if index < len(names) else f"number {index + 1}"
        line = f" in {_line(path, int(row) - HEADER)}" if row else _line_of_no_text(path, index)
        value = NO_NUMBER.fullmatch(said)
        return f"column {column}{line} has {f'{value[1][:40]!r}, which is not a number' if value else said}"
    return ROW.sub(lambda found: _line(path, int(found[1]) - HEADER), text)


def _text_column(error: BaseException, names: Sequence[str]) -> str | None:
    """The column with text where a number should be, if that is the error."""
    found = CONVERSION.match(text_of(error))
    return names[int(found[1])] if found and NO_NUMBER.fullmatch(found[3]) and int(found[1]) < len(names) else None


def _line(path: Path, row: int) -> str:
    """The line in which a row ends: rows may contain line breaks, and empty lines are no rows."""
    with open_file(path) as file:
        lines = csv.reader(io.TextIOWrapper(file, encoding="latin-1", newline=""), delimiter=_delimiter(path))
        with suppress(csv.Error):  # such as a longer field in it than the standard library reads
            next(islice(filter(None, lines), row + 1, None), None)
        return f"line {lines.line_num}"


def _line_of_no_text(path: Path, index: int) -> str:
    """The first line whose value in a column is not UTF-8, which Arrow does not say."""
    with open_file(path) as file:
        lines = csv.reader(io.TextIOWrapper(file, encoding="latin-1", newline=""), delimiter=_delimiter(path))
        with suppress(csv.Error, IndexError):
            for row in lines:
                try:
                    (row[index] if row else "").encode("latin-1").decode()
                except UnicodeDecodeError:
                    return f" in line {lines.line_num}"
    return ""


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
