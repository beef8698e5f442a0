"""Atomic writing of a dataset's Arrow file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from service.datasets.files.workspace import place
from workers.data.dataset import DatasetError, DatasetInfo, check_dataset, schema_of
from workers.data.integrity import digest_of
from workers.machine.files import sync_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_dataset(
    info: DatasetInfo,
    features: NDArray[Any],
    labels: NDArray[Any],
    splits: NDArray[Any] | None,
    workspace: Path,
    directory: Path,
) -> DatasetInfo:
    """Write flat columns as `directory/<digest>.arrow`; returns `info` with path and digest.

    The columns are the features, the labels or targets, and the positions in `info.splits`, if there are splits. The
    file is created in `workspace`, on the same disk. An existing file with this digest is kept, unless it is damaged.
    """
    columns = (features, labels) if splits is None else (features, labels, splits)
    digest = digest_of(info, columns)
    path = directory / f"{digest}.arrow"
    info = replace(info, path=str(path), digest=digest)
    if not _is_whole(info):
        schema = schema_of(info)
        arrays = [_column(field.type, values) for field, values in zip(schema, columns, strict=True)]
        with (workspace / path.name).open("xb") as file:
            # One batch, so that a reader gets each column as one array without a copy.
            # Without the option Arrow cannot write columns of more than 2 ** 31 numbers, such as 4 GB of bytes.
            with pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
                writer.write_batch(pa.record_batch(arrays, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        place(Path(file.name), directory)
        sync_directory(directory)
    return info


def _is_whole(info: DatasetInfo) -> bool:
    try:
        check_dataset(info, again=True)
    except DatasetError:
        return False
    return True


def _column(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """A column over mapped memory, without a copy."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_fixed_size_list(storage):
        lists = pa.FixedSizeListArray.from_arrays(_flat(storage.value_type, values), storage.list_size)
        return lists if storage is kind else pa.ExtensionArray.from_storage(kind, lists)
    return _flat(storage, values)


def _flat(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
