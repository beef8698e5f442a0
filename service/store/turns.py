"""Turns of the threads that write to one SQLite database.

SQLite has one writer at a time. A writer that finds the lock taken asks for it again every now and then, so one that
comes later can get it first, and one of many may never get it.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

from sqlalchemy.exc import TimeoutError as NoTurnError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turns:
    """Gives each writer of this process its turn, in the order in which they ask."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._writers: list[object] = []  # the first one has the turn

    @contextmanager
    def take(self, timeout: float, *, first: bool = False) -> Iterator[None]:
        """Wait for a turn, which lasts until the block ends; with `first`, it is the next one.

        Raises sqlalchemy's TimeoutError after `timeout` seconds.
        """
        writer = object()
        with self._changed:
            self._writers.insert(1 if first else len(self._writers), writer)
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: self._writers[0] is writer, timeout):
                    raise NoTurnError(f"other writers of this process have had their turns for {timeout:g} s")
            yield
        finally:
            with self._changed:
                self._writers.remove(writer)
                self._changed.notify_all()
