"""Threads of shards inside one worker. NumPy lets go of the interpreter's lock in its kernels, so they run at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workers.tree import split_evenly

T = TypeVar("T")


class Lanes:
    """A fixed number of threads, each with its contiguous part of the worker's shards."""

    def __init__(self, owned: range, threads: int) -> None:
        parts = split_evenly(len(owned), min(threads, len(owned)))
        self.shards = [owned[part.start : part.stop] for part in parts]
        self._pool = ThreadPoolExecutor(len(parts)) if len(parts) > 1 else None

    def run(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        """Do the work on every lane's item, and come back when all are done; a lane's exception is raised here."""
        if self._pool is None:
            for item in items:
                work(item)
        else:
            for future in [self._pool.submit(work, item) for item in items]:
                future.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
