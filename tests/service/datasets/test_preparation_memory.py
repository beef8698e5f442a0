"""The memory that a preparation needs does not grow with the size of the file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Measures the peak of anonymous memory, which excludes mapped files.
MEASURED = """
import sys, threading
from pathlib import Path
from service.datasets.preparation.preparation import Selection, prepare
from service.datasets.files.workspace import workspace

def own():
    line, = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
    return int(line.split()[1])

peak, done = own(), threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, own())
thread = threading.Thread(target=watch)
thread.start()
directory = Path(sys.argv[1]) / "data"
with workspace(directory) as scratch:
    found = prepare([Path(path) for path in sys.argv[2:]], scratch, directory, Selection(), max_bytes=2**40)
done.set()
thread.join()
print(found.info.rows, peak)
"""

WIDTH = 64


def write_npy(folder: Path, rows: int) -> list[Path]:
    features = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, WIDTH))  # a sparse file
    features.flush()
    np.save(folder / "label.npy", np.arange(rows) % 10)
    return [folder / "x.npy", folder / "label.npy"]


def write_csv(folder: Path, rows: int) -> list[Path]:
    with (folder / "t.csv").open("w") as file:
        file.write(",".join([*(f"x{index}" for index in range(WIDTH)), "label"]) + "\n")
        piece = "".join(",".join(map(str, [*range(row, row + WIDTH), row % 10])) + "\n" for row in range(1000))
        file.writelines(piece for _ in range(rows // 1000))
    return [folder / "t.csv"]


def write_parquet(folder: Path, rows: int) -> list[Path]:
    """Write a single row group, which is too large to be read as a whole."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(rows * WIDTH, dtype=np.float32)), WIDTH)
    table = pa.table({"x": lists, "label": np.arange(rows) % 10})
    pq.write_table(table, folder / "t.parquet", row_group_size=rows, use_dictionary=False, compression="none")
    return [folder / "t.parquet"]


@pytest.mark.parametrize("write", [write_npy, write_csv, write_parquet], ids=lambda write: write.__name__)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, write: Callable[[Path, int], list[Path]]) -> None:
    peaks = []
    for rows in (300_000, 600_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        files = write(folder, rows)
        command = [sys.executable, "-c", MEASURED, str(folder), *map(str, files)]
        prepared = subprocess.run(command, check=True, capture_output=True, text=True)
        count, peak = map(int, prepared.stdout.split())
        assert count == rows
        peaks.append(peak)
    # The sizes of the files differ by at least 70 MB.
    assert peaks[1] - peaks[0] < 25_000, peaks
