"""The full history of a job as a Parquet file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from workers.record.history_files import history_names, read_history

KEPT = "downloads"  # directory of a job with files that are made from others


def history_parquet(job_dir: Path) -> bytes | None:
    """Return all recorded steps as Parquet; None if there are none. Raises OSError if a file is damaged."""
    table = read_history(job_dir)
    if not table.num_rows:
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def kept_history(job_dir: Path) -> Path | None:
    """The same as a file in the job's directory, which is made again when the job has recorded more steps."""
    names = history_names(job_dir)
    if not names:
        return None
    file = job_dir / KEPT / f"history-{hashlib.sha256(repr(names).encode()).hexdigest()}.parquet"
    if not file.is_file():
        content = history_parquet(job_dir)
        if content is None:
            return None
        file.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            Path(scratch, file.name).write_bytes(content)
            Path(scratch, file.name).rename(file)
        for other in file.parent.glob("history-*"):
            if other != file:
                other.unlink(missing_ok=True)
    return file
