"""The full history of a job as a Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from workers.record.history_files import read_history

if TYPE_CHECKING:
    from pathlib import Path


def history_parquet(job_dir: Path) -> bytes | None:
    """Return all recorded steps as Parquet; None if there are none. Raises OSError if a file is damaged."""
    table = read_history(job_dir)
    if not table.num_rows:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())
