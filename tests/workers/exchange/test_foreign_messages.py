"""Strangers at a worker's port, which is open only while its group forms: they have no effect and are counted."""

from __future__ import annotations

import hmac
import random
import resource
import secrets
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.workers.fixtures.exchanges import ATTEMPT, KEY, LONG, SHORT, group
from workers.exchange import meeting
from workers.exchange.messages import Exchange, Kind, Membership, PeerSilentError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
HELLO_BYTES, PROOF_BYTES = 38, 32
RECEIVED = np.array([1, 2, 3], np.float32)


def hello(*, attempt: int = ATTEMPT, rank: int = 1) -> bytes:
    """What a connecting worker sends first, encoded independently of the code."""
    return secrets.token_bytes(32) + attempt.to_bytes(4, "little") + rank.to_bytes(2, "little")


def proof(key: bytes, sent: bytes, nonce: bytes, *, to: int = 0, role: bytes = b"connects") -> bytes:
    return hmac.digest(key, role + sent + nonce + to.to_bytes(2, "little"), "sha256")


@contextmanager
def pair(timeout: float = LONG) -> Iterator[list[Exchange]]:
    """Two workers whose group has not formed yet: worker 0 listens."""
    exchanges = [Exchange(Membership(rank, 2, ATTEMPT, KEY), "127.0.0.1", timeout) for rank in range(2)]
    try:
        yield exchanges
    finally:
        for exchange in exchanges:
            exchange.close()


def check(exchanges: list[Exchange]) -> None:
    """The workers exchange messages."""
    inbox = np.zeros(3, np.float32)
    exchanges[0].receive_into(Kind.GRADIENTS, {1: [inbox]})
    exchanges[1].send_to_all(Kind.GRADIENTS, 1, [RECEIVED])
    exchanges[0].receive(Kind.GRADIENTS, 1)
    assert inbox.tobytes() == RECEIVED.tobytes()


def dial(exchange: Exchange) -> socket.socket:
    return socket.create_connection((exchange.address.host, exchange.address.port), timeout=LONG)


def read(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (part := connection.recv(count - len(received))):
        received += part
    return received


def is_closed(connection: socket.socket) -> bool:
    """Read until the other side has closed the connection."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.fixture(autouse=True)
def quick_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers that stay silent are disconnected soon. Workers that are slow on a busy machine try again."""
    monkeypatch.setattr(meeting, "HANDSHAKE", SHORT)


# What a stranger sends before it waits for the nonce, and why it is disconnected.
OPENINGS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no proof"),
    "half a hello": (hello()[:-1], "no proof"),
    "a hello and half a proof": (hello() + bytes(PROOF_BYTES - 1), "no proof"),
    "a request of another protocol": (
        b"GET / HTTP/1.1\r\nHost: worker.example.org:80\r\nAccept: */*\r\n\r\n" * 2,
        "wrong key",
    ),
    "random bytes": (random.Random(4).randbytes(100_000), "wrong key"),
    "zeros": (bytes(HELLO_BYTES + PROOF_BYTES), "wrong key"),
}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "silent"])
@pytest.mark.parametrize("case", OPENINGS)
def test_a_stranger_is_disconnected_and_counted(case: str, closed: bool) -> None:
    opening, cause = OPENINGS[case]
    with pair() as exchanges, dial(exchanges[0]) as connection, ThreadPoolExecutor(1) as pool:
        connection.sendall(opening)
        if closed:
            connection.shutdown(socket.SHUT_WR)
        forming = pool.submit(exchanges[0].connect, [each.address for each in exchanges])
        assert is_closed(connection)
        exchanges[1].connect([each.address for each in exchanges])
        forming.result()
        check(exchanges)
        assert exchanges[0].refused == {cause: 1}


@pytest.mark.parametrize(
    ("rank", "attempt", "key", "to", "role", "cause"),
    [
        (1, ATTEMPT, bytes(32), 0, b"connects", "wrong key"),
        (1, ATTEMPT, KEY, 1, b"connects", "wrong key"),
        (1, ATTEMPT, KEY, 0, b"accepts", "wrong key"),
        (1, ATTEMPT - 1, KEY, 0, b"connects", "another attempt"),
        (0, ATTEMPT, KEY, 0, b"connects", "unknown sender"),
        (2, ATTEMPT, KEY, 0, b"connects", "unknown sender"),
    ],
    ids=["another key", "another worker's", "the other role's", "an earlier attempt", "itself", "a rank too high"],
)
def test_a_proof_must_fit(rank: int, attempt: int, key: bytes, to: int, role: bytes, cause: str) -> None:
    with pair() as exchanges, dial(exchanges[0]) as connection, ThreadPoolExecutor(1) as pool:
        forming = pool.submit(exchanges[0].connect, [each.address for each in exchanges])
        sent = hello(rank=rank, attempt=attempt)
        connection.sendall(sent)
        connection.sendall(proof(key, sent, read(connection, 32), to=to, role=role))
        assert is_closed(connection)
        exchanges[1].connect([each.address for each in exchanges])
        forming.result()
        check(exchanges)
        assert exchanges[0].refused == {cause: 1}


def test_the_protocol_in_bytes_is_accepted() -> None:
    """Shows that the connections above are refused only because of what they lack."""
    with pair(timeout=SHORT) as (here, _), dial(here) as connection, ThreadPoolExecutor(1) as pool:
        forming = pool.submit(here.connect, [here.address, here.address])
        sent = hello()
        connection.sendall(sent)
        nonce = read(connection, 32)
        connection.sendall(proof(KEY, sent, nonce))
        assert read(connection, PROOF_BYTES) == proof(KEY, sent, nonce, role=b"accepts")
        forming.result()
        inbox = np.zeros(3, np.float32)
        here.receive_into(Kind.GRADIENTS, {1: [inbox]})
        numbers = ((ATTEMPT, 4), (1, 8), (Kind.GRADIENTS, 2), (1, 2), (0, 1), (12, 8))
        header = b"".join(number.to_bytes(size, "little") for number, size in numbers)
        connection.sendall(header + RECEIVED.tobytes())
        here.receive(Kind.GRADIENTS, 1)
        assert inbox.tobytes() == RECEIVED.tobytes()
        assert not here.refused


def test_a_recorded_handshake_is_of_no_use() -> None:
    with pair() as exchanges, ThreadPoolExecutor(1) as pool:
        addresses = [each.address for each in exchanges]
        forming = pool.submit(exchanges[0].connect, addresses)
        sent = hello()
        with dial(exchanges[0]) as first:
            first.sendall(sent)
            recorded = sent + proof(KEY, sent, read(first, 32))
        with dial(exchanges[0]) as second:
            second.sendall(recorded)
            assert is_closed(second)
        exchanges[1].connect(addresses)
        forming.result()
        check(exchanges)
        assert exchanges[0].refused == {"no proof": 1, "wrong key": 1}


def test_a_worker_sends_nothing_but_its_hello_to_a_stranger() -> None:
    """A stranger that listens at a worker's address learns no proof that another worker would accept."""
    with socket.create_server(("127.0.0.1", 0)) as stranger, pair(timeout=SHORT) as (here, there):
        stranger.settimeout(LONG)
        with ThreadPoolExecutor(1) as pool:
            address = here.address.__class__(*stranger.getsockname(), None, None)
            forming = pool.submit(there.connect, [address, there.address])
            connection, _ = stranger.accept()
            with connection:
                connection.settimeout(LONG)
                sent = read(connection, HELLO_BYTES)
                nonce = bytes(32)
                connection.sendall(nonce)
                assert read(connection, PROOF_BYTES) == proof(KEY, sent, nonce)
                connection.sendall(bytes(PROOF_BYTES))
                assert is_closed(connection)
            with pytest.raises(PeerSilentError):
                forming.result()


def test_a_group_that_has_formed_has_no_port() -> None:
    with group(3) as exchanges:
        for exchange in exchanges[:-1]:
            with pytest.raises(ConnectionRefusedError):
                dial(exchange)
        assert exchanges[-1].address.port == 0, "no worker connects to the last one"


def test_a_worker_alone_opens_no_port() -> None:
    with Exchange(Membership(0, 1, ATTEMPT, KEY), "127.0.0.1", SHORT) as exchange:
        assert exchange.address.port == 0
        exchange.connect([exchange.address])
        exchange.meet()


# Opens connections, each of which announces and sends megabytes, until it is told to stop. It also speaks ZeroMQ's
# protocol, which Gradfleet's workers once spoke.
FLOOD = """
import selectors, socket, sys
place, spare = ("127.0.0.1", int(sys.argv[1])), 300
zeromq = b"\\xff" + bytes(8) + b"\\x7f\\x03\\x00" + b"NULL".ljust(20, b"\\0") + bytes(32)
zeromq += b"\\x04\\x1a\\x05READY\\x0bSocket-Type\\0\\0\\0\\4PUSH"
zeromq += b"\\x04\\x1a\\x05READY\\x0bSocket-Type\\0\\0\\0\\4PUSH"
junk = zeromq + (b"\\x03" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)) * 4
kinds = [junk, b"\\xff" * (4 << 20), b"", b"x"]
selector, opened = selectors.DefaultSelector(), 0
print("begins", flush=True)
while True:
    while len(selector.get_map()) < spare:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(place)
        selector.register(connection, selectors.EVENT_WRITE, memoryview(kinds[opened % len(kinds)]))
        opened += 1
    for key, _ in selector.select(1):
        try:
            left = key.data[key.fileobj.send(key.data):] if key.data else key.data
        except OSError:
            selector.unregister(key.fileobj)
            key.fileobj.close()
        else:
            selector.modify(key.fileobj, selectors.EVENT_WRITE if left else selectors.EVENT_READ, left)
            if not left and opened % 3 == 0:
                selector.unregister(key.fileobj)
                key.fileobj.close()
"""


def test_a_flood_neither_fills_the_memory_nor_stops_the_group_from_forming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process without the key floods the port of a real worker from its opening to its end."""
    monkeypatch.setattr(meeting, "HANDSHAKE", LONG)
    workers, limit = 3, 32 << 20
    exchanges = [Exchange(Membership(rank, workers, ATTEMPT, KEY), "127.0.0.1", LONG) for rank in range(workers)]
    port = str(exchanges[0].address.port)
    command = [sys.executable, "-c", FLOOD, port]
    most = {"descriptors": 0, "resident": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most["descriptors"] = max(most["descriptors"], descriptors())
            most["resident"] = max(most["resident"], resident())

    before = {"descriptors": descriptors(), "resident": resident()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood, ThreadPoolExecutor(workers + 1) as pool:
        try:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "begins\n"
            watching = pool.submit(watch)
            addresses = [each.address for each in exchanges]
            first = pool.submit(exchanges[0].connect, addresses)
            # The others come when as many strangers as possible are in a handshake.
            while not {"wrong key", "too many connections"} <= exchanges[0].refused.keys():
                assert not first.done()
            list(pool.map(lambda exchange: exchange.connect(addresses), exchanges[1:]))
            first.result()
            check_sums(exchanges, pool)
        finally:
            done.set()
            flood.kill()
            for exchange in exchanges:
                exchange.close()
        watching.result()
    assert most["resident"] - before["resident"] < limit
    assert most["descriptors"] - before["descriptors"] < meeting.SPARE + 100
    with pytest.raises(ConnectionRefusedError):
        dial(exchanges[0])


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    """Open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def check_sums(exchanges: list[Exchange], pool: ThreadPoolExecutor, rounds: int = 40, size: int = 20_000) -> None:
    """No bit of what the workers send each other changes."""
    workers = len(exchanges)
    sent = np.random.default_rng(1).random((workers, rounds, size), np.float32)

    def work(rank: int) -> bool:
        exchange, peers = exchanges[rank], [peer for peer in range(workers) if peer != rank]
        exchange.meet()
        inbox = {peer: np.zeros(size, np.float32) for peer in peers}
        exchange.receive_into(Kind.GRADIENTS, {peer: [inbox[peer]] for peer in peers})
        exchange.receive_into(Kind.SQUARES, {peer: [] for peer in peers})
        same = True
        for step in range(rounds):
            exchange.send_to_all(Kind.GRADIENTS, step, [sent[rank, step]])
            exchange.receive(Kind.GRADIENTS, step)
            same = same and all(inbox[peer].tobytes() == sent[peer, step].tobytes() for peer in peers)
            # A peer sends its next message only after this one was compared.
            exchange.send_to_all(Kind.SQUARES, step, [])
            exchange.receive(Kind.SQUARES, step)
        return same

    assert list(pool.map(work, range(workers))) == [True] * workers
