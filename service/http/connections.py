"""The open connections of an HTTP server: how many there may be, and which of them wait too long."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING, Protocol

from service.components import ComponentStatus

if TYPE_CHECKING:
    import asyncio.trsock

# Files that are left for everything else: the database, uploads, datasets and the pipes of other processes.
RESERVED_FILES = 256
MOST_FILES = 65_536  # some programs, which inherit the limit, close every possible file when they start
MOST_UNREAD_BYTES = 512 * 1024**2  # of all responses that clients have not read
SWEEP_SECONDS = 1.0
WARNING_SECONDS = 10.0

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection, as its protocol class implements it."""

    def sweep(self, now: float, waits_since: float | None) -> None:
        """Close the connection if its client is too slow; `waits_since` is None while a request is served."""

    def drop(self) -> None:
        """Close the connection immediately."""

    @property
    def unread(self) -> tuple[float, int]:
        """Since when the client has not read what was sent, and how many bytes of it are left."""


def raise_file_limit() -> None:
    """Raise this process's limit on open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Connections:
    """The connections of one server. They all run in its event loop; `status` may be called in any thread.

    At most `most` are open, and fewer if the process has few files left. If there is no room, a new connection replaces
    the one that has waited longest without a request; if every connection has a request, the new one is refused.
    """

    def __init__(self, most: int) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Descriptors are numbered from the lowest free number, so a new one shows how many are in use.
        self._first_reserved = 2**63 if files == resource.RLIM_INFINITY else max(files // 2, files - RESERVED_FILES)
        self._most = min(most, self._first_reserved)
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, float] = {}  # since when they wait for a request, longest first
        self._refusing = False
        self._warned_at = -WARNING_SECONDS
        self._sweep: asyncio.TimerHandle | None = None

    def add(self, connection: Connection, socket: asyncio.trsock.TransportSocket | None) -> bool:
        """Add a connection, which waits for its first request; returns False if there is no room for it."""
        no_files = socket is not None and socket.fileno() >= self._first_reserved
        if no_files or len(self._open) >= self._most:
            self._warn("the process has too few files left" if no_files else f"{self._most} are open, the maximum")
            if not self._waiting:
                self._refusing = True
                return False
            longest = next(iter(self._waiting))
            self.remove(longest)
            longest.drop()
        self._refusing = False
        self._open.add(connection)
        self.wait(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_all)
        return True

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for a request."""
        if connection in self._open:
            self._waiting[connection] = asyncio.get_running_loop().time()

    def serve(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        self._waiting.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Remove a connection, which has been closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def status(self) -> ComponentStatus:
        """The number of open connections; not ready while new ones are refused."""
        refusing = self._refusing and len(self._open) > 0
        return ComponentStatus(
            ready=not refusing,
            detail=f"{len(self._open)} of at most {self._most} are open" + ("; new ones are refused" * refusing),
        )

    def _warn(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            log.warning("no room for new connections: %s; those without a request are closed", why)

    def _sweep_all(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._open):
            connection.sweep(now, self._waiting.get(connection))
        self._limit_unread()
        self._sweep = loop.call_later(SWEEP_SECONDS, self._sweep_all) if self._open else None

    def _limit_unread(self) -> None:
        """Drop the slowest readers if the responses that are not read take too much memory."""
        total = sum(connection.unread[1] for connection in self._open)
        if total > MOST_UNREAD_BYTES:
            for connection in sorted(self._open, key=lambda connection: connection.unread[0]):
                if total <= MOST_UNREAD_BYTES:
                    break
                total -= connection.unread[1]
                connection.drop()
