"""Files in object stores (S3 and GCS)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from service.datasets.files.places import MOST_FILES
from service.datasets.files.unpacking import plain_name
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

CHUNK_BYTES = 4 * 1024 * 1024
SECONDS = 30


def fetch(uri: str, directory: Path, max_bytes: int) -> str:
    """Copy an object, or all objects below a prefix, into `directory`, which is created.

    Returns the path of the object, or of the folder of all objects, relative to `directory`. Raises DatasetError if
    there is nothing or too much.
    """
    scheme, _, path = uri.partition("://")
    directory.mkdir()
    try:
        copied = _copy(_filesystem(scheme), uri, path.rstrip("/"), directory, max_bytes)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the local disk
        raise DatasetError(f"{uri} cannot be read: {error}") from error
    return copied[0] if len(copied) == 1 else "."


def _filesystem(scheme: str) -> pafs.FileSystem:
    if scheme == "s3":
        # The usual variable for stores that are compatible with S3.
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
        return pafs.S3FileSystem(
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or None,
            connect_timeout=SECONDS,
            request_timeout=SECONDS,
        )
    if scheme == "gs":
        return pafs.GcsFileSystem()
    raise DatasetError(f"{scheme}:// is not supported; s3:// and gs:// are")


def _copy(store: pafs.FileSystem, uri: str, path: str, directory: Path, max_bytes: int) -> list[str]:
    info = store.get_file_info(path)
    found = [info]
    if info.type == pafs.FileType.Directory:
        found = sorted(store.get_file_info(pafs.FileSelector(path, recursive=True)), key=lambda entry: entry.path)
    names = [plain_name(entry.base_name) if entry.type == pafs.FileType.File else None for entry in found]
    files = [(entry, name) for entry, name in zip(found, names, strict=True) if name]
    if not files:
        raise DatasetError(f"there is nothing at {uri}")
    if len(files) > MOST_FILES:
        raise DatasetError(f"{uri} has more than {MOST_FILES} files")
    size = sum(entry.size for entry, _ in files)
    if size > max_bytes:
        raise DatasetError(f"{uri} has {size} bytes; the limit for one dataset is {max_bytes}")
    copied = [f"{index:06}/{name}" for index, (_, name) in enumerate(files)]
    left = max_bytes
    for (entry, _), target in zip(files, copied, strict=True):
        (directory / target).parent.mkdir()
        with store.open_input_stream(entry.path) as source, (directory / target).open("xb") as file:
            while chunk := source.read(CHUNK_BYTES):
                left -= len(chunk)  # an object may have grown since it was listed
                if left < 0:
                    raise DatasetError(f"{uri} has more than {max_bytes} bytes, the limit for one dataset")
                file.write(chunk)
    return copied
