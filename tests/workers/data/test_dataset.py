from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.prepared import prepare_parquet
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset
from workers.data.integrity import digest_of

ROWS = 7


def good_columns() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return {
        "pixels": pa.array(random.normal(size=(ROWS, 3)).tolist(), pa.list_(pa.float64(), 3)),
        "on": pa.array([True, False, True, True, False, False, True]),
        "label": pa.array([5, -1, 5, 30, 30, -1, 5]),
        "count": pa.array(np.arange(ROWS)[::-1], pa.int16()),
    }


def prepare(tmp_path: Path, columns: dict[str, Any]) -> DatasetInfo:
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table(columns), source)
    return prepare_parquet(source, tmp_path / "data", "label")


def test_a_dataset_is_mapped_and_not_copied(tmp_path: Path) -> None:
    features, labels = open_dataset(prepare(tmp_path, good_columns()))
    for array in (features, labels):
        assert not array.flags.writeable
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    info = prepare(tmp_path, good_columns())
    first, second = open_dataset(info)[0], open_dataset(info)[0]
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if info.path in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    for array in (first, second):
        assert any(start <= array.ctypes.data < stop for start, stop in spans)


def _mapped(tmp_path: Path, columns: dict[str, pa.Array], **changes: Any) -> DatasetInfo:
    path = tmp_path / "mapped.arrow"
    _arrow(path, columns)
    info = replace(DatasetInfo(str(path), "", rows=3, features=12, classes=("a", "b")), **changes)
    storages = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in columns.values()]
    numbers = [each.flatten() if pa.types.is_fixed_size_list(each.type) else each for each in storages]
    return replace(info, digest=digest_of(info, [each.to_numpy() for each in numbers]))


def test_images_keep_their_dtype_and_shape(tmp_path: Path) -> None:
    images = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    labels = pa.array([0, 1, 0])
    info = _mapped(tmp_path, {"features": tensors, "label": labels}, dtype="uint8", shape=(2, 2, 3))
    features, found = open_dataset(info)
    assert features.dtype == np.uint8
    assert not features.flags.owndata
    np.testing.assert_array_equal(features, images.reshape(3, 12))
    assert found.tolist() == [0, 1, 0]
    for wrong in ({"shape": (2, 3, 2)}, {"shape": None}, {"dtype": "float32"}, {"targets": 1}):
        with pytest.raises(DatasetError, match="register the dataset again"):
            open_dataset(replace(info, **wrong))


def test_without_classes_each_row_has_targets(tmp_path: Path) -> None:
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(36, np.float32)), 12)
    targets = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
    info = _mapped(tmp_path, {"features": features, "target": targets}, classes=(), targets=2)
    found = open_dataset(info)[1]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0, 1], [2, 3], [4, 5]])


def test_the_digest_of_float32_is_that_of_the_first_version(tmp_path: Path) -> None:
    info = prepare(tmp_path, {"a": pa.array([0.5, -1.25], pa.float32()), "label": ["x", "y"]})
    assert info.digest == "7fca9f79a0062d56061994bf0506db2274a7d94a7c827e9057447a92e7e82430"


def _registered(tmp_path: Path) -> tuple[DatasetInfo, Path]:
    info = prepare(tmp_path, good_columns())
    return info, tmp_path / "data" / f"{info.digest}.arrow"


def test_a_file_that_is_gone_is_a_dataset_error(tmp_path: Path) -> None:
    info, path = _registered(tmp_path)
    path.unlink()
    with pytest.raises(DatasetError, match="gone"):
        open_dataset(info)


def test_a_file_cut_short_anywhere_is_a_dataset_error(tmp_path: Path) -> None:
    info, path = _registered(tmp_path)
    whole = path.read_bytes()
    for length in {0, 1, 7, len(whole) // 4, len(whole) // 2, len(whole) - 8, len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="register the dataset again"):
            open_dataset(info)


def _arrow(path: Path, columns: dict[str, Any]) -> None:
    table = pa.table(columns)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


FOREIGN_TABLES: dict[str, dict[str, Any]] = {
    "other columns": {"x": [1.0, 2.0], "y": [0, 1]},
    "features that are not lists": {"features": [1.0, 2.0], "label": [0, 1]},
    "float64": {"features": pa.array([[1.0] * 5] * ROWS, pa.list_(pa.float64(), 5)), "label": [0] * ROWS},
    "text labels": {"features": pa.array([[1.0] * 5] * ROWS, pa.list_(pa.float32(), 5)), "label": ["x"] * ROWS},
    "another width": {"features": pa.array([[1.0] * 6] * ROWS, pa.list_(pa.float32(), 6)), "label": [0] * ROWS},
    "nulls": {"features": pa.array([[None] * 5] * ROWS, pa.list_(pa.float32(), 5)), "label": [0] * ROWS},
    "null labels": {
        "features": pa.array([[1.0] * 5] * ROWS, pa.list_(pa.float32(), 5)),
        "label": pa.nulls(ROWS, pa.int64()),
    },
    "no rows": {"features": pa.array([], pa.list_(pa.float32(), 5)), "label": pa.array([], pa.int64())},
    "fewer rows": {"features": pa.array([[1.0] * 5] * 6, pa.list_(pa.float32(), 5)), "label": [0] * 6},
}


@pytest.mark.parametrize("case", FOREIGN_TABLES)
def test_another_table_in_its_place_is_a_dataset_error(tmp_path: Path, case: str) -> None:
    info, path = _registered(tmp_path)
    _arrow(path, FOREIGN_TABLES[case])
    with pytest.raises(DatasetError, match="register the dataset again"):
        open_dataset(info)


def test_garbage_in_its_place_is_a_dataset_error(tmp_path: Path) -> None:
    info, path = _registered(tmp_path)
    path.write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(DatasetError, match="register the dataset again"):
        open_dataset(info)


@pytest.mark.parametrize("seed", range(100))
def test_changed_bytes_never_crash_a_worker(tmp_path: Path, seed: int) -> None:
    info, path = _registered(tmp_path)
    random, content = np.random.default_rng(seed), bytearray(path.read_bytes())
    for position in random.integers(0, len(content), size=random.integers(1, 10)):
        content[position] = random.integers(256)
    path.write_bytes(content)
    try:
        features, labels = open_dataset(info)
    except DatasetError:
        return
    assert (features.shape, labels.shape) == ((ROWS, 5), (ROWS,))
    # Every byte can be read.
    assert len(features.tobytes() + labels.tobytes()) == ROWS * (5 * 4 + 8)
