"""Opening of users' files without following links."""

from __future__ import annotations

import mmap
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from workers.data.dataset import DatasetError
from workers.machine.error_text import text_of

if TYPE_CHECKING:
    from pathlib import Path

NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# Where the system has it, a flag that needs only the right to pass through a directory.
PASS = NO_LINK | os.O_DIRECTORY | getattr(os, "O_PATH", 0)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises DatasetError for any other file, and for a path with a link in it.

    `path` is absolute and was checked after its links were resolved. No link is followed here, so a file or folder that
    was replaced by a link since then cannot lead elsewhere.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = _open_below_root(path, NO_LINK | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.name} cannot be read: {text_of(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DatasetError(f"{path.name} is not a file with content")
    return os.fdopen(descriptor, "rb")


def file_bytes(path: Path) -> int:
    """Size of a file in bytes. Raises DatasetError like `open_file`."""
    with open_file(path) as file:
        return os.fstat(file.fileno()).st_size


def open_directory(path: Path) -> int:
    """Descriptor of a directory, opened like a file. Raises OSError."""
    return _open_below_root(path, NO_LINK | os.O_DIRECTORY)


def open_mapped(path: Path) -> pa.NativeFile:
    """A file that is mapped into memory. Raises DatasetError like `open_file`."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Mapping an empty file is an error.
        content = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b""
    return pa.BufferReader(pa.py_buffer(content))


def _open_below_root(path: Path, flags: int) -> int:
    """Open each directory of the path relative to the one before it.

    This is what Linux's openat2 does with RESOLVE_NO_SYMLINKS; opening each part works on every system.
    """
    *folders, name = path.parts[1:] or ["."]
    descriptor = os.open(path.anchor, PASS)
    for part, kind in [*((folder, PASS) for folder in folders), (name, flags)]:
        above = descriptor
        try:
            descriptor = os.open(part, kind, dir_fd=above)
        finally:
            os.close(above)
    return descriptor
