"""Which files and directories other accounts of the machine can change or replace."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = 0
MOST_LINKS = 40  # on the way to a path, as in Linux
SQLITE_FILES = ("", "-journal", "-wal", "-shm")  # endings of the names of a database's files
ELSEWHERE = "choose another --data-dir"


class ForeignFileError(RuntimeError):
    """Another account of the machine can change a file of the service; the message says which and what to do."""


def check_directory(path: Path) -> None:
    """Check that only this account, its groups and root can change a directory's entries, and where its path leads.

    Of a path that does not exist, the directories that exist are checked. Links on the way are followed and checked
    like directories. Raises ForeignFileError; OSError if there are too many links.
    """
    for place in _way(path.absolute()):
        status = place.lstat()
        _check_owner(place, status)
        # Others may create entries in a sticky directory, but not replace those of this account.
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX:
            _check_mode(place, status)
    if path.is_dir():
        _check_mode(path, path.stat())


def check_entry(path: Path, *, writable: bool = False, link: bool = False) -> None:
    """Check that a file or directory belongs to this account or root, and is no link unless it may be a `link`.

    Unless it may be `writable`, only this account, its groups and root may write to it. What does not exist is right.
    Raises ForeignFileError.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    is_link = stat.S_ISLNK(status.st_mode)
    if is_link and not link:
        raise ForeignFileError(f"{path} is a link, which gradfleet does not follow: remove it, or {ELSEWHERE}")
    _check_owner(path, status)
    if not (is_link or writable):  # a link's own mode means nothing
        _check_mode(path, status)


def check_sqlite(path: Path) -> None:
    """Check the files of an SQLite database, which need not exist, and their directory. Raises ForeignFileError."""
    check_directory(path.parent)
    for ending in SQLITE_FILES:
        check_entry(path.with_name(path.name + ending))


def _way(path: Path) -> Iterator[Path]:
    """Everything that exists on the way to an absolute path: directories, links, and what these refer to."""
    place, rest, links = Path(path.anchor), [*reversed(path.parts[1:])], 0
    yield place
    while rest:
        place /= rest.pop()
        if not os.path.lexists(place):
            return
        yield place
        if place.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = place.readlink()
            place = Path(target.anchor) if target.is_absolute() else place.parent
            rest.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        elif place.name == "..":
            place = place.parent.parent


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in {os.geteuid(), ROOT}:
        raise ForeignFileError(
            f"{path} belongs to the account {_name(status.st_uid)}, which could change the data of this service: "
            f"{ELSEWHERE}"
        )


def _check_mode(path: Path, status: os.stat_result) -> None:
    if status.st_mode & stat.S_IWOTH:
        raise ForeignFileError(f"every account of this machine may write to {path}: `chmod o-w {path}`, or {ELSEWHERE}")
    # Kubernetes gives volumes to a group of the service's account.
    if status.st_mode & stat.S_IWGRP and status.st_gid not in {ROOT, os.getegid(), *os.getgroups()}:
        raise ForeignFileError(
            f"the group {status.st_gid}, of which this account is no member, may write to {path}: `chmod g-w {path}`, "
            f"or {ELSEWHERE}"
        )


def _name(account: int) -> str:
    try:
        return pwd.getpwuid(account).pw_name
    except KeyError:
        return str(account)
