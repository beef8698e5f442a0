"""Temporary directories for the registration of datasets, removed afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PREFIX, DISCARDED = ".preparing-", ".discarded-"
PLACED = "placed"


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory in `directory`, so that its files can be renamed into that; removed in the end.

    It is locked while this process lives, so that `remove_leftovers` of another process ignores it. `directory` has a
    shared lock, since a registration may find an existing file there and then record it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory, fcntl.LOCK_SH):
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=directory))
        try:
            with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield path
        except BaseException:
            _remove(path, note=not (path / PLACED).exists())
            raise
        _remove(path)


def place(file: Path, directory: Path) -> None:
    """Rename a file of a workspace into its directory.

    A note of it remains in the workspace until the dataset is recorded.
    """
    (file.parent / PLACED).write_text(file.name)
    file.replace(directory / file.name)


@contextmanager
def discarding(directory: Path) -> Iterator[Callable[[Sequence[str]], object]]:
    """Yield a function that notes the names of files that are to be removed, see `remove_discarded`.

    They are not removed before this has ended, and then only if no dataset has them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=DISCARDED, dir=directory))
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
        try:
            yield lambda names: (path / PLACED).write_text("\n".join(names))
        finally:
            if not (path / PLACED).exists():
                _remove(path)


def remove_discarded(directory: Path, is_recorded: Callable[[Path], bool]) -> None:
    """Remove files that were noted, unless a registration is running, which may have found one of them.

    They are then removed by the next call, or when a service starts.
    """
    for path in directory.glob(f"{DISCARDED}*"):
        if (path / PLACED).exists():  # otherwise nothing is noted yet
            _remove_left(path, directory, is_recorded)


def remove_leftovers(directory: Path, is_recorded: Callable[[Path], bool]) -> None:
    """Remove the workspaces of killed processes, and files that they placed but did not record, or discarded."""
    for path in [*directory.glob(f"{PREFIX}*"), *directory.glob(f"{DISCARDED}*")]:
        _remove_left(path, directory, is_recorded)


def _remove_left(path: Path, directory: Path, is_recorded: Callable[[Path], bool]) -> None:
    """Remove a workspace or note that no process has, with the files of its note that no dataset has."""
    try:
        with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if (path / PLACED).exists():
                # Another registration may have found the file, and be about to record it.
                with _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    for name in (path / PLACED).read_text().splitlines():
                        _remove_placed(directory / name, is_recorded)
                    _remove(path)
            else:
                _remove(path)
    except (BlockingIOError, FileNotFoundError):
        return  # the workspace is in use, or has just been removed


def _remove_placed(file: Path, is_recorded: Callable[[Path], bool]) -> None:
    # The process may have been killed before the note was written.
    if not is_recorded(file):
        for left in (file, file.with_suffix(".checked")):
            left.unlink(missing_ok=True)


def _remove(path: Path, *, note: bool = True) -> None:
    """Remove a workspace, or, without `note`, everything except its note."""
    if note:
        shutil.rmtree(path, ignore_errors=True)
        return
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != PLACED:
            entry.unlink()


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock on a directory. Raises BlockingIOError if it is taken and `operation` does not wait."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
