"""Datasets: a Parquet file is checked once and becomes an Arrow file that every worker maps into memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workers.arrow import values_of
from workers.error_text import text_of

FEATURES, LABEL = "features", "label"


class DatasetError(ValueError):
    """A file that can not be used as a dataset; the message says which column or row is at fault."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without reading it.

    `path` is the Arrow file, `digest` the SHA-256 (hexadecimal) of its content: features, labels and class names.
    """

    path: str
    digest: str
    rows: int
    features: int
    classes: tuple[str, ...]


def prepare_parquet(source: Path, directory: Path, label: str) -> DatasetInfo:
    """Check a Parquet file and write it as `directory/<digest>.arrow`.

    Features are all columns but `label`: numbers, or lists of a fixed number of numbers, side by side in the file's
    order, as float32. Labels are integers or text; the classes are their distinct values in ascending order.
    Raises `DatasetError` when the file can not be read, a column is missing, of another type, or has nulls or NaN.
    """
    try:
        # Given a file and not its name, the library can neither say where it lies nor make columns of its folders.
        with source.open("rb") as file:
            table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{source.name} can not be read as a Parquet file: {text_of(error)}") from error
    if label not in table.column_names:
        raise DatasetError(f"has no label column {label!r}; its columns are {', '.join(table.column_names)}")
    if table.num_rows < 2:
        raise DatasetError(f"has {table.num_rows} rows; at least 2 are needed")
    classes, labels = _labels(table.column(label), label)
    names = [name for name in table.column_names if name != label]
    if not names:
        raise DatasetError(f"has no feature column beside the label {label!r}")
    features = np.ascontiguousarray(np.concatenate([_feature(table.column(name), name) for name in names], axis=1))
    return _write(directory, features, labels, classes)


def _labels(column: pa.ChunkedArray, name: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if column.null_count:
        raise DatasetError(f"label column {name!r} has {column.null_count} nulls; every row needs a label")
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise DatasetError(f"label column {name!r} has type {column.type}; labels are integers or text")
    values, labels = np.unique(column.to_numpy(), return_inverse=True)
    if len(values) < 2:
        raise DatasetError(f"label column {name!r} has only the value {values[0]!r}; at least 2 classes are needed")
    return tuple(str(value) for value in values), labels.astype(np.int64)


def _feature(column: pa.ChunkedArray, name: str) -> NDArray[np.float32]:
    """One column as float32 of shape (rows, width)."""
    kind, width = column.type, 1
    if pa.types.is_fixed_size_list(kind):
        kind, width = column.type.value_type, column.type.list_size
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DatasetError(
            f"column {name!r} has type {column.type}; features are numbers or fixed-size lists of numbers"
        )
    if column.null_count:
        raise DatasetError(f"column {name!r} has {column.null_count} nulls; every row needs a value")
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
        if array.null_count:
            raise DatasetError(f"column {name!r} has nulls in its lists; every element needs a value")
    with np.errstate(over="ignore"):  # a number beyond 32 bits becomes infinite and is refused below
        values: NDArray[np.float32] = array.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise DatasetError(
            f"column {name!r} has a value that is not a finite 32-bit number in row {bad[0]} ({bad.size} such rows)"
        )
    return values


def _schema(features: int) -> pa.Schema:
    return pa.schema({FEATURES: pa.list_(pa.float32(), features), LABEL: pa.int64()})


def _write(
    directory: Path, features: NDArray[np.float32], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> DatasetInfo:
    names = "\0".join(classes).encode()
    digest = hashlib.sha256()
    for part in (repr(features.shape).encode(), features.data.cast("B"), labels.data.cast("B"), names):
        digest.update(part)
    path = directory / f"{digest.hexdigest()}.arrow"
    lists = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    table = pa.table({FEATURES: lists, LABEL: pa.array(labels)}, schema=_schema(features.shape[1]))
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".partial", delete=False) as file:
            try:
                # One batch, so that a reader sees each column as one array without copying it.
                with pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table, max_chunksize=table.num_rows)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    return DatasetInfo(str(path), digest.hexdigest(), len(features), features.shape[1], classes)


def open_dataset(info: DatasetInfo) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Map a dataset into memory: features (rows, features) and labels (rows,), read-only, nothing copied.

    Raises `DatasetError` when the file is gone or is not what was registered.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(info.path)).get_batch(0)
        batch.validate()  # lengths and sizes, so that a damaged file ends in an error and not in a crash
    except FileNotFoundError as error:
        raise DatasetError("the dataset's file is gone from the data directory; register the dataset again") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        # What Arrow says of files as files has their paths in it.
        said = "it can not be read" if isinstance(error, OSError) else error
        raise DatasetError(f"the dataset's file is damaged ({said}); register the dataset again") from error
    if batch.schema != _schema(info.features) or batch.num_rows != info.rows:
        raise DatasetError(
            f"the dataset's file is not the one that was registered with {info.rows} rows of {info.features} features; "
            "register the dataset again"
        )
    features, labels = batch.column(FEATURES).values, batch.column(LABEL)
    if features.null_count or labels.null_count:
        raise DatasetError("the dataset's file has nulls, which none had when registered; register the dataset again")
    return values_of(features).reshape(-1, info.features), values_of(labels)


def standardization(
    features: NDArray[np.float32], rows: Sequence[int] | NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each feature over the given rows, computed in float64.

    A feature that never changes gets the deviation 1, so that it becomes 0 and not NaN.
    """
    chosen = features[rows].astype(np.float64)
    mean, deviation = chosen.mean(axis=0), chosen.std(axis=0).astype(np.float32)
    deviation[deviation == 0] = 1
    return mean.astype(np.float32), deviation
