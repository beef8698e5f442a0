"""A fault at a known place: the message of every reader names the file, the column and the row in which it is."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest

from service.datasets.preparation.preparation import Selection
from tests.fixtures.prepared import prepared
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS, BAD = 40, 23

Columns = dict[str, Any]


def good() -> Columns:
    label = np.array(["x", "y"] * (ROWS // 2))
    return {"a": np.arange(ROWS) * 0.5, "b": np.arange(ROWS) * 2.5, "label": label, "part": label.copy()}


def faulty(column: str) -> Columns:
    """The columns, with a value that no dataset has in one row of a column."""
    columns: Columns = good()
    values = columns[column].tolist()
    values[BAD] = 1e300 if column in {"a", "b"} else "z" * 300
    columns[column] = values if column in {"a", "b"} else np.array(values)
    return columns


def parquet(columns: Columns) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=9)
    return file.getvalue()


def arrow(columns: Columns) -> bytes:
    file = io.BytesIO()
    table = pa.table(columns)
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return file.getvalue()


def feather(columns: Columns) -> bytes:
    file = io.BytesIO()
    pf.write_feather(pa.table(columns), file)
    return file.getvalue()


def csv(columns: Columns, delimiter: str = ",") -> bytes:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(f"{delimiter.join(map(str, row))}\n" for row in rows).encode()


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def npz(columns: Columns) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.array(values) for name, values in columns.items()})
    return file.getvalue()


# Name of the second of two files, what writes it, and the name of the row that is wrong.
TABLES: dict[str, tuple[Callable[[Columns], bytes], str]] = {
    "1.parquet": (parquet, f"row {BAD + 1}"),
    "1.arrow": (arrow, f"row {BAD + 1}"),
    "1.feather": (feather, f"row {BAD + 1}"),
    "1.csv": (csv, f"line {BAD + 2}"),
    "1.tsv": (lambda columns: csv(columns, "\t"), f"line {BAD + 2}"),
}


def message_of(folder: Path, files: dict[str, bytes], **selection: Any) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        prepared([folder / name for name in files], folder / "data", Selection(**selection))
    return str(caught.value)


@pytest.mark.parametrize("column", ["a", "b", "label", "part"])
@pytest.mark.parametrize("name", TABLES)
def test_a_table(tmp_path: Path, name: str, column: str) -> None:
    write, row = TABLES[name]
    files = {name.replace("1", "0"): write(good()), name: write(faulty(column))}
    message = message_of(tmp_path, files, features=["a", "b"], split="part")
    assert message.startswith(f"{name}: column '{column}' in {row} has "), message


@pytest.mark.parametrize("column", ["a", "b", "label", "part"])
def test_an_array_of_an_archive(tmp_path: Path, column: str) -> None:
    message = message_of(tmp_path, {"t.npz": npz(faulty(column))}, features=["a", "b"], split="part")
    assert message.startswith(f"{column}.npy: column '{column}' in row {BAD + 1} has "), message


def test_a_target_of_an_archive(tmp_path: Path) -> None:
    message = message_of(tmp_path, {"t.npz": npz(faulty("b"))}, features=["a"], targets=["b"], label=None)
    assert message.startswith(f"b.npy: column 'b' in row {BAD + 1} has "), message


def test_an_array_of_another_kind(tmp_path: Path) -> None:
    numbers = {"a": np.arange(4.0), "b": np.array(list("wxyz")), "label": np.arange(4) % 2}
    assert message_of(tmp_path, {"t.npz": npz(numbers)}).startswith("b.npy: column 'b' has type string")
    numbers = {"a": np.arange(4.0), "label": np.arange(4) / 2}
    assert message_of(tmp_path, {"u.npz": npz(numbers)}).startswith("label.npy: label column 'label' has type double")


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    files = {"0.csv": csv(good()), "1.csv": csv(faulty("b"))}
    message = message_of(tmp_path, {"t.zip": archive(files)}, features=["a", "b"])
    assert message.startswith(f"1.csv: column 'b' in line {BAD + 2} has "), message


def idx(values: np.ndarray[Any, Any], kind: int) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + values.tobytes()


def test_images_and_labels_of_idx_files(tmp_path: Path) -> None:
    images, labels = np.zeros((ROWS, 2, 2), ">f4"), np.arange(ROWS, dtype=np.uint8) % 2
    labels[BAD] = 5
    files = {"images.idx": idx(images, 0x0D), "labels.idx": idx(labels, 0x08)}
    message = message_of(tmp_path, files, classes=["x", "y"])
    assert message.startswith(f"labels.idx: column 'label' in row {BAD + 1} has 5"), message
    labels[BAD], images[BAD, 1, 0] = 1, np.inf
    files = {"images.idx": idx(images, 0x0D), "labels.idx": idx(labels, 0x08)}
    message = message_of(tmp_path, files, classes=["x", "y"])
    assert message.startswith(f"images.idx: column 'image' in row {BAD + 1} has "), message


def test_records_of_cifar(tmp_path: Path) -> None:
    records = np.zeros((4, 3073), np.uint8)
    files = {"data_batch_1.bin": records.tobytes()}
    records[3, 0] = 7
    files["data_batch_2.bin"] = records.tobytes()
    message = message_of(tmp_path, files, classes=["x", "y"])
    assert message.startswith("data_batch_2.bin: column 'label' in row 4 has 7"), message


def test_text_of_no_known_encoding(tmp_path: Path) -> None:
    content = csv(good()).replace(b"11.5,57.5,y", b"11.5,57.5,\x81")
    message = message_of(tmp_path, {"t.csv": content}, features=["a", "b"])
    assert f"t.csv cannot be read as CSV: line {BAD + 2} is no text in UTF-8 (utf-8) nor in Latin-1" in message


def test_an_array_of_too_many_axes(tmp_path: Path) -> None:
    axes = struct.pack(">BBBB255I", 0, 0, 8, 255, 4, *[1] * 254) + bytes(4)
    labels = idx(np.arange(4, dtype=np.uint8), 0x08)
    assert message_of(tmp_path, {"images.idx": axes, "labels.idx": labels}).startswith("images.idx has 255 axes")
