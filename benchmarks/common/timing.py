"""Timing of subjects that take turns within each round, so that all are measured under the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, process_time, sleep

PAUSE = 0.002  # seconds
LONGEST = 1.0  # seconds


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


def wait_for_idle_threads() -> None:
    """Wait until no thread of this process computes.

    After a call, PyTorch's threads wait for the next one without giving their cores back, for 4 to 9 ms on two cores of
    an AMD EPYC. The turn of the next subject would have one core less.
    """
    deadline = perf_counter() + LONGEST
    used = 0.0
    while perf_counter() < deadline:
        before, used = used, process_time()
        if used - before < PAUSE / 10:
            return
        sleep(PAUSE)
