"""Excel's and OpenDocument's tables."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from service.datasets.files.opening import open_file
from service.datasets.readers.reader import CHUNK_ROWS, Hints, Rows
from service.datasets.readers.reading import check_columns, check_count, check_names
from service.datasets.readers.tables.records import column_of
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CELLS = 100_000  # of a chunk of rows


class ExcelReader:
    """One or more files with the same columns in their first sheet, whose names are in its first row with values.

    A cell may have any type, and text that is a number is one.
    """

    typed: ClassVar = False
    is_table: ClassVar = True
    features: ClassVar = "*"

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        with _opened(files[0]) as sheet:
            self.schema = pa.schema([(name, pa.string()) for name in sheet.names])
            unread = f"; {', '.join(map(repr, sheet.others[:5]))} not read" if sheet.others else ""
            self.hints = Hints((f"the sheet {sheet.name!r}{unread}",), _unnamed(sheet.names))

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        count = max(1, min(CHUNK_ROWS, CELLS // len(columns)))
        for file in self._files:
            with _opened(file) as sheet:
                check_columns(columns, sheet.names, file, self._files[0])
                position = {name: index for index, name in enumerate(sheet.names)}
                start = 0
                while chunk := list(islice(sheet.rows, count)):
                    rows = [row for _, row in chunk]
                    arrays = [column_of(_cells(rows, position[name]), name, file.name) for name in columns]
                    locate = partial(_place, sheet.name, [number for number, _ in chunk], start)
                    yield Rows(pa.record_batch(arrays, names=columns), file.name, start, locate)
                    start += len(chunk)


class _Sheet(NamedTuple):
    """The names of a sheet, its columns and the other sheets, and the rows with values, with their numbers."""

    name: str
    names: list[str]
    others: list[str]
    rows: Iterator[tuple[int, list[Any]]]


@contextmanager
def _opened(path: Path) -> Iterator[_Sheet]:
    """The first sheet."""
    with open_file(path) as file:
        try:
            workbook = CalamineWorkbook.from_filelike(file)
            names = workbook.sheet_names
            sheet = workbook.get_sheet_by_index(0)
            rows = ((number, row) for number, row in enumerate(sheet.iter_rows(), 1) if any(cell != "" for cell in row))
            _, head = next(rows, (0, None))
        except (CalamineError, OSError, ValueError, IndexError) as error:
            raise DatasetError(f"{path.name} cannot be read as a table of Excel: {error}") from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of the library, at a damaged file
                raise
            raise DatasetError(f"{path.name} cannot be read as a table of Excel: it is damaged") from error
    if head is None:
        raise DatasetError(f"{path.name} has no rows in its first sheet, {sheet.name!r}")
    check_count(path, len(head))
    columns = [_name(cell) or f"column_{index + 1}" for index, cell in enumerate(head)]
    check_names(path, columns)
    yield _Sheet(sheet.name, columns, names[1:], rows)


def _place(sheet: str, numbers: Sequence[int], start: int, row: int) -> str:
    return f"row {numbers[row - start]} of the sheet {sheet!r}"


def _name(cell: Any) -> str:
    whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell) if whole else cell).strip()


def _unnamed(names: Sequence[str]) -> dict[str, str]:
    return {name: "is the first column and has no name" for name in names[:1] if name == "column_1"}


def _cells(rows: Sequence[Sequence[Any]], index: int) -> list[Any]:
    """A column; an empty cell is missing, and a whole number an integer, since a cell has no other type for it."""
    cells = [None if row[index] == "" else row[index] for row in rows]
    if all(cell is None or (type(cell) is float and cell.is_integer()) for cell in cells):
        return [None if cell is None else int(cell) for cell in cells]
    return cells
