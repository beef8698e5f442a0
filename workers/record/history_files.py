"""A job's full history on disk: Arrow files of consecutive steps, `history/<first>-<last>.<digest>.arrow`.

The digest of a file's content is in its name, so that a damaged file is not taken for what was recorded.

Each file has columns for the series that its job has. A version of this program that has other metrics may have written
the files before: a series without a column in a file has no points there.

They are written before the checkpoint of their last step, so that an attempt which continues from a checkpoint finds
every point before it. Points that were computed again after a failure may be in two files; they are equal.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from workers.data.arrow import array_of
from workers.machine.error_text import text_of
from workers.machine.files import replace_file
from workers.record.history import STEP, Table, schema_of

DIRECTORY = "history"
DIGEST_LENGTH = 32  # hexadecimal digits of the SHA-256
SMALL_FILE = 1 << 20  # bytes; a smaller file is rewritten together with the rows that follow it


def append_history(directory: Path, table: Table) -> None:
    """Append rows of consecutive steps to the history in a job's directory. Raises OSError."""
    if not table.num_rows:
        return
    folder = directory / DIRECTORY
    folder.mkdir(parents=True, exist_ok=True)
    first = table.column("step")[0].as_py()
    before = [path for path in _files(folder) if _steps(path)[1] == first - 1 and path.stat().st_size < SMALL_FILE]
    if before:
        table = _joined([_read(before[-1]), table])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    first, last = (table.column("step")[row].as_py() for row in (0, -1))
    content = sink.getvalue().to_pybytes()
    name = f"{first:012d}-{last:012d}.{_digest_of(content)}.arrow"
    replaced = [*before[-1:], *(path for path in _files(folder) if _steps(path) == (first, last) and path.name != name)]
    replace_file(folder / name, content)
    for path in replaced:
        path.unlink()


def mend_history(directory: Path, upto: int) -> str | None:
    """Set damaged files aside before an attempt continues after a step; what is missing up to it, None if nothing is.

    Raises OSError.
    """
    seen, missing = 0, []
    for path in _files(directory / DIRECTORY):
        try:
            _read(path)
        except OSError:
            path.rename(path.with_name(f"damaged.{path.name}"))
            continue
        first, last = _steps(path)
        if seen + 1 < first <= upto:
            missing.append((seen + 1, first - 1))
        seen = max(seen, last)
    if seen < upto:
        missing.append((seen + 1, upto))
    spans = ", ".join(f"{first} to {last}" for first, last in missing)
    return f"the points of steps {spans} are missing in the history files: damaged or deleted" if missing else None


def read_history(directory: Path, *, after: int = 0, upto: int | None = None) -> Table:
    """Rows of the steps above `after`, up to and including `upto`, each step once, in order of step."""
    tables, seen = list[Table](), after
    for path in _files(directory / DIRECTORY):
        first, last = _steps(path)
        if last > seen and (upto is None or first <= upto):
            table = _read(path).slice(max(0, seen + 1 - first))
            tables.append(table if upto is None else table.slice(0, upto - max(seen, first - 1)))
            seen = last
    return _joined(tables) if tables else schema_of([]).empty_table()


def history_names(directory: Path) -> list[str]:
    """Names of the files of a job's history, which change with their content."""
    return [path.name for path in _files(directory / DIRECTORY)]


def _joined(tables: list[Table]) -> Table:
    """One table after another; missing columns are null."""
    return pa.concat_tables(tables, promote_options="default")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.arrow"))


def _steps(path: Path) -> tuple[int, int]:
    first, _, last = path.name.partition(".")[0].partition("-")
    return int(first), int(last)


def _digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def _read(path: Path) -> Table:
    try:
        content = path.read_bytes()
        intact = path.name.split(".")[1] == _digest_of(content)
        with pa.ipc.open_file(pa.BufferReader(content)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OSError(f"the history file {path.name} cannot be read: {text_of(error)}") from error
    if not intact:
        raise OSError(f"the history file {path.name} is damaged: its content does not have its digest")
    first, last = _steps(path)
    steps = pa.chunked_array([array_of(np.arange(first, last + 1))])
    if table.schema != schema_of(table.schema.names[2:]) or table.column(STEP.name) != steps:
        raise OSError(
            f"the history file {path.name} is damaged: it does not hold the points of steps {first} to {last}"
        )
    return table
