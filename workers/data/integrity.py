"""Whether a dataset's file still holds the content that was registered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo

# Nanoseconds. File systems note times in steps of some milliseconds: a change that soon after a check could have the
# same times.
TIME_STEP = 50_000_000


def digest_of(info: DatasetInfo, columns: Sequence[NDArray[Any]]) -> str:
    """SHA-256 of the content, independent of the source format: the numbers of each column and the classes."""
    # Properties that a dataset does not have are not part of its digest.
    kind = (info.dtype, info.shape, info.targets)
    head = repr((info.rows, info.features)) + ("" if kind == ("float32", None, 0) else repr(kind))
    if info.splits:
        head += repr(list(info.splits))
    if not info.is_plain:
        head += repr([(column.name, column.kind, column.categories) for column in info.columns])
    digest = hashlib.sha256(head.encode())
    for column in columns:
        digest.update(column.data.cast("B"))
    digest.update("\0".join(info.classes).encode())
    return digest.hexdigest()


def was_checked(info: DatasetInfo, status: os.stat_result) -> bool:
    """Whether this file was found whole and has not changed since: it has the same number, size and times."""
    note = _note_of(info)
    try:
        later = note.stat().st_mtime_ns - max(status.st_mtime_ns, status.st_ctime_ns)
        return later > TIME_STEP and json.loads(note.read_bytes()) == _identity(status)
    except (OSError, ValueError):
        return False


def note_check(info: DatasetInfo, status: os.stat_result) -> None:
    """Note next to a file that it was found whole, so that the next job does not read it once more."""
    note = _note_of(info)
    partial = note.with_name(f".{note.name}.{os.getpid()}.partial")
    with suppress(OSError):  # a read-only or full disk: it is checked again
        try:
            partial.write_text(json.dumps(_identity(status)))
            partial.replace(note)
        finally:
            partial.unlink(missing_ok=True)


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _note_of(info: DatasetInfo) -> Path:
    return Path(info.path).with_suffix(".checked")
