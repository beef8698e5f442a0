"""A connection to another worker that is authenticated: messages go through it in both directions without waiting."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

# Bytes of a piece, and pieces of one system call. Between two calls the worker receives. A call that sends megabytes
# takes milliseconds, in which the other worker waits: 8 MB each way took twice as long (measured).
PIECE = 64 << 10
PIECES = 8


class Link:
    """One end of a connection to the worker `rank`.

    A message is a header of `header_bytes` and the bytes of its buffers. `buffers_for` returns where the buffers of a
    message go, given its header; it raises ValueError if it expects no such message.
    """

    def __init__(
        self,
        rank: int,
        connection: socket.socket,
        header_bytes: int,
        buffers_for: Callable[[bytes], Sequence[memoryview]],
    ) -> None:
        self.rank, self.descriptor = rank, connection.fileno()
        self._connection, self._buffers_for = connection, buffers_for
        self._header = memoryview(bytearray(header_bytes))
        self._within = False  # whether the header of the current message is complete
        self._missing = deque([self._header])
        self._unsent: deque[memoryview] = deque()

    @property
    def sending(self) -> bool:
        """Whether bytes wait until the connection takes more."""
        return bool(self._unsent)

    def send(self, parts: Sequence[memoryview]) -> None:
        """Begin to send the parts of a message. They must not change until all is sent."""
        for part in parts:
            self._unsent.extend(part[start : start + PIECE] for start in range(0, part.nbytes, PIECE))
        self.flush()

    def flush(self) -> None:
        """Send one call's worth of what waits. If the other worker has ended, it is lost."""
        try:
            sent = self._connection.sendmsg(list(islice(self._unsent, PIECES)))
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
            return
        while sent:
            piece = self._unsent.popleft()
            if sent < piece.nbytes:
                self._unsent.appendleft(piece[sent:])
            sent -= min(sent, piece.nbytes)

    def receive(self) -> bytes | None:
        """Receive what has arrived, up to the end of a message; returns its header, None if it is not complete.

        Raises EOFError if the connection has ended, and the errors of `buffers_for`.
        """
        while True:
            while self._missing:
                part = self._missing[0]
                try:
                    received = self._connection.recv_into(part)
                except BlockingIOError:
                    return None
                except OSError as error:
                    raise EOFError from error
                if not received:
                    raise EOFError
                if received == part.nbytes:
                    self._missing.popleft()
                else:
                    self._missing[0] = part[received:]
            header = bytes(self._header)
            self._within = not self._within
            if self._within:
                self._missing.extend(part for part in self._buffers_for(header) if part.nbytes)
            else:
                self._missing.append(self._header)
                return header

    def close(self, patience: float = 0.0) -> None:
        """Close the connection, after what waits is sent or `patience` seconds have passed."""
        with self._connection, suppress(OSError):
            self._connection.settimeout(max(0, patience))
            while self._unsent:
                self._connection.sendall(self._unsent.popleft())
            # The system discards what is on its way to the other worker if something that has arrived is not read.
            self._connection.setblocking(False)
            while self._connection.recv(PIECE):
                pass
        self._unsent.clear()
