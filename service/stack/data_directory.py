"""The data directory of an embedded stack: private, locked by one process, and checked before anything starts."""

from __future__ import annotations

import fcntl
import sqlite3
import stat
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from service.disk import full_disk_of
from service.stack.control_plane import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASES = ("gradfleet.db", "mlflow/mlflow.db")
CHECKED_BYTES = 256 * 1024**2  # size up to which every page of a database is checked, which takes less than a second


@contextmanager
def data_directory(path: Path) -> Iterator[Path]:
    """Create the data directory if needed and lock it for this process; yields its absolute path.

    The operating system releases the lock when the process ends. Raises `StartError` if another process has it, every
    account may write to it, its disk is full, or a database in it is damaged; OSError if it cannot be written.
    """
    path = path.absolute()
    path.mkdir(parents=True, exist_ok=True)
    if path.stat().st_mode & stat.S_IWOTH:
        raise StartError(
            f"every account of this machine may write to the data directory {path}: "
            f"`chmod o-w {path}`, or choose another --data-dir"
        )
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


def _check_database(path: Path) -> None:
    """Raise `StartError` if an SQLite database is damaged."""
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
