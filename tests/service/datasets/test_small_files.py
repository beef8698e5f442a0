"""A small file does not occupy a registration for long: what it may expand to is in proportion to its size."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.datasets.preparation import preparation
from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from tests.service.datasets.mutations import tarred
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = b"a,label\n1,x\n2,y\n"


def parquet(rows: int) -> bytes:
    file = io.BytesIO()
    table = pa.table({"a": np.zeros(rows), "label": np.arange(rows, dtype=np.uint8) % 2})
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def wide(columns: int) -> bytes:
    names = ",".join(map("c{}".format, range(columns)))
    return f"label,{names}\n{'x' + ',1' * columns}\n{'y' + ',2' * columns}\n".encode()


# Name and content of a file, and the words of the message: 2 MiB and 16 bytes for each given one may be unpacked, and
# 1,000 columns and one for each 8 given bytes read.
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zeros": ("t.csv.gz", lambda: gzip.compress(bytes(2**22)), "holds more than"),
    "zeros in zeros": ("t.csv.gz", lambda: gzip.compress(gzip.compress(bytes(2**24))), "holds more than"),
    "rows": ("t.csv.gz", lambda: gzip.compress(TABLE + b"1,x\n" * 2**20), "holds more than"),
    "an archive": ("t.tar.gz", lambda: gzip.compress(tarred({"t.csv": bytes(2**22)})), "holds more than"),
    "numbers": ("t.parquet", lambda: parquet(2**19), "bytes of numbers, the limit for files of this size"),
    "members": (
        "t.tar.gz",
        lambda: gzip.compress(tarred({f"{number}.csv": TABLE for number in range(1100)})),
        "contains more than 10",
    ),
    "files with columns": (
        "t.tar.gz",
        lambda: gzip.compress(tarred({f"{number}.csv": wide(99) for number in range(20)})),
        "columns of all parts together",
    ),
}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EXPANSION", 16), ("LEAST_BYTES", 2**21), ("LEAST_COLUMNS", 1000)):
        monkeypatch.setattr(preparation, name, value)


@pytest.mark.parametrize("case", FILES)
def test_a_small_file_of_much_content_is_rejected(tmp_path: Path, case: str) -> None:
    name, build, words = FILES[case]
    (tmp_path / name).write_bytes(build())
    with pytest.raises(DatasetError) as caught:
        prepared([tmp_path / name], tmp_path / "data", Selection())
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "build", "rows"),
    [
        ("t.csv.gz", lambda: gzip.compress(TABLE + b"1,x\n" * 2**18), 2**18 + 2),
        ("t.tar.gz", lambda: gzip.compress(tarred({f"{number}.csv": TABLE for number in range(300)})), 600),
        ("t.csv", lambda: wide(900), 2),
    ],
)
def test_content_within_the_limits_is_read(tmp_path: Path, name: str, build: Callable[[], bytes], rows: int) -> None:
    (tmp_path / name).write_bytes(build())
    assert prepared([tmp_path / name], tmp_path / "data", Selection()).info.rows == rows
