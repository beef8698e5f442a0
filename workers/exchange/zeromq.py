"""The peer-to-peer exchange between the workers of one attempt, over ZeroMQ.

Every worker binds one socket to receive on and connects one to each peer. A message is a header and the frames that
its kind has; frames are received straight into buffers that were named beforehand. Between workers that share memory a
message may have no frames, and says that what is in memory is ready; it then goes through a pipe. A message that does
not carry this attempt's key, or that nobody waits for, is dropped.

Sent buffers are not copied. That is safe in a step's protocol: a worker changes what it sent only after it has heard
from every peer in the next exchange, and a peer answers there only after it has received this one.
"""

from __future__ import annotations

import hmac
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from math import ceil
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from workers.exchange.doorbell import BellOffer, BellRope, Doorbell
from workers.exchange.shared_memory import Offer, SharedMemory
from workers.exchange.sharing import Sharing

KEY_BYTES = 32

# Seconds that a worker stays to send its last messages, which a peer that is gone never takes.
FAREWELL = 5.0

# After the key: attempt, step, kind, sender, and the sender's order.
HEADER = struct.Struct("<IQHHB")

# Bytes of the longest frame; a longer buffer travels in several. ZeroMQ takes memory for a frame as soon as its length
# is announced, by whomever: it drops a connection that announces more than this. Measured on 407,050 and 2,000,000
# floats, frames of this length are as fast as whole buffers; those of 64 KiB take half as long again.
MAX_FRAME = 4 << 20

LEADER = 0  # the rank whose orders count

Buffers = Sequence[NDArray[Any]]


class Kind(IntEnum):
    """What a message carries."""

    GRADIENTS = 1
    PARAMETERS = 2
    EVALUATION = 3
    STATE = 4
    NORM = 5
    MEMORY = 6
    READY = 7


class Order(IntFlag):
    """What the leader asks of all workers after a step."""

    NONE = 0
    STOP = 1
    CHECKPOINT = 2


class PeerSilentError(TimeoutError):
    """A worker waited too long for another one."""


class _RefusedError(ValueError):
    """A message is dropped; says why."""


@dataclass(frozen=True)
class Address:
    """Where a worker receives, and where those on its machine can open its memory and its pipe."""

    url: str
    memory: Offer | None
    bell: BellOffer | None


@dataclass(frozen=True)
class Membership:
    """Who takes part in an attempt: this worker's rank among `workers`, and the key that all of them know."""

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
        self._membership = membership
        self._timeout = timeout
        self._context = zmq.Context()
        self._inbox = self._socket(zmq.PULL)
        self._inbox.set(zmq.MAXMSGSIZE, MAX_FRAME)
        port = self._inbox.bind_to_random_port(f"tcp://{host}")
        self._poller = zmq.Poller()
        self._poller.register(self._inbox, zmq.POLLIN)
        # Where they are to be had: by rank, memories and ropes of bells; by descriptor, this worker's own bell.
        self._memories: dict[int, SharedMemory] = {}
        self._ropes: dict[int, BellRope] = {}
        self._bells: dict[int, Doorbell] = {}
        self._files = ExitStack()
        memory, bell = SharedMemory.create(), Doorbell.create(KEY_BYTES + HEADER.size)
        if memory is not None:
            self._memories[membership.rank] = memory
            self._files.callback(memory.close)
        if bell is not None:
            self._bells[bell.descriptor] = bell
            self._files.callback(bell.close)
            self._poller.register(bell.descriptor, zmq.POLLIN)
        self.address = Address(f"tcp://{host}:{port}", memory.offer if memory else None, bell.offer if bell else None)
        # Who has opened whose memory: a row is what a worker has told of itself.
        self._opened = np.eye(membership.workers, dtype=np.bool_)
        self._outboxes: dict[int, zmq.Socket[bytes]] = {}
        self._destinations: dict[int, dict[int, list[memoryview]]] = {}
        # By kind and step, who sent it with which order. A peer that is ahead may be in it with its next step.
        self._arrived: dict[tuple[Kind, int], dict[int, Order]] = {}
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
        peers = {rank: address for rank, address in enumerate(addresses) if rank != self._membership.rank}
        for rank, address in peers.items():
            outbox = self._socket(zmq.PUSH)
            outbox.connect(address.url)
            self._outboxes[rank] = outbox
            self._open_files(rank, address)
        mine = self._opened[self._membership.rank]
        mine[list(self._memories)] = True
        self.receive_into(Kind.MEMORY, {rank: [self._opened[rank]] for rank in peers})
        self.receive_into(Kind.READY, {rank: [] for rank in peers})
        self.send_to_all(Kind.MEMORY, 0, [mine])

    def _open_files(self, rank: int, address: Address) -> None:
        memory = SharedMemory.open(address.memory) if address.memory else None
        if memory is None:
            return
        self._memories[rank] = memory
        self._files.callback(memory.close)
        rope = BellRope.open(address.bell) if address.bell else None
        if rope is not None:
            self._ropes[rank] = rope
            self._files.callback(rope.close)

    def meet(self) -> Sharing:
        """Wait until all workers have told whose memory they have opened, once.

        Raises `PeerSilentError` when a peer stays silent for too long.
        """
        self.receive(Kind.MEMORY, 0)
        return Sharing(self._opened, self._memories)

    def receive_into(self, kind: Kind, buffers: Mapping[int, Buffers]) -> None:
        """Name the buffers, by the sender's rank, that messages of a kind go to."""
        self._destinations[kind] = {rank: list(_frames(each)) for rank, each in buffers.items()}

    def send(self, kind: Kind, step: int, rank: int, buffers: Buffers, *, order: Order = Order.NONE) -> None:
        """Send a message to one peer; the buffers must stay as they are until the next exchange with it."""
        membership, outbox = self._membership, self._outboxes[rank]
        header = membership.key + HEADER.pack(membership.attempt, step, kind, membership.rank, order)
        if not buffers and rank in self._ropes:
            self._ropes[rank].pull(header)
            return
        frames = list(_frames(buffers))
        outbox.send(header, zmq.SNDMORE if frames else 0)
        for left, frame in zip(reversed(range(len(frames))), frames, strict=True):
            outbox.send(frame, zmq.SNDMORE if left else 0, copy=False)

    def send_to_all(self, kind: Kind, step: int, buffers: Buffers) -> None:
        """Send the same message to every peer."""
        for rank in self._outboxes:
            self.send(kind, step, rank, buffers)

    def receive(self, kind: Kind, step: int) -> Order:
        """Wait until the message of this kind and step has arrived from every peer; give the leader's order in it.

        Messages of other kinds that peers who are ahead have sent go to their own buffers meanwhile.
        Raises `PeerSilentError` when a peer stays silent for too long.
        """
        arrived = self._arrived.setdefault((kind, step), {})
        # One deadline for all: whatever else comes in meanwhile does not stand in for a peer.
        deadline = time.monotonic() + self._timeout
        while len(arrived) < len(self._outboxes):
            # What is here already is taken even when it is too late to wait.
            ready = self._poller.poll(max(0, ceil((deadline - time.monotonic()) * 1000)))
            if not ready:
                silent = sorted(set(self._outboxes) - set(arrived))
                raise PeerSilentError(
                    f"worker {self._membership.rank} heard nothing from worker {', '.join(map(str, silent))} for "
                    f"{self._timeout:g} s while it waited for {kind.name.lower()} of step {step}"
                )
            for source, _ in ready:
                self._receive_message(self._inbox.recv() if source is self._inbox else self._bells[source].hear())
        del self._arrived[(kind, step)]
        return arrived.get(LEADER, Order.NONE)

    def _receive_message(self, header: bytes) -> None:
        try:
            kind, step, rank, order = self._check(header)
            self._receive_frames(self._destinations[kind][rank])
        except _RefusedError as refused:
            self.refused[str(refused)] += 1
            while self._inbox.get(zmq.RCVMORE):
                self._inbox.recv()
        else:
            self._arrived.setdefault((kind, step), {})[rank] = order

    def _check(self, header: bytes) -> tuple[Kind, int, int, Order]:
        """Kind, step, sender and order of a message of this attempt that has somewhere to go."""
        if len(header) != KEY_BYTES + HEADER.size:
            raise _RefusedError("no header")
        if not hmac.compare_digest(header[:KEY_BYTES], self._membership.key):
            raise _RefusedError("wrong key")
        attempt, step, kind, rank, order = HEADER.unpack_from(header, KEY_BYTES)
        if attempt != self._membership.attempt:
            raise _RefusedError("another attempt")
        if kind not in self._destinations:
            raise _RefusedError("unknown kind")
        if rank not in self._destinations[kind]:
            raise _RefusedError("unknown sender")
        return Kind(kind), step, rank, Order(order)

    def _receive_frames(self, buffers: Sequence[memoryview]) -> None:
        # A message through the pipe is followed by nothing, as is then the last one that the socket gave.
        for buffer in buffers:
            if not self._inbox.get(zmq.RCVMORE):
                raise _RefusedError("too few frames")
            if self._inbox.recv_into(buffer) != buffer.nbytes:
                raise _RefusedError("wrong size")
        if self._inbox.get(zmq.RCVMORE):
            raise _RefusedError("too many frames")

    def close(self) -> None:
        """Close the sockets; what peers still wait for is sent first, unless that takes longer than `FAREWELL`."""
        self._context.destroy(linger=round(min(self._timeout, FAREWELL) * 1000))
        self._files.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _frames(buffers: Buffers) -> Iterator[memoryview]:
    """Cut buffers into frames of at most `MAX_FRAME` bytes; one of no bytes makes an empty frame."""
    for buffer in buffers:
        view = buffer.data.cast("B") if buffer.size else memoryview(bytearray())
        for start in range(0, max(view.nbytes, 1), MAX_FRAME):
            yield view[start : start + MAX_FRAME]
