"""Foreign data at a worker's port is dropped and has no effect. Messages that ZeroMQ delivers are counted."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import zmq

from tests.workers.fixtures.exchanges import ATTEMPT, KEY, LONG, SHORT, group
from workers.exchange.control import Command
from workers.exchange.zeromq import KEY_BYTES, MAX_FRAME, Address, Exchange, Kind, Membership, PeerSilentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FRAMES = (np.array([1, 2, 3], np.float32).tobytes(), np.array([[4, 5], [6, 7]], np.float64).tobytes())


def buffers() -> list[np.ndarray[Any, Any]]:
    return [np.zeros(3, np.float32), np.zeros((2, 2), np.float64)]


def header(
    *, key: bytes = KEY, attempt: int = ATTEMPT, step: int = 1, kind: int = 1, sender: int = 1, command: int = 0
) -> bytes:
    """A header, encoded independently of the code: little-endian, without padding."""
    numbers = ((attempt, 4), (step, 8), (kind, 2), (sender, 2), (command, 1))
    return key + b"".join(number.to_bytes(size, "little") for number, size in numbers)


class ForeignSender:
    """A raw socket that sends valid and invalid messages to worker 0 of two."""

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
    """Worker 0 of two. The other one sends nothing; the tests send messages in its name."""
    with (
        Exchange(Membership(0, 2, ATTEMPT, KEY), "127.0.0.1", SHORT) as exchange,
        Exchange(Membership(1, 2, ATTEMPT, KEY), "127.0.0.1", SHORT) as peer,
    ):
        exchange.connect([exchange.address, peer.address])
        yield exchange


@pytest.fixture
def sender(exchange: Exchange) -> Iterator[ForeignSender]:
    sender = ForeignSender(exchange.address.url)
    yield sender
    sender.close()


# The frames of a message, and why it is refused. Those before "no frames" must not change a buffer either.
JUNK: dict[str, tuple[tuple[bytes, ...], str]] = {
    "another key": ((header(key=bytes(KEY_BYTES)), *FRAMES), "wrong key"),
    "an earlier attempt": ((header(attempt=ATTEMPT - 1), *FRAMES), "another attempt"),
    "a later attempt": ((header(attempt=ATTEMPT + 1), *FRAMES), "another attempt"),
    "an unknown kind": ((header(kind=999), *FRAMES), "unknown kind"),
    "a kind that is not expected": ((header(kind=Kind.STATE), *FRAMES), "unknown kind"),
    "an unknown sender": ((header(sender=2), *FRAMES), "unknown sender"),
    "the worker itself as the sender": ((header(sender=0), *FRAMES), "unknown sender"),
    "a short header": ((header()[:-1], *FRAMES), "no header"),
    "a long header": ((header() + b"\0", *FRAMES), "no header"),
    "an empty frame": ((b"",), "no header"),
    "random bytes": ((random.Random(1).randbytes(300), random.Random(2).randbytes(9)), "no header"),
    "random bytes as long as a header": ((random.Random(3).randbytes(len(header())), *FRAMES), "wrong key"),
    "no frames": ((header(),), "too few frames"),
    "too few frames": ((header(), FRAMES[0]), "too few frames"),
    "too many frames": ((header(), *FRAMES, b"more"), "too many frames"),
    "an oversized frame": ((header(), FRAMES[0], FRAMES[1] + b"more"), "wrong size"),
    "an oversized first frame": ((header(), FRAMES[0] * 100, FRAMES[1]), "wrong size"),
    "a frame that is too small": ((header(), FRAMES[0][:-1], FRAMES[1]), "wrong size"),
}


@pytest.mark.parametrize("case", JUNK)
def test_a_foreign_message_is_dropped_and_counted(exchange: Exchange, sender: ForeignSender, case: str) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    message, cause = JUNK[case]
    # Messages of one connection stay in order: when the last one has arrived, the others have been checked.
    for _ in range(3):
        sender.send(*message)
    sender.send(header(), *FRAMES)
    exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES
    assert exchange.refused == {cause: 3}


@pytest.mark.parametrize("case", list(JUNK)[: list(JUNK).index("no frames")])
def test_a_foreign_message_writes_into_no_buffer(exchange: Exchange, sender: ForeignSender, case: str) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    sender.send(*JUNK[case][0])
    sender.send(b"the last one")
    with pytest.raises(PeerSilentError):
        exchange.receive(Kind.GRADIENTS, 1)
    assert sum(exchange.refused.values()) == 2
    assert not any(buffer.any() for buffer in inbox)


def test_a_flood_of_foreign_messages_does_not_stop_an_exchange(exchange: Exchange, sender: ForeignSender) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    junk = [message for message, _ in JUNK.values()]
    for index in range(1000):
        sender.send(*junk[index % len(junk)])
    sender.send(header(), *FRAMES)
    exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES
    assert sum(exchange.refused.values()) == 1000


def test_foreign_messages_do_not_replace_those_of_a_silent_peer(exchange: Exchange, sender: ForeignSender) -> None:
    exchange.receive_into(Kind.GRADIENTS, {1: buffers()})
    done = threading.Event()

    def send_junk() -> None:
        while not done.wait(SHORT / 10):
            sender.send(b"hello")

    thread = threading.Thread(target=send_junk)
    thread.start()
    try:
        with pytest.raises(PeerSilentError):
            exchange.receive(Kind.GRADIENTS, 1)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "case", ["another key", "a later attempt", "an unknown sender", "too few frames", "too many frames"]
)
def test_a_foreign_message_cannot_give_commands(case: str) -> None:
    """Not even in the name of worker 0, the leader."""
    peer = Exchange(Membership(1, 2, ATTEMPT, KEY), "127.0.0.1", SHORT)
    sender = ForeignSender(peer.address.url)
    try:
        peer.connect([Address("tcp://127.0.0.1:1", None, None), peer.address])
        peer.receive_into(Kind.GRADIENTS, {0: buffers()})
        changed = {"another key": {"key": bytes(KEY_BYTES)}, "a later attempt": {"attempt": ATTEMPT + 1}}
        fields: dict[str, Any] = {"sender": 2 if case == "an unknown sender" else 0, **changed.get(case, {})}
        frames = {"too few frames": FRAMES[:1], "too many frames": (*FRAMES, b"more")}.get(case, FRAMES)
        sender.send(header(**fields, command=Command.STOP), *frames)
        sender.send(header(sender=0, command=Command.CHECKPOINT), *FRAMES)
        assert peer.receive(Kind.GRADIENTS, 1) == Command.CHECKPOINT
        assert sum(peer.refused.values()) == 1
    finally:
        sender.close()
        peer.close()


# Bytes of ZeroMQ's protocol (ZMTP 3.0, https://rfc.zeromq.org/spec/23): the greeting and a PUSH socket's READY command.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY" + b"\x0bSocket-Type" + (4).to_bytes(4, "big") + b"PUSH"
HELLO = GREETING + b"\x04" + bytes([len(READY)]) + READY


def frame(content: bytes, *, more: bool, length: int | None = None) -> bytes:
    """A frame of a message. It announces `length`, if given, instead of its own length."""
    return bytes([2 | more]) + (len(content) if length is None else length).to_bytes(8, "big") + content


WHOLE = frame(header(), more=True) + frame(FRAMES[0], more=True) + frame(FRAMES[1], more=False)

# The bytes that a plain TCP connection sends: no complete message. Each part but the first follows an answer.
CONNECTIONS: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "random bytes": (random.Random(4).randbytes(10_000),),
    "a request of another protocol": (b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n",),
    "half a greeting": (GREETING[:31],),
    "a greeting and random bytes": (GREETING + random.Random(5).randbytes(1000),),
    "half a command": (HELLO[:-5],),
    "a frame before the end of the handshake": (HELLO + WHOLE,),
    "half a header": (HELLO, frame(header(), more=True)[:-20]),
    "a header without frames": (HELLO, frame(header(), more=True)),
    "half a frame": (HELLO, frame(header(), more=True) + frame(FRAMES[0], more=True)[:-3]),
    "half a message": (HELLO, frame(header(), more=True) + frame(FRAMES[0], more=True)),
    "all but the last byte": (HELLO, WHOLE[:-1]),
}


@contextmanager
def plain_connection(exchange: Exchange) -> Iterator[socket.socket]:
    url = urlsplit(exchange.address.url)
    with socket.create_connection((url.hostname, url.port), timeout=LONG) as connection:
        yield connection


def send_parts(connection: socket.socket, *parts: bytes) -> None:
    for index, part in enumerate(parts):
        if index:
            # The other side's greeting and READY end with its kind of socket.
            answer = b""
            while not answer.endswith(b"PULL"):
                answer += connection.recv(1)
        connection.sendall(part)


def test_the_protocol_in_bytes_is_accepted(exchange: Exchange) -> None:
    """Shows that the connections below have no effect only because of what they lack."""
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    with plain_connection(exchange) as connection:
        send_parts(connection, HELLO, WHOLE)
        exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "silent"])
@pytest.mark.parametrize("case", CONNECTIONS)
def test_an_incomplete_connection_has_no_effect(
    exchange: Exchange, sender: ForeignSender, case: str, closed: bool
) -> None:
    inbox = buffers()
    exchange.receive_into(Kind.GRADIENTS, {1: inbox})
    with plain_connection(exchange) as connection:
        send_parts(connection, *CONNECTIONS[case])
        if closed:
            connection.close()
        with pytest.raises(PeerSilentError):
            exchange.receive(Kind.GRADIENTS, 1)
        assert not any(buffer.any() for buffer in inbox)
        sender.send(header(), *FRAMES)
        exchange.receive(Kind.GRADIENTS, 1)
    assert tuple(buffer.tobytes() for buffer in inbox) == FRAMES


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 1 << 40, (1 << 64) - 1])
def test_a_connection_that_announces_a_long_frame_is_closed(exchange: Exchange, length: int) -> None:
    """Before any memory is allocated for it."""
    exchange.receive_into(Kind.GRADIENTS, {1: buffers()})
    with plain_connection(exchange) as connection:
        send_parts(connection, HELLO, frame(b"", more=False, length=length))
        assert is_closed(connection)


def test_a_connection_that_announces_the_longest_frame_stays_open(exchange: Exchange) -> None:
    """Shows that the test above can fail."""
    exchange.receive_into(Kind.GRADIENTS, {1: buffers()})
    with plain_connection(exchange) as connection:
        send_parts(connection, HELLO, frame(bytes(MAX_FRAME), more=False))
        with pytest.raises(PeerSilentError):
            exchange.receive(Kind.GRADIENTS, 1)
        assert exchange.refused == {"no header": 1}
        connection.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            is_closed(connection)


def is_closed(connection: socket.socket) -> bool:
    """Read until the other side has closed the connection."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


def test_no_bit_of_a_running_exchange_changes() -> None:
    size, rounds = 20_000, 60
    seed = time.time_ns()
    print(f"seed {seed}")  # noqa: T201
    sent = np.random.default_rng(seed).random((2, rounds, size), np.float32)
    received = np.zeros((2, rounds, size), np.float32)
    done = threading.Event()
    with group(2) as exchanges:

        def exchange_all(rank: int) -> None:
            exchange, inbox = exchanges[rank], np.zeros(size, np.float32)
            exchange.receive_into(Kind.GRADIENTS, {1 - rank: [inbox]})
            for step in range(rounds):
                exchange.send_to_all(Kind.GRADIENTS, step, [sent[rank, step]])
                exchange.receive(Kind.GRADIENTS, step)
                received[rank, step] = inbox
                # The peer sends its next message only after this one was copied.
                exchange.receive_into(Kind.SQUARES, {1 - rank: [np.zeros(0, np.float32)]})
                exchange.send_to_all(Kind.SQUARES, step, [np.zeros(0, np.float32)])
                exchange.receive(Kind.SQUARES, step)

        def write_junk() -> None:
            senders = [ForeignSender(exchange.address.url) for exchange in exchanges]
            chance = random.Random(seed)
            while not done.is_set():
                for exchange, sender in zip(exchanges, senders, strict=True):
                    message, _ = JUNK[chance.choice(list(JUNK)[: list(JUNK).index("no frames")])]
                    sender.send(*message)
                    with plain_connection(exchange) as connection:
                        send_parts(connection, *CONNECTIONS[chance.choice(list(CONNECTIONS))])
            for sender in senders:
                sender.close()

        def in_threads(*works: Callable[[], None]) -> list[threading.Thread]:
            threads = [threading.Thread(target=work) for work in works]
            for thread in threads:
                thread.start()
            return threads

        (writer,) = in_threads(write_junk)
        try:
            for thread in in_threads(lambda: exchange_all(0), lambda: exchange_all(1)):
                thread.join()
        finally:
            done.set()
            writer.join()
        assert all(exchange.refused for exchange in exchanges)
    assert received[::-1].tobytes() == sent.tobytes()
