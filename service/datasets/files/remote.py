"""Files in object stores (S3 and GCS)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from service.datasets.files.unpacking import plain_name
from service.errors import InvalidError
from workers.data.dataset import DatasetError
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK_BYTES = 4 * 1024 * 1024
SECONDS = 30


def is_remote(path: str) -> bool:
    """Whether a path is an address with a scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def fetch(field: str, uri: str, allowed: Sequence[str], directory: Path, max_bytes: int) -> list[Path]:
    """Copy an object, or all objects below a prefix, into `directory`, which is created.

    Raises InvalidError for an address that is not allowed, and DatasetError if there is nothing or too much.
    """
    scheme, _, path = uri.partition("://")
    # Any other address (with a user, a query or an escape) could denote another place than the allowed one.
    plain = re.fullmatch(r"[^/?#@%\s:]+(/[^/?#%\s]+)*/?", path) and not {".", ".."} & set(path.split("/"))
    if not plain or not any(_is_below(uri, prefix) for prefix in allowed):
        known = f"those that begin with {', '.join(allowed)}" if allowed else "none (its setting allowed_uris)"
        raise InvalidError(
            FieldProblem(field, f"{uri!r} is not an address that this service may read; it may read {known}")
        )
    directory.mkdir()
    try:
        return list(_copy(_filesystem(scheme), uri, path.rstrip("/"), directory, max_bytes))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # an error of the local disk
        raise DatasetError(f"{uri} cannot be read: {error}") from error


def _is_below(uri: str, prefix: str) -> bool:
    base = prefix.rstrip("/")
    return uri.rstrip("/") == base or uri.startswith(f"{base}/")


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


def _copy(store: pafs.FileSystem, uri: str, path: str, directory: Path, max_bytes: int) -> Iterator[Path]:
    info = store.get_file_info(path)
    found = [info]
    if info.type == pafs.FileType.Directory:
        found = sorted(store.get_file_info(pafs.FileSelector(path, recursive=True)), key=lambda entry: entry.path)
    files = [entry for entry in found if entry.type == pafs.FileType.File]
    if not files:
        raise DatasetError(f"there is nothing at {uri}")
    size = sum(entry.size for entry in files)
    if size > max_bytes:
        raise DatasetError(f"{uri} has {size} bytes; the limit for one dataset is {max_bytes}")
    for index, entry in enumerate(files):
        if name := plain_name(entry.base_name):
            target = directory / f"{index:06}" / name
            target.parent.mkdir()
            with store.open_input_stream(entry.path) as source, target.open("xb") as file:
                while chunk := source.read(CHUNK_BYTES):
                    file.write(chunk)
            yield target
