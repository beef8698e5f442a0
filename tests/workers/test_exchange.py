from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from workers.exchange import KEY_BYTES, Exchange, Kind, Membership, PeerSilentError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG, SHORT = 30.0, 0.3  # seconds of silence: where an answer comes, and where none does
KEY = secrets.token_bytes(KEY_BYTES)
ATTEMPT = 3


@contextmanager
def group(workers: int, timeout: float = LONG) -> Iterator[list[Exchange]]:
    exchanges = [Exchange(Membership(rank, workers, ATTEMPT, KEY), "127.0.0.1", timeout) for rank in range(workers)]
    try:
        for exchange in exchanges:
            exchange.connect([each.address for each in exchanges])
        yield exchanges
    finally:
        for exchange in exchanges:
            exchange.close()


class Stranger:
    """A raw socket that writes to worker 0 of two what a peer would, or what nobody should."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.connect(address)

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """Worker 0 of two; the tests play the other one."""
    with Exchange(Membership(0, 2, ATTEMPT, KEY), "127.0.0.1", SHORT) as exchange:
        exchange.connect([exchange.address, "tcp://127.0.0.1:1"])
        yield exchange


@pytest.fixture
def stranger(exchange: Exchange) -> Iterator[Stranger]:
    stranger = Stranger(exchange.address)
    yield stranger
    stranger.close()


def header(
    *, key: bytes = KEY, attempt: int = ATTEMPT, step: int = 1, kind: int = 1, sender: int = 1, stop: int = 0
) -> bytes:
    """The header's layout, written down once more: little-endian, without padding."""
    numbers = ((attempt, 4), (step, 8), (kind, 2), (sender, 2), (stop, 1))
    return key + b"".join(number.to_bytes(size, "little") for number, size in numbers)


def buffers() -> list[np.ndarray[Any, Any]]:
    return [np.zeros(3, np.float32), np.zeros((2, 2), np.float64)]


FRAMES = (np.array([1, 2, 3], np.float32).tobytes(), np.array([[4, 5], [6, 7]], np.float64).tobytes())


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


JUNK: dict[str, tuple[bytes, ...]] = {
    "another key": (header(key=bytes(KEY_BYTES)), *FRAMES),
    "another attempt": (header(attempt=ATTEMPT - 1), *FRAMES),
    "an unknown kind": (header(kind=999), *FRAMES),
    "a kind that nobody waits for": (header(kind=Kind.STATE), *FRAMES),
    "an unknown sender": (header(sender=2), *FRAMES),
    "the worker itself as the sender": (header(sender=0), *FRAMES),
    "a short header": (header()[:-1], *FRAMES),
    "a long header": (header() + b"\0", *FRAMES),
    "no header": (b"",),
    "no frames": (header(),),
    "too few frames": (header(), FRAMES[0]),
    "too many frames": (header(), *FRAMES, b"more"),
    "an oversized frame": (header(), FRAMES[0], FRAMES[1] + b"more"),
    "an oversized first frame": (header(), FRAMES[0] * 100, FRAMES[1]),
    "a frame that is too small": (header(), FRAMES[0][:-1], FRAMES[1]),
}


@pytest.mark.parametrize("case", JUNK)
def test_a_foreign_message_is_dropped(exchange: Exchange, stranger: Stranger, case: str) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    stranger.send(*JUNK[case])
    with pytest.raises(PeerSilentError):
        exchange.receive(Kind.GRADIENTS, 1)
    # Messages of one connection stay in order: once the last of these is in, the others were looked at.
    for _ in range(3):
        stranger.send(*JUNK[case])
    stranger.send(header(), *FRAMES)
    exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES


def test_a_foreign_message_writes_into_no_buffer(exchange: Exchange, stranger: Stranger) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    for case in list(JUNK)[: list(JUNK).index("no header")]:
        stranger.send(*JUNK[case])
    with pytest.raises(PeerSilentError):
        exchange.receive(Kind.GRADIENTS, 1)
    assert not any(buffer.any() for buffer in inbox)


def test_a_flood_of_foreign_messages_does_not_stop_an_exchange(exchange: Exchange, stranger: Stranger) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    junk = list(JUNK.values())
    for index in range(1000):
        stranger.send(*junk[index % len(junk)])
    stranger.send(header(), *FRAMES)
    exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES


def test_foreign_messages_do_not_stand_in_for_a_silent_peer(exchange: Exchange, stranger: Stranger) -> None:
    exchange.receive_into(Kind.GRADIENTS, {1: buffers()})
    done = threading.Event()

    def chatter() -> None:
        while not done.wait(SHORT / 10):
            stranger.send(b"hello")

    chatting = threading.Thread(target=chatter)
    chatting.start()
    try:
        began = time.monotonic()
        with pytest.raises(PeerSilentError):
            exchange.receive(Kind.GRADIENTS, 1)
        assert time.monotonic() - began < SHORT + 2
    finally:
        done.set()
        chatting.join()


def test_a_silent_peer_is_named_in_time() -> None:
    with group(4, timeout=SHORT) as (here, one, _, three):
        here.receive_into(Kind.GRADIENTS, {rank: [np.zeros(1, np.float32)] for rank in (1, 2, 3)})
        for peer in (one, three):
            peer.send(Kind.GRADIENTS, 5, 0, [np.ones(1, np.float32)])
        began = time.monotonic()
        with pytest.raises(PeerSilentError, match=r"worker 0 .*worker 2 .*gradients of step 5"):
            here.receive(Kind.GRADIENTS, 5)
        assert SHORT * 0.9 <= time.monotonic() - began < SHORT + 2


def test_the_stop_flag_travels_with_its_step() -> None:
    with group(2) as (here, there):
        here.receive_into(Kind.GRADIENTS, {1: [np.zeros(1, np.float32)]})
        for step in (1, 2, 3):
            there.send(Kind.GRADIENTS, step, 0, [np.ones(1, np.float32)], stop=step == 3)
        here.receive(Kind.GRADIENTS, 1)
        here.receive(Kind.GRADIENTS, 2)
        assert here.last_step in {None, 3}
        here.receive(Kind.GRADIENTS, 3)
        assert here.last_step == 3
        assert there.last_step is None


def test_a_stranger_can_not_stop_a_job(exchange: Exchange, stranger: Stranger) -> None:
    exchange.receive_into(Kind.GRADIENTS, {1: buffers()})
    stranger.send(header(key=bytes(KEY_BYTES), stop=1), *FRAMES)
    stranger.send(header(attempt=ATTEMPT + 1, stop=1), *FRAMES)
    stranger.send(header(), *FRAMES)
    exchange.receive(Kind.GRADIENTS, 1)
    assert exchange.last_step is None


def test_who_leaves_has_sent_everything() -> None:
    """The last message of a job is not lost because its sender is done sooner than its receiver."""
    size = 8_000_000
    inbox = np.zeros(size, np.float32)
    with group(2) as (here, there):
        here.receive_into(Kind.STATE, {1: [inbox]})
        there.send_to_all(Kind.STATE, 1, [np.ones(size, np.float32)])
        leaving = threading.Thread(target=there.close)
        leaving.start()
        here.receive(Kind.STATE, 1)
        leaving.join()
    assert inbox.all()


def test_leaving_does_not_wait_for_ever_for_a_peer_that_is_gone(exchange: Exchange) -> None:
    exchange.send_to_all(Kind.GRADIENTS, 1, [np.ones(10, np.float32)])
    began = time.monotonic()
    exchange.close()
    assert time.monotonic() - began < SHORT + 2


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes; it must have 32"):
        Exchange(Membership(0, 1, 1, bytes(31)), "127.0.0.1", 1)
