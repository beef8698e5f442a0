"""Timing of subjects that take turns within each round, so that all are measured under the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter


def seconds(call: Callable[[], None], repeats: int) -> float:
    """Return the mean seconds of a call."""
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return the order of a round: the caches favour one place in it, so each subject has every place in turn."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]
