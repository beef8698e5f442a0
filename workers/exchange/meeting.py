"""Authenticated connections between the workers of an attempt.

A worker listens only while its group forms. It connects to the workers of lower ranks and accepts those of higher
ranks. Both sides prove that they know the attempt's key, which is never sent, before either reads a message. Until
then, a stranger can make a worker store 70 bytes for `HANDSHAKE` seconds, on a bounded number of connections. The port
is closed as soon as all workers are connected.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

KEY_BYTES = 32
NONCE_BYTES = 32
DIGEST = "sha256"
PROOF_BYTES = 32

# What a connecting worker sends first: a nonce, the attempt, and its rank.
HELLO = struct.Struct(f"<{NONCE_BYTES}sIH")
RANK = struct.Struct("<H")

HANDSHAKE = 5.0  # seconds from the acceptance of a connection to its proof
RETRY = 0.05  # seconds until a worker tries again to connect or to accept
SPARE = 64  # connections, beyond those of all workers, that may be in the handshake at the same time


class PeerSilentError(TimeoutError):
    """A worker waited too long for another one."""


class _RefusedError(ValueError):
    """A connection is closed; the text says why."""


@dataclass(frozen=True)
class Membership:
    """This worker's rank among the `workers` of an attempt, and the key that only they know."""

    rank: int
    workers: int
    attempt: int
    key: bytes


def listen(host: str, membership: Membership) -> socket.socket | None:
    """Open a port for the workers of higher ranks; None for the last worker, to which no other one connects."""
    if membership.rank == membership.workers - 1:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=membership.workers + SPARE)
    listener.setblocking(False)
    return listener


def connections(
    membership: Membership,
    listener: socket.socket | None,
    addresses: Sequence[tuple[str, int]],
    *,
    timeout: float,
    refused: Counter[str],
) -> dict[int, socket.socket]:
    """Connect to all other workers; returns a socket for each, by rank, which does not block.

    All workers call this at the same time, each with the `addresses` at which the workers listen, by rank. `refused`
    counts the connections that were closed, by cause.
    Raises `PeerSilentError` if that takes longer than `timeout` seconds.
    """
    meeting = _Meeting(membership, refused)
    try:
        asyncio.run(meeting.run(listener, addresses[: membership.rank], timeout))
    except BaseException:
        for connection in meeting.connections.values():
            connection.close()
        raise
    return meeting.connections


class _Meeting:
    def __init__(self, membership: Membership, refused: Counter[str]) -> None:
        self.connections: dict[int, socket.socket] = {}
        self._membership, self._refused = membership, refused
        self._expected = range(membership.rank + 1, membership.workers)
        self._complete = asyncio.Event()
        # Handshakes of accepted connections, the oldest first.
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def run(self, listener: socket.socket | None, addresses: Sequence[tuple[str, int]], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        if listener is not None:
            loop.add_reader(listener, self._accept, listener)
        try:
            async with asyncio.timeout(timeout):
                async with asyncio.TaskGroup() as tasks:
                    for rank, address in enumerate(addresses):
                        tasks.create_task(self._connect(rank, address))
                if self._expected:
                    await self._complete.wait()
        except TimeoutError as error:
            silent = sorted({*range(self._membership.workers)} - {self._membership.rank, *self.connections})
            raise PeerSilentError(
                f"worker {self._membership.rank} could not connect to worker {', '.join(map(str, silent))} within "
                f"{timeout:g} s"
            ) from error
        finally:
            if listener is not None:
                loop.remove_reader(listener)
            for handshake in self._handshakes:
                handshake.cancel()
            await asyncio.gather(*self._handshakes, return_exceptions=True)

    async def _connect(self, rank: int, address: tuple[str, int]) -> None:
        """Connect to a worker of lower rank; try again until it accepts."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        while rank not in self.connections:
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, address)
                await self._prove_first(connection, rank)
            except (OSError, EOFError, _RefusedError):
                connection.close()
                await asyncio.sleep(RETRY)
            except BaseException:
                connection.close()
                raise
            else:
                self._keep(rank, connection)

    async def _prove_first(self, connection: socket.socket, rank: int) -> None:
        loop, membership = asyncio.get_running_loop(), self._membership
        hello = HELLO.pack(secrets.token_bytes(NONCE_BYTES), membership.attempt, membership.rank)
        await loop.sock_sendall(connection, hello)
        transcript = hello + await _read(connection, NONCE_BYTES) + RANK.pack(rank)
        await loop.sock_sendall(connection, self._proof(b"connects", transcript))
        await self._check_proof(connection, b"accepts", transcript)

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection."""
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # too many open files
            self._give_up_oldest()
            return
        connection.setblocking(False)
        if len(self._handshakes) >= self._membership.workers + SPARE:
            self._give_up_oldest()
        handshake = asyncio.create_task(self._admit(connection))
        self._handshakes[handshake] = None
        handshake.add_done_callback(partial(self._end, connection))

    def _give_up_oldest(self) -> None:
        # A worker takes milliseconds, so the oldest handshake is a stranger's.
        if self._handshakes:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
            self._refused["too many connections"] += 1

    def _end(self, connection: socket.socket, handshake: asyncio.Task[None]) -> None:
        self._handshakes.pop(handshake, None)
        if connection not in self.connections.values():
            connection.close()

    async def _admit(self, connection: socket.socket) -> None:
        """Keep an accepted connection if it is a worker's."""
        try:
            async with asyncio.timeout(HANDSHAKE):
                rank = await self._prove_second(connection)
        except _RefusedError as refused:
            self._refused[str(refused)] += 1
        except (TimeoutError, OSError, EOFError):
            self._refused["no proof"] += 1
        else:
            self._keep(rank, connection)

    async def _prove_second(self, connection: socket.socket) -> int:
        loop, membership = asyncio.get_running_loop(), self._membership
        hello = await _read(connection, HELLO.size)
        _, attempt, rank = HELLO.unpack(hello)
        nonce = secrets.token_bytes(NONCE_BYTES)
        await loop.sock_sendall(connection, nonce)
        transcript = hello + nonce + RANK.pack(membership.rank)
        await self._check_proof(connection, b"connects", transcript)
        if attempt != membership.attempt:
            raise _RefusedError("another attempt")
        if rank not in self._expected:
            raise _RefusedError("unknown sender")
        await loop.sock_sendall(connection, self._proof(b"accepts", transcript))
        return int(rank)

    def _keep(self, rank: int, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A worker whose connection broke during the handshake connects again.
        before = self.connections.pop(rank, None)
        if before is not None:
            before.close()
        self.connections[rank] = connection
        if self.connections.keys() >= {*self._expected}:
            self._complete.set()

    def _proof(self, role: bytes, transcript: bytes) -> bytes:
        return hmac.digest(self._membership.key, role + transcript, DIGEST)

    async def _check_proof(self, connection: socket.socket, role: bytes, transcript: bytes) -> None:
        if not hmac.compare_digest(await _read(connection, PROOF_BYTES), self._proof(role, transcript)):
            raise _RefusedError("wrong key")


async def _read(connection: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes. Raises EOFError if the connection ends before."""
    received = b""
    while len(received) < count:
        part = await asyncio.get_running_loop().sock_recv(connection, count - len(received))
        if not part:
            raise EOFError
        received += part
    return received
