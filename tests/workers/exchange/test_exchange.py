from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.workers.fixtures.exchanges import ATTEMPT, KEY, LONG, SHORT, connect, group
from workers.exchange.control import Command
from workers.exchange.link import PIECE
from workers.exchange.messages import Address, Exchange, Kind, Membership, PeerSilentError


def buffers() -> list[np.ndarray[Any, Any]]:
    return [np.zeros(3, np.float32), np.zeros((2, 2), np.float64)]


def test_frames_arrive_in_the_named_buffers() -> None:
    workers = 3
    with group(workers) as exchanges:
        inboxes = []
        for rank, exchange in enumerate(exchanges):
            inbox = {peer: buffers() for peer in range(workers) if peer != rank}
            exchange.receive_into(Kind.GRADIENTS, inbox)
            inboxes.append(inbox)

        def work(rank: int) -> None:
            for peer in inboxes[rank]:
                vector, table = np.full(3, 10 * rank + peer, np.float32), np.full((2, 2), rank + 0.5)
                exchanges[rank].send(Kind.GRADIENTS, 1, peer, [vector, table])
            exchanges[rank].receive(Kind.GRADIENTS, 1)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(workers)))
        for rank, inbox in enumerate(inboxes):
            for peer, (vector, table) in inbox.items():
                np.testing.assert_array_equal(vector, np.full(3, 10 * peer + rank))
                np.testing.assert_array_equal(table, np.full((2, 2), peer + 0.5))


def test_frames_may_be_slices_and_empty() -> None:
    """A worker that owns no slice of a small model sends and receives frames of no bytes."""
    with group(2) as (here, there):
        vector, nothing, table = np.zeros(8, np.float32), np.zeros(0, np.float32), np.zeros((4, 3))
        here.receive_into(Kind.PARAMETERS, {1: [vector[2:5], nothing, table[1:3]]})
        sent = np.arange(8, dtype=np.float32)
        there.send(Kind.PARAMETERS, 1, 0, [sent[2:5], np.zeros(0, np.float32), np.ones((2, 3))])
        here.receive(Kind.PARAMETERS, 1)
        there.receive_into(Kind.PARAMETERS, {0: [nothing]})
        here.send(Kind.PARAMETERS, 1, 1, [nothing])
        there.receive(Kind.PARAMETERS, 1)
    np.testing.assert_array_equal(vector, [0, 0, 2, 3, 4, 0, 0, 0])
    np.testing.assert_array_equal(table.sum(axis=1), [0, 3, 3, 0])


def test_a_peer_may_be_ahead() -> None:
    with group(2) as (here, there):
        gradients, parameters = np.zeros(1, np.float32), np.zeros(1, np.float32)
        here.receive_into(Kind.GRADIENTS, {1: [gradients]})
        here.receive_into(Kind.PARAMETERS, {1: [parameters]})
        there.send_to_all(Kind.PARAMETERS, 1, [np.full(1, 2, np.float32)])
        there.send_to_all(Kind.GRADIENTS, 1, [np.full(1, 1, np.float32)])
        here.receive(Kind.GRADIENTS, 1)
        assert (gradients[0], parameters[0]) == (1, 2)
        here.receive(Kind.PARAMETERS, 1)


@pytest.mark.parametrize("one_machine", [True, False])
def test_a_message_may_have_no_frames(one_machine: bool) -> None:
    exchanges = [Exchange(Membership(rank, 2, ATTEMPT, KEY), "127.0.0.1", LONG) for rank in range(2)]
    here, there = exchanges
    addresses = [each.address if one_machine else replace(each.address, memory=None) for each in exchanges]
    connect(exchanges, [addresses] * 2)
    try:
        here.receive_into(Kind.PARAMETERS, {1: []})
        there.send_to_all(Kind.PARAMETERS, 1, [])
        here.receive(Kind.PARAMETERS, 1)
        # Messages with and without frames stay in order, also where they use different channels.
        inbox = np.zeros(1, np.float32)
        here.receive_into(Kind.STATE, {1: [inbox]})
        for step in (2, 3):
            there.send_to_all(Kind.PARAMETERS, step, [])
            there.send_to_all(Kind.STATE, step, [np.full(1, step, np.float32)])
            here.receive(Kind.STATE, step)
            here.receive(Kind.PARAMETERS, step)
            assert inbox == step
        assert not here.refused
    finally:
        for exchange in exchanges:
            exchange.close()


def test_all_workers_agree_on_which_memory_is_shared() -> None:
    """If a worker could not open the memory of a peer, as on another machine, it is not counted as a reader."""
    workers = 4
    hidden = {(0, 1), (2, 0), (2, 3), (3, 2)}
    exchanges = [Exchange(Membership(rank, workers, ATTEMPT, KEY), "127.0.0.1", LONG) for rank in range(workers)]
    seen = [
        [
            replace(each.address, memory=None) if (rank, owner) in hidden else each.address
            for owner, each in enumerate(exchanges)
        ]
        for rank in range(workers)
    ]
    connect(exchanges, seen)
    for exchange in exchanges:
        sharing = exchange.meet()
        unread = {(reader, owner) for reader in range(4) for owner in range(4) if not sharing.reads(reader, owner)}
        assert unread == hidden
        assert [sharing.home(rank) for rank in range(4)] == [0, 0, 2, 0]
    for exchange in exchanges:
        exchange.close()


def test_a_silent_peer_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Exchange.__module__}.time", SimpleNamespace(monotonic=lambda: 0.0))
    with group(4, timeout=SHORT) as (here, one, _, three):
        waits, poll = [], here._poller.poll
        monkeypatch.setattr(here, "_poller", SimpleNamespace(poll=lambda wait: waits.append(wait) or poll(wait)))
        here.receive_into(Kind.GRADIENTS, {rank: [np.zeros(1, np.float32)] for rank in (1, 2, 3)})
        for peer in (one, three):
            peer.send(Kind.GRADIENTS, 5, 0, [np.ones(1, np.float32)])
        with pytest.raises(PeerSilentError, match=r"worker 0 .*worker 2 for 0\.3 s .*gradients of step 5"):
            here.receive(Kind.GRADIENTS, 5)
    assert set(waits) == {SHORT * 1000}, "the wait is in milliseconds"


def test_the_leaders_command_takes_effect_at_its_step() -> None:
    """The leader's next message, with a command, may arrive while a peer still waits for a slow worker."""
    with group(3) as (leader, here, slow):
        here.receive_into(Kind.GRADIENTS, {rank: [np.zeros(1, np.float32)] for rank in (0, 2)})
        commands = {1: Command.NONE, 2: Command.CHECKPOINT, 3: Command.STOP | Command.CHECKPOINT}
        for step, command in commands.items():
            leader.send(Kind.GRADIENTS, step, 1, [np.ones(1, np.float32)], note=command)
        for step, command in commands.items():
            slow.send(Kind.GRADIENTS, step, 1, [np.ones(1, np.float32)])
            assert here.receive(Kind.GRADIENTS, step) == command


def test_only_the_leaders_commands_take_effect() -> None:
    with group(3) as (leader, here, other):
        here.receive_into(Kind.GRADIENTS, {rank: [np.zeros(1, np.float32)] for rank in (0, 2)})
        leader.send(Kind.GRADIENTS, 1, 1, [np.ones(1, np.float32)], note=Command.CHECKPOINT)
        other.send(Kind.GRADIENTS, 1, 1, [np.ones(1, np.float32)], note=Command.STOP)
        assert here.receive(Kind.GRADIENTS, 1) == Command.CHECKPOINT


@pytest.mark.parametrize("size", [PIECE // 4 - 1, PIECE // 4, PIECE // 4 + 1, 3 * PIECE // 4 + 7, 5_000_000])
def test_a_buffer_of_any_length_arrives(size: int) -> None:
    """Both workers send at once more than the connection holds."""
    inboxes = [np.zeros(size, np.float32) for _ in range(2)]
    sent = [np.arange(rank, size + rank, dtype=np.float32) for rank in range(2)]
    with group(2) as exchanges:

        def work(rank: int) -> None:
            exchange, last = exchanges[rank], np.zeros(1, np.float32)
            exchange.receive_into(Kind.STATE, {1 - rank: [inboxes[rank], last]})
            exchange.send_to_all(Kind.STATE, 1, [sent[rank], np.ones(1, np.float32)])
            exchange.receive(Kind.STATE, 1)
            assert last == 1

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(2)))
        assert not any(exchange.refused for exchange in exchanges)
    assert [inbox.tobytes() for inbox in inboxes] == [vector.tobytes() for vector in reversed(sent)]


def test_what_was_sent_may_change_after_the_next_receive() -> None:
    """The receiver begins to read long after the sender has received its message."""
    size = 5_000_000
    sent, inbox = np.ones(size, np.float32), np.zeros(size, np.float32)
    with group(2) as (here, there):
        here.receive_into(Kind.STATE, {1: [inbox]})
        there.receive_into(Kind.SQUARES, {0: [np.zeros(1, np.float32)]})
        here.send_to_all(Kind.SQUARES, 1, [np.ones(1, np.float32)])

        def send_and_change() -> None:
            there.send_to_all(Kind.STATE, 1, [sent])
            there.receive(Kind.SQUARES, 1)
            sent.fill(2)

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_and_change)
            here.receive(Kind.STATE, 1)
            sending.result()
    assert (inbox == 1).all()


def test_a_peer_that_takes_nothing_is_named() -> None:
    with group(2, timeout=SHORT) as (here, there):
        here.receive_into(Kind.SQUARES, {1: [np.zeros(1, np.float32)]})
        there.send_to_all(Kind.SQUARES, 1, [np.ones(1, np.float32)])
        here.send_to_all(Kind.STATE, 1, [np.ones(5_000_000, np.float32)])
        with pytest.raises(PeerSilentError, match="worker 1"):
            here.receive(Kind.SQUARES, 1)


def test_a_message_that_is_not_expected_disconnects_its_sender() -> None:
    with group(2, timeout=SHORT) as (here, there):
        here.receive_into(Kind.STATE, {1: [np.zeros(2, np.float32)]})
        there.send_to_all(Kind.STATE, 1, [np.ones(1, np.float32)])
        with pytest.raises(PeerSilentError):
            here.receive(Kind.STATE, 1)
        assert here.refused == {"wrong size": 1}


def test_closing_sends_pending_messages() -> None:
    """The last message of a job is not lost if its sender closes before its receiver."""
    size = 8_000_000
    inbox = np.zeros(size, np.float32)
    with group(2) as (here, there):
        here.receive_into(Kind.STATE, {1: [inbox]})
        there.send_to_all(Kind.STATE, 1, [np.ones(size, np.float32)])
        closing = threading.Thread(target=there.close)
        closing.start()
        here.receive(Kind.STATE, 1)
        closing.join()
    assert inbox.all()


def test_closing_does_not_wait_forever_for_a_lost_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Exchange.__module__}.LINGER", 1000)
    with group(2, timeout=SHORT) as (here, _):
        here.send_to_all(Kind.GRADIENTS, 1, [np.ones(5_000_000, np.float32)])
        here.close()


def test_a_worker_that_does_not_come_is_named() -> None:
    with Exchange(Membership(1, 3, ATTEMPT, KEY), "127.0.0.1", SHORT) as exchange:
        gone = Address("127.0.0.1", 1, None, None)
        with pytest.raises(PeerSilentError, match=r"worker 1 could not connect to worker 0, 2 within 0\.3 s"):
            exchange.connect([gone, exchange.address, gone])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes; it must have 32"):
        Exchange(Membership(0, 1, 1, bytes(31)), "127.0.0.1", 1)


def test_closing_an_exchange_closes_its_descriptors() -> None:
    def descriptors() -> list[str]:
        return [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]

    def opened() -> int:
        return sum(name.startswith(("/memfd:gradfleet", "pipe:")) for name in descriptors())

    before = opened()
    with group(3) as exchanges:
        # Its own memory and both ends of its pipe, and for each peer the memory and one end.
        assert opened() - before == 3 * (3 + 2 * 2)
        exchanges[0].close()
        exchanges[0].close()  # closing twice is allowed
    assert opened() == before


def test_closing_an_exchange_frees_shared_memory_at_once() -> None:
    """Without waiting for Python's garbage collection."""
    gc.collect()
    before = Path("/proc/self/maps").read_text().count("/memfd:gradfleet")  # of other tests in this process
    gc.disable()
    try:
        with group(2) as exchanges:
            declared = [((1_000,), np.float32)]
            arrays = [exchange.meet().arrays(0, declared) for exchange in exchanges]
            assert Path("/proc/self/maps").read_text().count("/memfd:gradfleet") >= before + 2
        del arrays, exchanges
        assert Path("/proc/self/maps").read_text().count("/memfd:gradfleet") == before
    finally:
        gc.enable()
