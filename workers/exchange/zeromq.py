"""Messages between the workers of one attempt, over ZeroMQ.

Every worker binds one socket to receive on and connects one to each peer. A message is a header and the frames that
its kind has; frames are received straight into buffers that were declared beforehand. Between workers that share memory
a message may have no frames and only say that data in memory is ready; it then goes through a pipe. A message that
does not carry this attempt's key, or that nothing was declared for, is dropped.

Sent buffers are not copied. This is safe as long as messages go in rounds, in which every worker sends a message to
every other one and waits for theirs: a worker changes what it sent only after it has received every peer's message of a
later round, and a peer sends that only after it has received this one.
"""

from __future__ import annotations

import hmac
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from math import ceil
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from workers.exchange.pipe import PipeOffer, ReceivingPipe, SendingPipe
from workers.exchange.shared_memory import MemoryOffer, SharedMemory
from workers.exchange.sharing import Sharing

KEY_BYTES = 32

# Seconds that `close` takes at most to send the last messages, which a peer that is gone never receives.
LINGER = 5.0

# After the key: attempt, step, kind, sender, and the sender's note.
HEADER = struct.Struct("<IQHHB")

# Bytes of the longest frame; a longer buffer travels in several. ZeroMQ allocates memory for a frame as soon as its
# length is announced, even by a stranger; it closes a connection that announces more than this. Measured on 407,050 and
# 2,000,000 floats, frames of this length are as fast as whole buffers, and frames of 64 KiB take 1.5 times as long.
MAX_FRAME = 4 << 20

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


class PeerSilentError(TimeoutError):
    """A worker waited too long for another one."""


class _RefusedError(ValueError):
    """A message is dropped; the text says why."""


@dataclass(frozen=True)
class Address:
    """Where a worker receives, and where workers on the same machine can open its memory and its pipe."""

    url: str
    memory: MemoryOffer | None
    pipe: PipeOffer | None


@dataclass(frozen=True)
class Membership:
    """This worker's rank among the `workers` of an attempt, and the key that only they know."""

    rank: int
    workers: int
    attempt: int
    key: bytes


class Exchange:
    """One worker's end of the exchange.

    `timeout` is how many seconds a peer may stay silent before `PeerSilentError` is raised. `refused` counts the
    messages that were dropped, by cause.
    """

    def __init__(self, membership: Membership, host: str, timeout: float) -> None:
        if len(membership.key) != KEY_BYTES:
            raise ValueError(f"the key has {len(membership.key)} bytes; it must have {KEY_BYTES}")
        self.membership = membership
        self.leads = membership.rank == LEADER
        self.peers = [rank for rank in range(membership.workers) if rank != membership.rank]
        self._timeout = timeout
        self._context = zmq.Context()
        self._inbox = self._socket(zmq.PULL)
        self._inbox.set(zmq.MAXMSGSIZE, MAX_FRAME)
        port = self._inbox.bind_to_random_port(f"tcp://{host}")
        self._poller = zmq.Poller()
        self._poller.register(self._inbox, zmq.POLLIN)
        # Memories by rank, this worker's own among them; peers' pipes by rank; this worker's pipe by descriptor.
        self._memories: dict[int, SharedMemory] = {}
        self._outgoing_pipes: dict[int, SendingPipe] = {}
        self._incoming_pipe: dict[int, ReceivingPipe] = {}
        self._files = ExitStack()
        memory, pipe = SharedMemory.create(), ReceivingPipe.create(KEY_BYTES + HEADER.size)
        if memory is not None:
            self._memories[membership.rank] = memory
            self._files.callback(memory.close)
        if pipe is not None:
            self._incoming_pipe[pipe.descriptor] = pipe
            self._files.callback(pipe.close)
            self._poller.register(pipe.descriptor, zmq.POLLIN)
        self.address = Address(f"tcp://{host}:{port}", memory.offer if memory else None, pipe.offer if pipe else None)
        # Which worker has opened whose memory: each worker sends its own row to all others.
        self._opened = np.eye(membership.workers, dtype=np.bool_)
        self._outboxes: dict[int, zmq.Socket[bytes]] = {}
        self._destinations: dict[int, dict[int, list[memoryview]]] = {}
        # By kind and step, the senders and their notes. A peer that is ahead may have sent those of its next step.
        self._arrived: dict[tuple[Kind, int], dict[int, int]] = {}
        self.refused: Counter[str] = Counter()

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        return socket

    def connect(self, addresses: Sequence[Address]) -> None:
        """Connect to every peer, and open its memory and its pipe where it is on this machine.

        `addresses` are those of all workers in order of rank.
        """
        for rank in self.peers:
            outbox = self._socket(zmq.PUSH)
            outbox.connect(addresses[rank].url)
            self._outboxes[rank] = outbox
            self._open_files(rank, addresses[rank])
        mine = self._opened[self.membership.rank]
        mine[list(self._memories)] = True
        self.receive_into(Kind.MEMORY, {rank: [self._opened[rank]] for rank in self.peers})
        # A quick peer may be ready before this worker has begun to wait for it.
        self.receive_into(Kind.READY, {rank: [] for rank in self.peers})
        self.send_to_all(Kind.MEMORY, 0, [mine])

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
        self._destinations[kind] = {rank: list(_frames(each)) for rank, each in buffers.items()}

    def send(self, kind: Kind, step: int, rank: int, buffers: Buffers, *, note: int = 0) -> None:
        """Send a message to one peer; the buffers must not change before the next exchange with it."""
        membership, outbox = self.membership, self._outboxes[rank]
        header = membership.key + HEADER.pack(membership.attempt, step, kind, membership.rank, note)
        if not buffers and rank in self._outgoing_pipes:
            self._outgoing_pipes[rank].send(header)
            return
        frames = list(_frames(buffers))
        outbox.send(header, zmq.SNDMORE if frames else 0)
        for left, frame in zip(reversed(range(len(frames))), frames, strict=True):
            outbox.send(frame, zmq.SNDMORE if left else 0, copy=False)

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
        while len(arrived) < len(self._outboxes):
            # After the deadline, messages that are here already are still received.
            ready = self._poller.poll(max(0, ceil((deadline - time.monotonic()) * 1000)))
            if not ready:
                silent = sorted(set(self._outboxes) - set(arrived))
                raise PeerSilentError(
                    f"worker {self.membership.rank} received nothing from worker {', '.join(map(str, silent))} for "
                    f"{self._timeout:g} s while it waited for {kind.name.lower()} of step {step}"
                )
            for source, _ in ready:
                is_socket = source is self._inbox
                self._receive_message(self._inbox.recv() if is_socket else self._incoming_pipe[source].receive())
        del self._arrived[(kind, step)]
        return arrived.get(LEADER, 0)

    def _receive_message(self, header: bytes) -> None:
        try:
            kind, step, rank, note = self._check(header)
            self._receive_frames(self._destinations[kind][rank])
        except _RefusedError as refused:
            self.refused[str(refused)] += 1
            while self._inbox.get(zmq.RCVMORE):
                self._inbox.recv()
        else:
            self._arrived.setdefault((kind, step), {})[rank] = note

    def _check(self, header: bytes) -> tuple[Kind, int, int, int]:
        """Kind, step, sender and note of a message of this attempt for which buffers were declared."""
        if len(header) != KEY_BYTES + HEADER.size:
            raise _RefusedError("no header")
        if not hmac.compare_digest(header[:KEY_BYTES], self.membership.key):
            raise _RefusedError("wrong key")
        attempt, step, kind, rank, note = HEADER.unpack_from(header, KEY_BYTES)
        if attempt != self.membership.attempt:
            raise _RefusedError("another attempt")
        if kind not in self._destinations:
            raise _RefusedError("unknown kind")
        if rank not in self._destinations[kind]:
            raise _RefusedError("unknown sender")
        return Kind(kind), step, rank, note

    def _receive_frames(self, buffers: Sequence[memoryview]) -> None:
        # No frames follow a message through the pipe. RCVMORE is then of the socket's last message, which was read to
        # its end.
        for buffer in buffers:
            if not self._inbox.get(zmq.RCVMORE):
                raise _RefusedError("too few frames")
            if self._inbox.recv_into(buffer) != buffer.nbytes:
                raise _RefusedError("wrong size")
        if self._inbox.get(zmq.RCVMORE):
            raise _RefusedError("too many frames")

    def close(self) -> None:
        """Close the sockets, after the messages that peers still wait for are sent or `LINGER` seconds have passed."""
        self._context.destroy(linger=round(min(self._timeout, LINGER) * 1000))
        self._files.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _frames(buffers: Buffers) -> Iterator[memoryview]:
    """Cut buffers into frames of at most `MAX_FRAME` bytes; a buffer of no bytes makes an empty frame."""
    for buffer in buffers:
        view = buffer.data.cast("B") if buffer.size else memoryview(bytearray())
        for start in range(0, max(view.nbytes, 1), MAX_FRAME):
            yield view[start : start + MAX_FRAME]
