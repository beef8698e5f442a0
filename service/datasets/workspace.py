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
    from collections.abc import Iterator

PREFIX = ".preparing-"


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A new directory in `directory`, so that a file in it can be renamed to one there; removed in the end.

    It is locked for as long as this process lives, by which `remove_leftovers` of another process knows it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=directory))
    try:
        with _locked(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Remove the workspaces of processes that were killed."""
    for path in directory.glob(f"{PREFIX}*"):
        try:
            with _locked(path):
                shutil.rmtree(path, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # somebody is at work there, or was until now


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock; BlockingIOError when another has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
