"""Free space on the disks of a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MINIMUM_FREE = 16 * 1024**2  # bytes: below, databases and logs cannot be relied on


def full_disk_of(directory: Path) -> Path | None:
    """The first of a directory and the directories in it (which may be mounted) whose disk is full; None if none is.

    A disk is full if less than `MINIMUM_FREE` bytes are free for this account, or no file can be created.
    """
    for place in (directory, *sorted(path for path in directory.iterdir() if path.is_dir())):
        disk = os.statvfs(place)
        # Some file systems have no limit on the number of files and report 0 for all of them.
        if disk.f_bavail * disk.f_frsize < MINIMUM_FREE or (disk.f_files and not disk.f_favail):
            return place
    return None
