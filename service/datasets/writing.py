"""The Arrow file of a dataset, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workers.dataset import DatasetInfo, schema_of
from workers.files import sync_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray


def digest_of(info: DatasetInfo, features: NDArray[Any], labels: NDArray[Any]) -> str:
    """SHA-256 of the content, whatever the format it came in: the numbers row by row, the labels, the classes."""
    kind = (info.dtype, info.shape, info.targets)
    head = repr((info.rows, info.features)) + ("" if kind == ("float32", None, 0) else repr(kind))
    digest = hashlib.sha256()
    for part in (head.encode(), features.data.cast("B"), labels.data.cast("B"), "\0".join(info.classes).encode()):
        digest.update(part)
    return digest.hexdigest()


def write_dataset(
    info: DatasetInfo, features: NDArray[Any], labels: NDArray[Any], workspace: Path, directory: Path
) -> DatasetInfo:
    """Write flat features and labels (or targets) as `directory/<digest>.arrow`; gives `info` with path and digest.

    The file is made in `workspace`, on the same disk. One that is there has this content and is left alone.
    """
    digest = digest_of(info, features, labels)
    path = directory / f"{digest}.arrow"
    if not path.exists():
        schema = schema_of(info)
        columns = [_column(field.type, values) for field, values in zip(schema, (features, labels), strict=True)]
        with (workspace / path.name).open("xb") as file:
            # One batch, so that a reader sees each column as one array without copying it.
            # Without the option Arrow writes no column of more than 2 ** 31 numbers, such as 4 GB of bytes.
            with pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
                writer.write_batch(pa.record_batch(columns, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        sync_directory(directory)
    return replace(info, path=str(path), digest=digest)


def _column(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """A column over mapped memory, nothing copied."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_fixed_size_list(storage):
        lists = pa.FixedSizeListArray.from_arrays(_flat(storage.value_type, values), storage.list_size)
        return lists if storage is kind else pa.ExtensionArray.from_storage(kind, lists)
    return _flat(storage, values)


def _flat(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
