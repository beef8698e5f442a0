"""A job's full history as a file that other tools read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from workers.record.history_files import read_history

if TYPE_CHECKING:
    from pathlib import Path


def history_parquet(job_dir: Path) -> bytes | None:
    """Every step that was recorded, as Parquet; None where none was. Raises OSError where a file is damaged."""
    table = read_history(job_dir)
    if not table.num_rows:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())
