"""Series as JSON, as CSV and as an Arrow stream."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from service.csv_cells import cell
from service.jobs.schemas import MetricsView, SeriesView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.jobs.series.points import Series

ARROW = "application/vnd.apache.arrow.stream"
ARROW_SCHEMA = pa.schema(
    [("name", pa.dictionary(pa.int32(), pa.string())), ("step", pa.int64()), ("value", pa.float64())]
)


def as_json(series: Mapping[str, Series]) -> bytes:
    """Columns by name of series; values that are not finite are null."""
    view = MetricsView(
        data={
            name: SeriesView(steps=steps, values=[value if math.isfinite(value) else None for value in values])
            for name, (steps, values) in series.items()
        }
    )
    return view.model_dump_json().encode()


def as_csv(series: Mapping[str, Series]) -> bytes:
    """Rows of step, name and value; values parse to the same float64."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("step", "name", "value"))
    for name, (steps, values) in series.items():
        safe_name = cell(name)
        rows.writerows((step, safe_name, repr(value)) for step, value in zip(steps, values, strict=True))
    return text.getvalue().encode()


def as_arrow(series: Mapping[str, Series]) -> bytes:
    """Arrow IPC stream of one record batch with columns name, step and value."""
    lengths = [len(steps) for steps, _ in series.values()]
    columns = [
        pa.DictionaryArray.from_arrays(
            np.repeat(np.arange(len(series), dtype=np.int32), lengths), pa.array(series, pa.string())
        ),
        pa.array([step for steps, _ in series.values() for step in steps], pa.int64()),
        pa.array([value for _, values in series.values() for value in values], pa.float64()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ARROW_SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=ARROW_SCHEMA))
    return bytes(sink.getvalue())


# In order of preference.
FORMATS: dict[str, Callable[[Mapping[str, Series]], bytes]] = {
    "application/json": as_json,
    "text/csv": as_csv,
    ARROW: as_arrow,
}
