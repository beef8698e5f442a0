"""Datasets: Arrow files that every worker maps into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workers.data.arrow import values_of

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
    column. `features` is the width of a row, `dtype` the type of its stored numbers (a key of `FEATURE_TYPES`) and
    `shape` its shape as an image (height, width, channels), if it is one. Without classes each row has `targets`
    numbers instead. `splits` has the values of the split column, if there is one, in ascending order, with the number
    of rows of each.
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

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Build from JSON that has the fields among others; missing fields have their defaults."""
        known = {each.name: document[each.name] for each in fields(cls) if each.name in document}
        shape = known.get("shape")
        return cls(**known | {"classes": tuple(known["classes"]), "shape": None if shape is None else tuple(shape)})


def schema_of(info: DatasetInfo) -> pa.Schema:
    """Schema of a dataset's Arrow file."""
    number = FEATURE_TYPES[info.dtype]
    row = pa.fixed_shape_tensor(number, info.shape) if info.shape else pa.list_(number, info.features)
    outputs = {TARGET: pa.list_(pa.float32(), info.targets)} if info.targets else {LABEL: pa.int64()}
    return pa.schema({FEATURES: row, **outputs} | ({SPLIT: pa.uint8()} if info.splits else {}))


def open_dataset(info: DatasetInfo) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map a dataset into memory, read-only and without a copy.

    Returns the features (rows, features) in the dataset's dtype, and the labels (rows,) as int64 or, without classes,
    the targets (rows, targets) as float32. Raises `DatasetError` if the file is missing or is not the registered one.
    """
    batch = _open(info)
    features = _numbers(batch.column(FEATURES)).reshape(-1, info.features)
    if info.targets:
        return features, _numbers(batch.column(TARGET)).reshape(-1, info.targets)
    return features, _numbers(batch.column(LABEL))


def open_splits(info: DatasetInfo) -> NDArray[np.uint8]:
    """Map the split column of a dataset into memory: positions (rows,) in `info.splits`. Raises like `open_dataset`."""
    return _numbers(_open(info).column(SPLIT))


def _open(info: DatasetInfo) -> pa.RecordBatch:
    try:
        batch = pa.ipc.open_file(pa.memory_map(info.path)).get_batch(0)
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
    return batch


def _numbers(column: pa.Array) -> NDArray[Any]:
    """All numbers of a column; lists and tensors are flattened."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    values = storage.values if pa.types.is_fixed_size_list(storage.type) else storage
    if values.null_count:
        raise DatasetError("the dataset's file has nulls, which it had not when registered; register the dataset again")
    return values_of(values)
