"""Messages between the workers of one attempt.

Every worker has a connection to each peer. A message is a header and the buffers that its kind has; they are received
straight into memory that was declared beforehand. Between workers that share memory a message may have no buffers and
only say that data in memory is ready; it then goes through a pipe. A peer that sends anything else is disconnected.

Sent buffers are not copied, and are sent while the worker waits for messages: `receive` returns only when all that the
worker has sent is on its way. This does not block as long as messages go in rounds, in which every worker sends a
message to every other one and waits for theirs.
"""

from __future__ import annotations

import select
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from math import ceil
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.exchange.link import Link
from workers.exchange.meeting import KEY_BYTES, Membership, PeerSilentError, connections, listen
from workers.exchange.pipe import PipeOffer, ReceivingPipe, SendingPipe
from workers.exchange.shared_memory import MemoryOffer, SharedMemory
from workers.exchange.sharing import Sharing

__all__ = ["KEY_BYTES", "Address", "Exchange", "Kind", "Membership", "PeerSilentError"]

# Seconds that `close` takes at most to send the last messages, which a peer that is gone never receives.
LINGER = 5.0

# Attempt, step, kind, sender, the sender's note, and the bytes that follow.
HEADER = struct.Struct("<IQHHBQ")

LEADER = 0  # the rank whose notes count

Buffers = Sequence[NDArray[Any]]


class Kind(IntEnum):
    """What a message carries."""

    GRADIENTS = 1
    PARAMETERS = 2
    EVALUATION = 3
    STATE = 4
    SQUARES = 5
    MEMORY = 6
    READY = 7


class _RefusedError(ValueError):
    """A message is not one that was expected; the text says why."""


class _Header(NamedTuple):
    attempt: int
    step: int
    kind: int
    sender: int
    note: int
    length: int


@dataclass(frozen=True)
class Address:
    """Where a worker listens, and where workers on the same machine can open its memory and its pipe.

    The port is 0 for a worker that does not listen.
    """

    host: str
    port: int
    memory: MemoryOffer | None
    pipe: PipeOffer | None


class Exchange:
    """One worker's end of the exchange.

    `timeout` is how many seconds a peer may stay silent before `PeerSilentError` is raised. `refused` counts the
    connections and messages that were refused, by cause.
    """

    def __init__(self, membership: Membership, host: str, timeout: float) -> None:
        if len(membership.key) != KEY_BYTES:
            raise ValueError(f"the key has {len(membership.key)} bytes; it must have {KEY_BYTES}")
        self.membership = membership
        self.leads = membership.rank == LEADER
        self.peers = [rank for rank in range(membership.workers) if rank != membership.rank]
        self.refused: Counter[str] = Counter()
        self._timeout = timeout
        self._listener = listen(host, membership)
        self._poller = select.poll()
        # Connections by rank; those that can still be read, by descriptor; those that have more to send.
        self._links: dict[int, Link] = {}
        self._readable: dict[int, Link] = {}
        self._sending: set[Link] = set()
        # Memories by rank, this worker's own among them; peers' pipes by rank; this worker's pipe by descriptor.
        self._memories: dict[int, SharedMemory] = {}
        self._outgoing_pipes: dict[int, SendingPipe] = {}
        self._incoming_pipe: dict[int, ReceivingPipe] = {}
        self._files = ExitStack()
        memory, pipe = SharedMemory.create(), ReceivingPipe.create(HEADER.size)
        if memory is not None:
            self._memories[membership.rank] = memory
            self._files.callback(memory.close)
        if pipe is not None:
            self._incoming_pipe[pipe.descriptor] = pipe
            self._files.callback(pipe.close)
            self._poller.register(pipe.descriptor, select.POLLIN)
        port = self._listener.getsockname()[1] if self._listener else 0
        self.address = Address(host, port, memory.offer if memory else None, pipe.offer if pipe else None)
        # Which worker has opened whose memory: each worker sends its own row to all others.
        self._opened = np.eye(membership.workers, dtype=np.bool_)
        self._destinations: dict[int, dict[int, list[memoryview]]] = {}
        # By kind and step, the senders and their notes. A peer that is ahead may have sent those of its next step.
        self._arrived: dict[tuple[Kind, int], dict[int, int]] = {}

    def connect(self, addresses: Sequence[Address]) -> None:
        """Connect to every peer, and open its memory and its pipe where it is on this machine. All workers call this.

        `addresses` are those of all workers in order of rank. Raises `PeerSilentError`.
        """
        places = [(address.host, address.port) for address in addresses]
        try:
            sockets = connections(self.membership, self._listener, places, timeout=self._timeout, refused=self.refused)
        finally:
            self._stop_listening()
        for rank, connection in sockets.items():
            link = Link(rank, connection, HEADER.size, self._buffers_for)
            self._links[rank] = self._readable[link.descriptor] = link
            self._poller.register(link.descriptor, select.POLLIN)
        for rank in self.peers:
            self._open_files(rank, addresses[rank])
        mine = self._opened[self.membership.rank]
        mine[list(self._memories)] = True
        self.receive_into(Kind.MEMORY, {rank: [self._opened[rank]] for rank in self.peers})
        # A quick peer may be ready before this worker has begun to wait for it.
        self.receive_into(Kind.READY, {rank: [] for rank in self.peers})
        self.send_to_all(Kind.MEMORY, 0, [mine])

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _open_files(self, rank: int, address: Address) -> None:
        memory = SharedMemory.open(address.memory) if address.memory else None
        if memory is None:
            return
        self._memories[rank] = memory
        self._files.callback(memory.close)
        pipe = SendingPipe.open(address.pipe) if address.pipe else None
        if pipe is not None:
            self._outgoing_pipes[rank] = pipe
            self._files.callback(pipe.close)

    def meet(self) -> Sharing:
        """Wait, once, until all workers have said whose memory they have opened.

        Raises `PeerSilentError` when a peer stays silent for too long.
        """
        self.receive(Kind.MEMORY, 0)
        return Sharing(self._opened, self._memories)

    def receive_into(self, kind: Kind, buffers: Mapping[int, Buffers]) -> None:
        """Declare the buffers, by the sender's rank, that receive the messages of a kind."""
        self._destinations[kind] = {rank: [_bytes_of(buffer) for buffer in each] for rank, each in buffers.items()}

    def send(self, kind: Kind, step: int, rank: int, buffers: Buffers, *, note: int = 0) -> None:
        """Send a message to one peer; the buffers must not change before the next `receive` has returned."""
        membership, link = self.membership, self._links[rank]
        parts = [_bytes_of(buffer) for buffer in buffers]
        length = sum(part.nbytes for part in parts)
        header = HEADER.pack(membership.attempt, step, kind, membership.rank, note, length)
        if not buffers and rank in self._outgoing_pipes:
            self._outgoing_pipes[rank].send(header)
            return
        link.send([memoryview(header), *parts])
        if link.sending:
            self._sending.add(link)
            self._watch(link)

    def send_to_all(self, kind: Kind, step: int, buffers: Buffers) -> None:
        """Send the same message to every peer."""
        for rank in self.peers:
            self.send(kind, step, rank, buffers)

    def receive(self, kind: Kind, step: int) -> int:
        """Wait until the message of this kind and step has arrived from every peer; returns the leader's note.

        Meanwhile, messages of other kinds from peers that are ahead are received into their own buffers.
        Raises `PeerSilentError` when a peer stays silent for too long.
        """
        arrived = self._arrived.setdefault((kind, step), {})
        # One deadline for all peers: other messages that arrive meanwhile do not extend it.
        deadline = time.monotonic() + self._timeout
        while len(arrived) < len(self._links) or self._sending:
            # After the deadline, messages that are here already are still received.
            ready = self._poller.poll(max(0, ceil((deadline - time.monotonic()) * 1000)))
            if not ready:
                silent = sorted(set(self._links) - set(arrived)) or sorted(link.rank for link in self._sending)
                raise PeerSilentError(
                    f"worker {self.membership.rank} received nothing from worker {', '.join(map(str, silent))} for "
                    f"{self._timeout:g} s while it waited for {kind.name.lower()} of step {step}"
                )
            for descriptor, events in ready:
                if descriptor in self._incoming_pipe:
                    self._receive_signal(self._incoming_pipe[descriptor].receive())
                else:
                    self._serve(self._readable[descriptor], events)
        del self._arrived[(kind, step)]
        return arrived.get(LEADER, 0)

    def _serve(self, link: Link, events: int) -> None:
        """Send and receive what is possible on a connection."""
        try:
            if events & ~select.POLLOUT and (header := link.receive()) is not None:
                self._note_arrival(_Header(*HEADER.unpack(header)))
        except (EOFError, _RefusedError) as error:
            if isinstance(error, _RefusedError):
                self.refused[str(error)] += 1
            # The peer now counts as silent. If it has ended, the supervisor learns that from elsewhere.
            self._poller.unregister(link.descriptor)
            self._sending.discard(link)
            del self._readable[link.descriptor]
            link.close()
            return
        if link in self._sending:
            link.flush()
            if not link.sending:
                self._sending.discard(link)
                self._watch(link)

    def _watch(self, link: Link) -> None:
        if link.descriptor in self._readable:
            self._poller.modify(link.descriptor, select.POLLIN | (select.POLLOUT if link.sending else 0))

    def _receive_signal(self, header: bytes) -> None:
        try:
            self._buffers_for(header)
        except _RefusedError as refused:
            self.refused[str(refused)] += 1
        else:
            self._note_arrival(_Header(*HEADER.unpack(header)))

    def _note_arrival(self, header: _Header) -> None:
        self._arrived.setdefault((Kind(header.kind), header.step), {})[header.sender] = header.note

    def _buffers_for(self, content: bytes) -> Sequence[memoryview]:
        """Where the buffers go that follow a header. Raises `_RefusedError` if no such message is expected."""
        header = _Header(*HEADER.unpack(content))
        if header.attempt != self.membership.attempt:
            raise _RefusedError("another attempt")
        if header.kind not in self._destinations:
            raise _RefusedError("unknown kind")
        if header.sender not in self._destinations[header.kind]:
            raise _RefusedError("unknown sender")
        buffers = self._destinations[header.kind][header.sender]
        if header.length != sum(buffer.nbytes for buffer in buffers):
            raise _RefusedError("wrong size")
        return buffers

    def close(self) -> None:
        """Close the connections, after the messages that peers still wait for are sent or `LINGER` seconds passed."""
        deadline = time.monotonic() + min(self._timeout, LINGER)
        for link in self._links.values():
            link.close(deadline - time.monotonic())
        # Links refer to this object. Memory that the workers share is freed when nothing refers to it.
        self._links.clear()
        self._readable.clear()
        self._sending.clear()
        self._stop_listening()
        self._files.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _bytes_of(buffer: NDArray[Any]) -> memoryview:
    return buffer.data.cast("B") if buffer.size else memoryview(bytearray())
