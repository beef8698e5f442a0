from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.arrays import ALIGNMENT
from workers.exchange.shared_memory import SharedMemory
from workers.exchange.sharing import Sharing

Opened = np.ndarray[Any, np.dtype[np.bool_]]


def patterns(most: int = 7) -> st.SearchStrategy[Opened]:
    """Which worker (row) has opened whose memory (column): any pattern in which each has opened its own."""
    return st.integers(1, most).flatmap(
        lambda workers: st.lists(st.booleans(), min_size=workers**2, max_size=workers**2).map(
            lambda drawn: np.array(drawn, np.bool_).reshape(workers, workers) | np.eye(workers, dtype=np.bool_)
        )
    )


@given(patterns())
def test_a_home_is_its_own_home_and_readable_by_its_workers(opened: Opened) -> None:
    sharing = Sharing(opened, {})
    for rank in range(len(opened)):
        home = sharing.home(rank)
        assert sharing.home(home) == home <= rank
        assert sharing.reads(rank, home)
        # A worker is its own home only if it has opened no home of a lower rank.
        if home == rank:
            assert not any(sharing.home(host) == host and opened[rank, host] for host in range(rank))


def test_all_on_one_machine_have_one_home() -> None:
    sharing = Sharing(np.ones((4, 4), np.bool_), {})
    assert [sharing.home(rank) for rank in range(4)] == [0, 0, 0, 0]


def test_two_machines_have_two_homes() -> None:
    machine = np.arange(5) % 2
    sharing = Sharing(machine[:, None] == machine, {})
    assert [sharing.home(rank) for rank in range(5)] == [0, 1, 0, 1, 0]


def test_only_what_others_read_is_in_shared_memory() -> None:
    memory = SharedMemory.create()
    assert memory is not None
    alone, open_to_another = np.eye(2, dtype=np.bool_), np.array([[True, False], [True, True]])
    for opened, same in [(alone, False), (open_to_another, True)]:
        sharing = Sharing(opened, {0: memory})
        ((first,), (second,)) = (sharing.arrays(0, [((100,), np.float32)]) for _ in range(2))
        assert not first.any()
        first[:] = 1
        assert second.all() == same
        assert first.ctypes.data % ALIGNMENT == 0
        first[:] = 0
    memory.close()
