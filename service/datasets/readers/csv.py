"""CSV files."""

from __future__ import annotations

import csv
import io
import re
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pac

from core.tables.texts import MISSING
from service.datasets.files.opening import open_file, open_mapped
from service.datasets.readers.reader import Hints, Rows
from service.datasets.readers.reading import check_columns, reading
from service.datasets.readers.tables.dialect import dialect_of
from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from service.datasets.readers.tables.dialect import Dialect

CHUNK_BYTES = 8 * 1024 * 1024  # also the maximum length of a line

CONVERSION = "CSV conversion error"  # in Arrow's messages
ROW = re.compile(r"Row #(\d+)")


class CsvReader:
    """One or more CSV files with the same columns.

    The format has no types: all values are text.
    """

    typed: ClassVar = False
    is_table: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._was_read = False
        self._first = dialect_of(files[0])
        self.schema: pa.Schema = pa.schema([(name, pa.string()) for name in self._first.names])
        index = {name: "is the first column and has no name" for name in self._first.unnamed[:1] if name == "column_1"}
        self.hints = Hints(tuple(self._first.notes()), index, self._first.decimals)

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        # Rows are read again where a column of numbers turned out to be one of text: all of its values are text then.
        expected, self._was_read = frozenset() if self._was_read else frozenset(numbers), True
        for file in self._files:
            dialect = self._first if file == self._files[0] else dialect_of(file)
            check_columns(columns, dialect.names, file, self._files[0])
            as_numbers = expected & dialect.numbers
            types = {name: pa.float64() if name in as_numbers else pa.string() for name in columns}
            for start, batch in _batches(file, dialect, types):
                arrays = batch.columns  # in the order of `columns`
                arrays[len(numbers) :] = [_plain(array) for array in arrays[len(numbers) :]]
                yield Rows(pa.record_batch(arrays, names=columns), file.name, start, partial(_line, file, dialect))


def _batches(file: Path, dialect: Dialect, types: Mapping[str, pa.DataType]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a file, and the number of those before: with numbers, until one is no number, and then as text."""
    start = 0
    try:
        with _opened(file, dialect, types) as reader:
            for batch in reader:
                yield start, batch
                start += batch.num_rows
    except DatasetError as error:
        if CONVERSION not in str(error.__cause__):
            raise
    else:
        return
    read, start = start, 0
    with _opened(file, dialect, dict.fromkeys(types, pa.string())) as reader:
        for batch in reader:
            new = batch.slice(max(0, read - start))
            if new.num_rows:
                yield start + batch.num_rows - new.num_rows, new
            start += batch.num_rows


@contextmanager
def _opened(path: Path, dialect: Dialect, types: Mapping[str, pa.DataType]) -> Iterator[pac.CSVStreamingReader]:
    with (
        reading(path, "CSV", lambda error: _message(error, path, dialect)),
        open_mapped(path) as file,
        pac.open_csv(
            file,
            # One thread, so that errors include the row.
            read_options=pac.ReadOptions(
                use_threads=False,
                block_size=CHUNK_BYTES,
                column_names=dialect.names,
                skip_rows=dialect.first_line,
                encoding=dialect.encoding.removesuffix("-sig"),
            ),
            parse_options=pac.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
            convert_options=pac.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=sorted(MISSING),
                strings_can_be_null=False,  # "NA" and "null" may be classes
                check_utf8=False,  # the encoding is known
            ),
        ) as reader,
    ):
        yield reader


def _plain(texts: pa.Array) -> pa.Array:
    """Texts without spaces around them."""
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, texts.type), texts)


def _message(error: BaseException, path: Path, dialect: Dialect) -> str:
    """Arrow's message with the line in the file instead of the number of a row."""
    text = text_of(error)
    if text.startswith("straddling object"):
        return f"a line is longer than {CHUNK_BYTES} bytes, or a quotation mark is not closed"
    if isinstance(error, UnicodeDecodeError):
        return "its text is neither in UTF-8 nor in Latin-1"
    return ROW.sub(lambda found: _line(path, dialect, int(found[1]) - 1 - dialect.first_line), text)


def _line(path: Path, dialect: Dialect, row: int) -> str:
    """The line in which a row ends: rows may contain line breaks, and empty lines are no rows."""
    with open_file(path) as file:
        text = io.TextIOWrapper(file, encoding=dialect.encoding, errors="replace", newline="")
        lines = csv.reader(text, delimiter=dialect.delimiter)
        with suppress(csv.Error):  # such as a longer field in it than the standard library reads
            next(islice(filter(None, lines), row + dialect.has_header, None), None)
        return f"line {lines.line_num}"
