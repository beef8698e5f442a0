"""What the readers of tables have in common: errors of Arrow, and columns that each file must have."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING

import pyarrow as pa

from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


MOST_COLUMNS = 32_768
LONGEST_NAME = 200  # characters
LONGEST_NAMES = 1024 * 1024  # bytes of all names together, since answers have all of them


class NoNumbersError(DatasetError):
    """A column that should be of numbers and is not; `column` is its name."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


def pandas_index(schema: pa.Schema) -> dict[str, str]:
    """The columns of a schema that pandas has written for the index of a table, and what they are, in words."""
    try:
        named = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        # The index of rows that are counted is no column, and has a description instead of a name.
        return {name: "is the index of a pandas table" for name in named if name in schema.names}
    except (KeyError, TypeError, ValueError):
        return {}


@contextmanager
def reading(path: Path, kind: str, message: Callable[[BaseException], str] = text_of) -> Iterator[None]:
    """Report Arrow's errors as a DatasetError: the file cannot be read as what it should be.

    A MemoryError remains: it says nothing about the file, but that it needs more memory than there is.
    """
    try:
        yield
    except MemoryError:  # Arrow's is an ArrowException as well
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last one: a column name is not UTF-8
        # Arrow's own messages about files contain their paths.
        said = "it is damaged" if isinstance(error, OSError) and error.errno is None else message(error)
        raise DatasetError(f"{path.name} cannot be read as {kind}: {said}") from error


def check_columns(columns: Sequence[str], names: Sequence[str], file: Path, first: Path) -> None:
    """Raise DatasetError unless a file has the columns that are read from the first file."""
    present = set(names)
    missing = [name for name in columns if name not in present]
    if missing:
        raise DatasetError(f"{file.name} has no column {missing[0]!r}, which {first.name} has")


def check_count(file: Path, columns: int) -> None:
    """Raise DatasetError if a file has too many columns."""
    if columns > MOST_COLUMNS:
        raise DatasetError(
            f"{file.name} has {columns} columns; at most {MOST_COLUMNS} are read. More numbers per row fit into a "
            "column of lists, or into an array (.npy)"
        )


def check_names(file: Path, names: Sequence[str]) -> None:
    """Raise DatasetError for too many columns, and for names that are too long or not unique."""
    check_count(file, len(names))
    longest = max(names, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise DatasetError(
            f"{file.name} has a column name of {len(longest)} characters, {longest[:40]!r}...; at most {LONGEST_NAME} "
            "are allowed"
        )
    size = sum(len(name.encode()) for name in names)
    if size > LONGEST_NAMES:
        raise DatasetError(
            f"{file.name} has column names of {size} bytes together; at most {LONGEST_NAMES} are allowed"
        )
    name, count = max(Counter(names).items(), key=itemgetter(1), default=("", 0))
    if count > 1:
        raise DatasetError(f"{file.name} has several columns called {name!r}; each needs a name of its own")
