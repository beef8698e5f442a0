"""Common interface of the readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

# Size of a chunk: large enough for columnar operations, small compared with any machine's memory.
CHUNK_BYTES = 16 * 1024 * 1024
CHUNK_ROWS = 8192


def _row(index: int) -> str:
    return f"row {index + 1}"


@dataclass(frozen=True)
class Hints:
    """What the files say about their columns: `notes` on their form, in words, and columns that are an index, and why.

    `decimals` has the columns of text whose numbers have another decimal sign than a point.
    """

    notes: tuple[str, ...] = ()
    index: Mapping[str, str] = field(default_factory=dict)
    decimals: Mapping[str, str] = field(default_factory=dict)


class Rows(NamedTuple):
    """A chunk of rows of `file`, from its row `start` on; `locate` describes the place of a row in the file.

    `files` has the names of the columns' files where each column has a file of its own.
    """

    batch: pa.RecordBatch
    file: str
    start: int
    locate: Callable[[int], str] = _row
    files: Mapping[str, str] = MappingProxyType({})

    def file_of(self, column: str) -> str:
        """The name of the file that has a column."""
        return self.files.get(column, self.file)


class Reader(Protocol):
    """The rows of files of one format, in chunks whose size does not depend on that of the files.

    `typed` is whether the format itself says what is a number and what is text, `is_table` whether its columns may be
    of other kinds than numbers, and `features` a pattern of the columns that are features by default.
    """

    typed: ClassVar[bool]
    is_table: ClassVar[bool]
    features: ClassVar[str]
    schema: pa.Schema

    @property
    def hints(self) -> Hints:
        """What the files say about their columns."""

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows in order, with the numeric and the categorical columns. Raises DatasetError for a damaged file."""


def rows_at_once(row_bytes: int) -> int:
    """Number of rows of a chunk."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))
