from __future__ import annotations

import threading

import numpy as np
import pytest

from workers.machine.threads import Threads

LONG = 30.0  # seconds


@pytest.fixture
def threads() -> Threads:
    threads = Threads(3)
    yield threads
    threads.close()


def test_items_run_at_the_same_time(threads: Threads) -> None:
    together = threading.Barrier(3, timeout=LONG)
    found = []

    def work(item: int) -> None:
        together.wait()
        found.append((item, threading.get_ident()))

    threads.run(work, [1, 2, 3])
    assert sorted(item for item, _ in found) == [1, 2, 3]
    assert len({thread for _, thread in found}) == 3
    # The caller's thread is one of them.
    assert threading.get_ident() in {thread for _, thread in found}


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_is_raised_when_all_items_have_ended(threads: Threads, failing: int) -> None:
    """No thread still writes to buffers that the caller may use again."""
    failed, ended = threading.Event(), []

    def work(item: int) -> None:
        if item == failing:
            failed.set()
            raise ArithmeticError(f"item {item}")
        assert failed.wait(LONG)
        ended.append(item)

    with pytest.raises(ArithmeticError, match=f"item {failing}"):
        threads.run(work, [0, 1, 2])
    assert sorted([*ended, failing]) == [0, 1, 2]


@pytest.mark.parametrize("over", ["ignore", "raise"])
def test_threads_treat_overflows_as_the_caller_does(threads: Threads, over: str) -> None:
    large = np.full(3, 3e38, np.float32)

    def work(item: int) -> None:
        if item:  # on another thread
            np.multiply(large, large)

    with np.errstate(over=over):
        if over == "raise":
            with pytest.raises(FloatingPointError):
                threads.run(work, [0, 1, 2])
        else:
            threads.run(work, [0, 1, 2])
