"""A directory for what is not yet a dataset, which is gone afterwards, whatever happens."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = ".preparing-"
PLACED = "placed"


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory in `directory`, so that a file in it can be renamed to one there; removed in the end.

    It is locked for as long as this process lives, by which `remove_leftovers` of another process knows it; and so is,
    together with others at work, `directory`, in which a file may be found that is then recorded.
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
    """Rename a file of a workspace to one in its directory.

    A note of it stays in the workspace for as long as something may stop the dataset from being recorded.
    """
    (file.parent / PLACED).write_text(file.name)
    file.replace(directory / file.name)


def remove_leftovers(directory: Path, is_recorded: Callable[[Path], bool]) -> None:
    """Remove the workspaces of processes that were killed, and what they have placed and nobody has recorded."""
    for path in directory.glob(f"{PREFIX}*"):
        try:
            with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if (path / PLACED).exists():
                    # Somebody at work may have found the file there, and be about to record it.
                    with _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        _remove_placed(directory / (path / PLACED).read_text(), is_recorded)
                        _remove(path)
                else:
                    _remove(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # somebody is at work there, or was until now


def _remove_placed(file: Path, is_recorded: Callable[[Path], bool]) -> None:
    # The process may have been killed before the note's content was on the disk.
    if file.is_file() and not is_recorded(file):
        file.unlink()


def _remove(path: Path, *, note: bool = True) -> None:
    """Remove a workspace, or, without `note`, what is beside its note."""
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
    """Hold a lock on a directory; BlockingIOError when another has it, and it is not to be waited for."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
