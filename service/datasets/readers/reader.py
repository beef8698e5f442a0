"""Common interface of the readers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

# Size of a chunk: large enough for columnar operations, small compared with any machine's memory.
CHUNK_BYTES = 16 * 1024 * 1024
CHUNK_ROWS = 8192


class Rows(NamedTuple):
    """A chunk of rows of `file`, from its row `start` on; `locate` describes the place of a row in the file.

    `files` has the names of the columns' files where each column has a file of its own.
    """

    batch: pa.RecordBatch
    file: str
    start: int
    locate: Callable[[int], str] = "row {}".format
    files: Mapping[str, str] = MappingProxyType({})

    def file_of(self, column: str) -> str:
        """The name of the file that has a column."""
        return self.files.get(column, self.file)


class Reader(Protocol):
    """The rows of files of one format, in chunks whose size does not depend on that of the files.

    `typed` is whether the format itself says what is a number and what is text, and `features` a pattern of the columns
    that are features by default.
    """

    typed: ClassVar[bool]
    features: ClassVar[str]
    schema: pa.Schema

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows in order, with the numeric and the categorical columns. Raises DatasetError for a damaged file."""


def rows_at_once(row_bytes: int) -> int:
    """Number of rows of a chunk."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))
