"""Writers of one SQLite database have turns, and the lease goes first."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from service.store.database import is_unavailable
from service.store.turns import NoTurnError, Turns
from tests.service.fixtures.leases import take
from tests.service.fixtures.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@contextmanager
def waiting(turns: Turns, *writers: Callable[[], None]) -> Iterator[None]:
    """Writers that have asked for their turns, one after the other, and wait for the end of the block."""
    threads = []
    with turns.take(30):
        for writer in writers:
            before = len(turns._writers)
            threads.append(threading.Thread(target=writer))
            threads[-1].start()
            wait_until(lambda before=before: len(turns._writers) > before, "the writer asks for its turn")
        yield
    for thread in threads:
        thread.join()


def test_writers_have_their_turns_in_order() -> None:
    turns, order = Turns(), []

    def writer(name: str, *, first: bool = False) -> Callable[[], None]:
        def write() -> None:
            with turns.take(30, first=first):
                order.append(name)

        return write

    with waiting(turns, writer("a"), writer("b"), writer("c"), writer("urgent", first=True)):
        assert order == []
    assert order == ["urgent", "a", "b", "c"]


def test_a_turn_that_does_not_come_is_an_unavailable_database() -> None:
    turns = Turns()
    with turns.take(1):
        with pytest.raises(NoTurnError) as caught, turns.take(0.01):
            pytest.fail("two writers have a turn")
        assert is_unavailable(caught.value)
    with turns.take(0):
        pass  # neither the turn nor the place of the one that gave up is left


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns()
    with pytest.raises(KeyError), turns.take(1):
        raise KeyError
    with turns.take(0):
        pass


def test_the_lease_is_renewed_before_all_waiting_writers(database: Database) -> None:
    """Also when its connections are others."""
    term, order = take(database.beside()), []
    assert database._turns is not None

    def write() -> None:
        with database.writing():
            order.append("a request")

    def renew() -> None:
        term.renew()
        order.append("the lease")

    with waiting(database._turns, *[write] * 20, renew):
        pass
    # The writer after it may be faster to say so.
    assert "the lease" in order[:2]
    assert len(order) == 21
