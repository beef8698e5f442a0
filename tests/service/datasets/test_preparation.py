from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.prepared import prepare_parquet
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 7


def good_columns() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return {
        "pixels": pa.array(random.normal(size=(ROWS, 3)).tolist(), pa.list_(pa.float64(), 3)),
        "on": pa.array([True, False, True, True, False, False, True]),
        "label": pa.array([5, -1, 5, 30, 30, -1, 5]),
        "count": pa.array(np.arange(ROWS)[::-1], pa.int16()),
    }


def prepare_table(tmp_path: Path, columns: dict[str, Any], **options: Any) -> DatasetInfo:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table(columns), source, **options)
    return prepare_parquet(source, tmp_path / "data", "label")


def test_features_have_the_order_of_the_file(tmp_path: Path) -> None:
    columns = good_columns()
    info = prepare_table(tmp_path, columns)
    expected = [
        [*pixels, float(on), float(count)]
        for pixels, on, count in zip(*(columns[name].to_pylist() for name in ("pixels", "on", "count")), strict=True)
    ]
    features, labels = open_dataset(info)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.array(expected, np.float32))
    assert labels.dtype == np.int64
    assert [int(info.classes[label]) for label in labels] == columns["label"].to_pylist()
    assert info.classes == ("-1", "5", "30")
    assert (info.rows, info.features) == (ROWS, 5)
    assert info.path == str(tmp_path / "data" / f"{info.digest}.arrow")


@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint16(), pa.int64(), pa.uint64()], ids=str
)
def test_all_number_types_are_features(tmp_path: Path, kind: pa.DataType) -> None:
    values = np.array([0, 1, 100], kind.to_pandas_dtype())
    info = prepare_table(tmp_path, {"a": pa.array(values, kind), "label": ["x", "y", "x"]})
    np.testing.assert_array_equal(open_dataset(info)[0], [[0], [1], [100]])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_labels_may_be_text(tmp_path: Path, kind: pa.DataType) -> None:
    info = prepare_table(tmp_path, {"a": [1.0, 2.0, 3.0], "label": pa.array(["cat", "Ärger", "Cat"], kind)})
    assert info.classes == ("Cat", "cat", "Ärger")
    assert open_dataset(info)[1].tolist() == [1, 2, 0]


def test_a_file_written_by_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": [True, False, True], "label": ["x", "y", "x"]})
    frame.to_parquet(tmp_path / "frame.parquet")
    info = prepare_parquet(tmp_path / "frame.parquet", tmp_path / "data", "label")
    features, labels = open_dataset(info)
    np.testing.assert_array_equal(features, [[0.5, 1], [1.5, 0], [2.5, 1]])
    assert labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "options",
    [{"row_group_size": 2}, {"compression": "zstd"}, {"use_dictionary": False, "compression": "none"}],
    ids=str,
)
def test_the_digest_does_not_depend_on_the_storage_options(tmp_path: Path, options: dict[str, Any]) -> None:
    assert prepare_table(tmp_path, good_columns(), **options) == prepare_table(tmp_path, good_columns())
    assert len(list((tmp_path / "data").iterdir())) == 1


def _one_bit(columns: dict[str, Any]) -> dict[str, Any]:
    values = np.array(columns["count"].to_pylist(), np.float32)
    values.view(np.int32)[3] ^= 1
    return columns | {"count": values}


def _one_label(columns: dict[str, Any]) -> dict[str, Any]:
    return columns | {"label": [5, -1, 5, 30, 30, -1, 30]}


def _class_names(columns: dict[str, Any]) -> dict[str, Any]:
    return columns | {"label": [label + 1 for label in columns["label"].to_pylist()]}


def _shape(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in columns.items() if name != "on"}


@pytest.mark.parametrize("change", [_one_bit, _one_label, _class_names, _shape])
def test_other_content_has_another_digest(tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    before, after = prepare_table(tmp_path, good_columns()), prepare_table(tmp_path, change(good_columns()))
    assert before.digest != after.digest
    open_dataset(before)
    open_dataset(after)


LABELS = {"label": [0, 1]}

BAD_TABLES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no label": ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, ("'label'", "a, b")),
    "one row": ({"a": [1.0], "label": [0]}, ("has 1 row;", "2")),
    "no feature": (LABELS, ("feature", "'label'")),
    "a null label": ({"a": [1.0, 2.0, 3.0], "label": [0, None, 1]}, ("'label'", "row 2")),
    "fractional labels": ({"a": [1.0, 2.0], "label": [0.5, 1.5]}, ("'label'", "double", "integers, booleans or text")),
    "one class": ({"a": [1.0, 2.0], "label": ["x", "x"]}, ("'label'", "'x'", "2 classes")),
    "times of the day": ({"a": pa.array([1, 2], pa.time32("s")), **LABELS}, ("'a'", "time32", "--exclude")),
    "lists of different lengths": ({"a": [[1.0], [1.0, 2.0]], **LABELS}, ("'a'", "row 2", "2 numbers", "one of 1")),
    "lists of text": ({"a": pa.array([["x"], ["y"]], pa.list_(pa.string(), 1)), **LABELS}, ("'a'", "string")),
    "a missing list": ({"good": [1, 2], "a": [[1.0], None], **LABELS}, ("source.parquet", "'a'", "row 2")),
    "a null in a list": ({"a": pa.array([[1, None], [1, 2]], pa.list_(pa.int8(), 2)), **LABELS}, ("'a'", "null")),
    "not a number in a list": ({"a": [[1.0, 2.0], [np.nan, 1.0]], **LABELS}, ("'a'", "row 2", "finite")),
    "infinity": ({"a": [1.0, np.inf, np.nan], "label": [0, 1, 1]}, ("'a'", "row 2", "finite")),
    "infinity in a list": ({"a": pa.array([[1, 2], [3, -np.inf]], pa.list_(pa.float32(), 2)), **LABELS}, ("row 2",)),
    "beyond 32 bits": ({"a": [1e39, 0.0], **LABELS}, ("'a'", "row 1", "32-bit")),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_invalid_tables_are_rejected_and_leave_no_file(tmp_path: Path, case: str) -> None:
    columns, words = BAD_TABLES[case]
    with pytest.raises(DatasetError) as caught:
        prepare_table(tmp_path, columns)
    for word in words:
        assert word in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_duplicate_column_names_are_rejected(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1.0, 2.0]), pa.array([3.0, 4.0]), pa.array([0, 1])], ["a", "a", "label"])
    pq.write_table(twice, tmp_path / "source.parquet")
    with pytest.raises(DatasetError, match=r"\ba\b"):
        prepare_parquet(tmp_path / "source.parquet", tmp_path / "data", "label")


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"], ids=repr)
def test_a_file_that_is_not_parquet_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "source.parquet"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(DatasetError, match=r"source\.parquet"):
        prepare_parquet(source, tmp_path / "data", "label")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            prepare_table(tmp_path, good_columns())
    assert list((tmp_path / "data").iterdir()) == []
    open_dataset(prepare_table(tmp_path, good_columns()))
