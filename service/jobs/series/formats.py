"""Series as JSON, as CSV and as an Arrow stream, in pieces: each is made from one page of points."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from service.csv_cells import cell
from service.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.jobs.series.stored import Page, StoredSeries

ARROW = "application/vnd.apache.arrow.stream"
ARROW_SCHEMA = pa.schema(
    [("name", pa.dictionary(pa.int32(), pa.string())), ("step", pa.int64()), ("value", pa.float64())]
)

Column = np.ndarray[Any, np.dtype[Any]]


def json_pieces(series: StoredSeries) -> Iterator[bytes]:
    """Columns by name of series; values that are not finite are null."""
    begin = '{"data":{'
    for name in series.names:
        pages = series.pages(name)
        if (page := next(pages, None)) is None:
            continue
        text = f'{begin}{json.dumps(name)}:{{"steps":[{_listed(page.steps)}'
        if page.last:
            yield f'{text}],"values":[{_listed(_or_null(page.values))}]}}'.encode()
        else:
            yield text.encode()
            count = len(page.steps)
            for page in pages:
                yield f",{_listed(page.steps)}".encode()
                count += len(page.steps)
            yield from _values_again(series, name, count)
        begin = ","
    yield b"}}" if begin == "," else f"{begin}}}}}".encode()


def _values_again(series: StoredSeries, name: str, count: int) -> Iterator[bytes]:
    """The values of a series that has several pages, which are read again: they come after all steps."""
    begin = '],"values":['
    for page in series.pages(name):
        yield f"{begin}{_listed(_or_null(page.values))}".encode()
        begin, count = ",", count - len(page.values)
    if count:
        raise ConflictError(f"Job {series.job_id} was deleted while its series {name!r} was read.")
    yield b"]}"


def csv_pieces(series: StoredSeries) -> Iterator[bytes]:
    """Rows of step, name and value; values parse to the same float64."""
    yield b"step,name,value\n"
    for name in series.names:
        for page in series.pages(name):
            yield _csv_rows(cell(name), page)


def _csv_rows(name: str, page: Page) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    points = zip(page.steps.tolist(), page.values.tolist(), strict=True)
    rows.writerows((step, name, repr(value)) for step, value in points)
    return text.getvalue().encode()


def arrow_pieces(series: StoredSeries) -> Iterator[bytes]:
    """Arrow IPC stream of record batches with columns name, step and value."""
    names, sink = pa.array(series.names, pa.string()), _Pieces()
    with pa.ipc.new_stream(sink, ARROW_SCHEMA) as writer:
        yield sink.take()
        for number, name in enumerate(series.names):
            for page in series.pages(name):
                indices = pa.array(np.full(len(page.steps), number, np.int32))
                columns = [pa.DictionaryArray.from_arrays(indices, names), pa.array(page.steps), pa.array(page.values)]
                writer.write_batch(pa.record_batch(columns, schema=ARROW_SCHEMA))
                yield sink.take()
    yield sink.take()


class _Pieces(io.RawIOBase):
    """A file that is taken away in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It can only be written."""
        return True

    def write(self, piece: Any) -> int:
        """Keep a piece."""
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _or_null(values: Column) -> Column:
    """The values, with None for those that are not finite."""
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.array(None))


def _listed(column: Column) -> str:
    """The values of a column as JSON, without brackets."""
    return json.dumps(column.tolist(), separators=(",", ":"))[1:-1]


# In order of preference.
FORMATS: dict[str, Callable[[StoredSeries], Iterator[bytes]]] = {
    "application/json": json_pieces,
    "text/csv": csv_pieces,
    ARROW: arrow_pieces,
}
