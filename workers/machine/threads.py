"""Threads inside one worker. NumPy releases the interpreter's lock in its kernels, so threads run in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A pool of `count` threads, of which the caller's thread is one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1) if count > 1 else None

    def run(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        """Do the work on all items, at most `count`, in parallel, and wait for it. Raises what the work raises."""
        if self._pool is None or len(items) < 2:
            for item in items:
                work(item)
            return
        # NumPy's handling of overflows belongs to the context, which a thread does not inherit.
        futures = [self._pool.submit(copy_context().run, work, item) for item in items[1:]]
        try:
            work(items[0])
        finally:
            # No buffer is in use when this returns.
            wait(futures)
        for future in futures:
            future.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
