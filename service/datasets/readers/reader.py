"""What every format is read through."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

# Of what is read at once: enough for whole columns to be worked on, and little beside the memory of any machine.
CHUNK_BYTES = 16 * 1024 * 1024
CHUNK_ROWS = 8192


class Rows(NamedTuple):
    """Some rows as they stand in `file`, from its row `start` on."""

    batch: pa.RecordBatch
    file: str
    start: int


class Reader(Protocol):
    """The rows of files of one format, in pieces that memory holds whatever the size of the files.

    `typed` is whether the format itself says what is a number and what is text, and `features` a pattern of the columns
    that are features where nobody says which.
    """

    typed: ClassVar[bool]
    features: ClassVar[str]
    schema: pa.Schema

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows in their order, with the columns of numbers and of few values; DatasetError for a broken file."""


def rows_at_once(row_bytes: int) -> int:
    """How many rows make a piece."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))
