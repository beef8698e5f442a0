"""Datasets: Arrow files that every worker maps into memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.tables.column import Column
from workers.data.arrow import values_of
from workers.data.integrity import digest_of, note_check, was_checked

CHUNK = 2**20  # numbers that are looked at together

FEATURES, LABEL, TARGET, SPLIT = "features", "label", "target", "split"

# Storage types of features. Images are bytes, of which four times as many fit into memory as of float32; all other
# numbers are used as float32 in any case.
FEATURE_TYPES = {"float32": pa.float32(), "uint8": pa.uint8()}


class DatasetError(ValueError):
    """A file that cannot be used as a dataset; the message names the column or row."""


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a dataset.

    `path` is the Arrow file, `digest` the SHA-256 (hexadecimal) of its content: features, labels, class names and split
    column; of a table that has other columns than numbers, or missing values, also its columns. `features` is the width
    of a row, `dtype` the type of its stored numbers (a key of `FEATURE_TYPES`) and `shape` its shape as an image
    (height, width, channels), if it is one. Without classes each row has `targets` numbers instead. `splits` has the
    values of the split column, if there is one, in ascending order, with the number of rows of each. `columns` are
    those of a table; arrays and images have none.
    """

    path: str
    digest: str
    rows: int
    features: int
    classes: tuple[str, ...]
    dtype: str = "float32"
    shape: tuple[int, ...] | None = None
    targets: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether all features are numbers as the files have them, and none is missing."""
        return all(column.kind == "number" and not column.part and not column.missing for column in self.columns)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        return known | {"classes": list(self.classes), "columns": [column.to_json() for column in self.columns]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Build from JSON that has the fields among others; missing fields have their defaults.

        Without a path, the description can be used but not opened.
        """
        known = {"path": ""} | {each.name: document[each.name] for each in fields(cls) if each.name in document}
        shape = known.get("shape")
        known["columns"] = tuple(map(Column.from_json, known.get("columns", ())))
        return cls(**known | {"classes": tuple(known["classes"]), "shape": None if shape is None else tuple(shape)})


def schema_of(info: DatasetInfo) -> pa.Schema:
    """Schema of a dataset's Arrow file."""
    number = FEATURE_TYPES[info.dtype]
    row = pa.fixed_shape_tensor(number, info.shape) if info.shape else pa.list_(number, info.features)
    outputs = {TARGET: pa.list_(pa.float32(), info.targets)} if info.targets else {LABEL: pa.int64()}
    return pa.schema({FEATURES: row, **outputs} | ({SPLIT: pa.uint8()} if info.splits else {}))


def check_dataset(info: DatasetInfo, *, again: bool = False) -> None:
    """Check that a dataset's file holds the content that was registered.

    A file that was checked before and has not changed since is read again only if `again`. Raises `DatasetError`.
    """
    _open(info, again=again)


def open_dataset(info: DatasetInfo) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map a dataset into memory, read-only and without a copy.

    Returns the features (rows, features) in the dataset's dtype, and the labels (rows,) as int64 or, without classes,
    the targets (rows, targets) as float32. Raises `DatasetError` if the file is missing or damaged.
    """
    features, outputs, *_ = _open(info)
    return features.reshape(-1, info.features), outputs.reshape(-1, info.targets) if info.targets else outputs


def open_splits(info: DatasetInfo) -> NDArray[np.uint8]:
    """Map the split column of a dataset into memory: positions (rows,) in `info.splits`. Raises like `open_dataset`."""
    return _open(info)[2]


def open_truth(info: DatasetInfo) -> NDArray[Any]:
    """Map the labels or targets alone, as `open_dataset` returns them.

    The file's content is not compared with its digest, which takes long for a large file. Raises `DatasetError`.
    """
    truth = _open(info, check=False)[1]
    return truth.reshape(-1, info.targets) if info.targets else truth


def open_features(info: DatasetInfo) -> NDArray[Any]:
    """Map the features alone, as `open_dataset` returns them. Like `open_truth`, it does not check the content."""
    return _open(info, check=False)[0].reshape(-1, info.features)


def first_other(values: NDArray[Any], allowed: Collection[float]) -> tuple[int, int, float] | None:
    """Row, column and value of the first of values (rows, columns) that is not among those allowed, if there is one."""
    count = max(1, CHUNK // values.shape[1])
    for start in range(0, len(values), count):
        other = ~np.isin(values[start : start + count], list(allowed))
        if other.any():
            row, column = np.argwhere(other)[0].tolist()
            return start + row, column, float(values[start + row, column])
    return None


def _open(info: DatasetInfo, *, check: bool = True, again: bool = False) -> list[NDArray[Any]]:
    """All numbers of each column, in the order of the schema."""
    try:
        with Path(info.path).open("rb") as file:
            status = os.fstat(file.fileno())
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
        batch.validate()  # lengths and sizes, so that a damaged file causes an error and not a crash
    except FileNotFoundError as error:
        raise DatasetError("the dataset's file is gone from the data directory; register the dataset again") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        # Arrow's messages of an OSError contain paths.
        said = "it cannot be read" if isinstance(error, OSError) else error
        raise DatasetError(f"the dataset's file is damaged ({said}); register the dataset again") from error
    if batch.schema != schema_of(info) or batch.num_rows != info.rows:
        raise DatasetError(
            f"the dataset's file is not the one that was registered with {info.rows} rows of {info.features} features; "
            "register the dataset again"
        )
    columns = [_numbers(column) for column in batch.columns]
    if check and (again or not was_checked(info, status)):
        if digest_of(info, columns) != info.digest:
            raise DatasetError(
                "the dataset's file is damaged: its content is not the one that was registered; register the dataset "
                "again"
            )
        if not again:
            note_check(info, status)
    return columns


def _numbers(column: pa.Array) -> NDArray[Any]:
    """All numbers of a column; lists and tensors are flattened."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    values = storage.values if pa.types.is_fixed_size_list(storage.type) else storage
    if values.null_count:
        raise DatasetError("the dataset's file has nulls, which it had not when registered; register the dataset again")
    return values_of(values)
