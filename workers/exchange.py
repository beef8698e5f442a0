"""The peer-to-peer exchange between the workers of one attempt, over ZeroMQ.

Every worker binds one socket to receive on and connects one to each peer. A message is a header and the frames that
its kind has; frames are received straight into buffers that were named beforehand. A message that does not carry this
attempt's key, or that nobody waits for, is dropped.

Sent buffers are not copied. That is safe in a step's protocol: a worker changes what it sent only after it has heard
from every peer in the next exchange, and a peer answers there only after it has received this one.
"""

from __future__ import annotations

import hmac
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any

import zmq
from numpy.typing import NDArray

KEY_BYTES = 32

# Seconds that a worker stays to send its last messages, which a peer that is gone never takes.
FAREWELL = 5.0

# After the key: attempt, step, kind, sender, and whether the sender asks everybody to stop after this step.
HEADER = struct.Struct("<IQHH?")

Buffers = Sequence[NDArray[Any]]


class Kind(IntEnum):
    """What a message carries."""

    GRADIENTS = 1
    PARAMETERS = 2
    EVALUATION = 3
    STATE = 4
    NORM = 5


class PeerSilentError(TimeoutError):
    """A worker waited too long for another one."""


@dataclass(frozen=True)
class Membership:
    """Who takes part in an attempt: this worker's rank among `workers`, and the key that all of them know."""

    rank: int
    workers: int
    attempt: int
    key: bytes


class Exchange:
    """One worker's end of the exchange.

    `timeout` is how many seconds a peer may stay silent before `PeerSilentError` is raised. `last_step` is the step
    after which a peer asked everybody to stop, if one did.
    """

    def __init__(self, membership: Membership, host: str, timeout: float) -> None:
        if len(membership.key) != KEY_BYTES:
            raise ValueError(f"the key has {len(membership.key)} bytes; it must have {KEY_BYTES}")
        self._membership = membership
        self._timeout = timeout
        self._context = zmq.Context()
        self._inbox = self._socket(zmq.PULL)
        port = self._inbox.bind_to_random_port(f"tcp://{host}")
        self.address = f"tcp://{host}:{port}"
        self._outboxes: dict[int, zmq.Socket[bytes]] = {}
        self._destinations: dict[Kind, Mapping[int, Buffers]] = {}
        self._arrived: dict[tuple[Kind, int], set[int]] = {}
        self.last_step: int | None = None

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        return socket

    def connect(self, addresses: Sequence[str]) -> None:
        """Connect to every peer; `addresses` are those of all workers in order of rank."""
        for rank, address in enumerate(addresses):
            if rank != self._membership.rank:
                outbox = self._socket(zmq.PUSH)
                outbox.connect(address)
                self._outboxes[rank] = outbox

    def receive_into(self, kind: Kind, buffers: Mapping[int, Buffers]) -> None:
        """Name the buffers, by the sender's rank, that messages of a kind go to, one buffer for each frame."""
        self._destinations[kind] = buffers

    def send(self, kind: Kind, step: int, rank: int, frames: Buffers, *, stop: bool = False) -> None:
        """Send a message to one peer; the frames must stay as they are until the next exchange with it."""
        header = self._membership.key + HEADER.pack(self._membership.attempt, step, kind, self._membership.rank, stop)
        outbox = self._outboxes[rank]
        outbox.send(header, zmq.SNDMORE)
        for frame in frames[:-1]:
            outbox.send(frame.data, zmq.SNDMORE, copy=False)
        outbox.send(frames[-1].data, copy=False)

    def send_to_all(self, kind: Kind, step: int, frames: Buffers) -> None:
        """Send the same message to every peer."""
        for rank in self._outboxes:
            self.send(kind, step, rank, frames)

    def receive(self, kind: Kind, step: int) -> None:
        """Wait until the message of this kind and step has arrived from every peer.

        Messages of other kinds that peers who are ahead have sent go to their own buffers meanwhile.
        Raises `PeerSilentError` when a peer stays silent for too long.
        """
        arrived = self._arrived.setdefault((kind, step), set())
        # One deadline for all: whatever else comes in meanwhile does not stand in for a peer.
        deadline = time.monotonic() + self._timeout
        while len(arrived) < len(self._outboxes):
            while not self._inbox.poll(max(0, round((deadline - time.monotonic()) * 1000))):
                if time.monotonic() >= deadline:
                    silent = sorted(set(self._outboxes) - arrived)
                    raise PeerSilentError(
                        f"worker {self._membership.rank} heard nothing from worker {', '.join(map(str, silent))} for "
                        f"{self._timeout:g} s while it waited for {kind.name.lower()} of step {step}"
                    )
            self._receive_message()
        del self._arrived[(kind, step)]

    def _receive_message(self) -> None:
        header = self._inbox.recv()
        sender = self._check(header)
        if sender is not None:
            kind, step, rank = sender
            for position, buffer in enumerate(self._destinations[kind][rank]):
                if not self._inbox.get(zmq.RCVMORE):
                    break
                size = self._inbox.recv_into(buffer.data.cast("B"))
                if size != buffer.nbytes:
                    break
                if position == len(self._destinations[kind][rank]) - 1 and not self._inbox.get(zmq.RCVMORE):
                    self._arrived.setdefault((kind, step), set()).add(rank)
        while self._inbox.get(zmq.RCVMORE):
            self._inbox.recv()

    def _check(self, header: bytes) -> tuple[Kind, int, int] | None:
        """Kind, step and sender of a message of this attempt; None for anything else."""
        key = self._membership.key
        if len(header) != KEY_BYTES + HEADER.size or not hmac.compare_digest(header[:KEY_BYTES], key):
            return None
        attempt, step, kind, rank, stop = HEADER.unpack_from(header, KEY_BYTES)
        if attempt != self._membership.attempt or rank not in self._destinations.get(kind, {}):
            return None
        if stop:
            self.last_step = step
        return Kind(kind), step, rank

    def close(self) -> None:
        """Close the sockets; what peers still wait for is sent first, unless that takes longer than `FAREWELL`."""
        self._context.destroy(linger=round(min(self._timeout, FAREWELL) * 1000))

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
