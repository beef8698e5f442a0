"""The data directory of a service: for its own account only, and checked before anything starts."""

from __future__ import annotations

import fcntl
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from service.disk import full_disk_of
from service.ownership import check_directory, check_entry, check_sqlite
from service.stack.control_plane import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASES = ("gradfleet.db", "mlflow/mlflow.db")
LINK = "ray"  # made by `ray_cluster`, to its temporary directory
UPLOADS = "uploads"  # other accounts may put files there: they then choose what is read
CHECKED_BYTES = 256 * 1024**2  # size up to which every page of a database is checked, which takes less than a second


@contextmanager
def data_directory(path: Path) -> Iterator[Path]:
    """Create the data directory if needed and lock it for this process; yields its absolute path.

    The operating system releases the lock when the process ends. Raises `StartError` if another process has it, its
    disk is full, or a database in it is damaged; ForeignFileError if another account can change it; OSError if it
    cannot be written.
    """
    path = path.absolute()
    create_data_directory(path)
    with (path / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"the data directory {path} is in use by another gradfleet; stop it, or choose another --data-dir"
            ) from None
        if full := full_disk_of(path):
            raise StartError(f"the disk of {full} is full: make space, or choose another --data-dir")
        for name in DATABASES:
            _check_database(path / name)
        yield path


def create_data_directory(path: Path) -> None:
    """Create a data directory if needed. Raises ForeignFileError if another account can change it."""
    check_data_directory(path)
    path.mkdir(parents=True, exist_ok=True)
    check_data_directory(path)  # in a directory such as /tmp, another account may have been faster


def check_data_directory(path: Path) -> None:
    """Check the way to a data directory, which need not exist, and each entry of it.

    Raises ForeignFileError if another account than this one and root can change or replace one of them.
    """
    check_directory(path)
    if path.is_dir():
        for entry in path.iterdir():
            check_entry(entry, writable=entry.name == UPLOADS, link=entry.name == LINK)


def _check_database(path: Path) -> None:
    """Raise `StartError` if an SQLite database is damaged."""
    check_sqlite(path)
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute("SELECT * FROM sqlite_master").fetchall()
            if path.stat().st_size > CHECKED_BYTES:
                return
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # no permission or a full disk, for example
                raise StartError(f"the database {path} cannot be used: {error}") from error
            found = str(error)
    if found != "ok":
        raise StartError(
            f"the database {path} is damaged ({' '.join(found.split())}): restore it from a backup, or move it away to "
            "start with an empty one"
        )
