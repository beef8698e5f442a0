"""HTTP requests on persistent connections, from a client that needs little CPU.

At a fixed rate, requests are due at fixed times, even if earlier ones were not answered yet. The latency of a request
begins when it is due, so that a stall of the service counts for every request that had to wait.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 16


@dataclass(frozen=True)
class Load:
    """Latencies in seconds of the requests of a run of `seconds`, in the order in which they were answered."""

    latencies: list[float]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def milliseconds(self, quantile: float) -> float:
        return round(float(np.quantile(self.latencies, quantile)) * 1e3, 2)


class Connection:
    """A connection that is used for many requests."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> bytes:
        """Send a request and return the body of the response; RuntimeError unless its status is 2xx."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
        body = await reader.readexactly(int(fields["content-length"]))
        if not status.split()[1].startswith("2"):
            raise RuntimeError(f"{status}: {body.decode()}")
        return body

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


def request(url: str, method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(body)}\r\n"
    if body:
        head += "Content-Type: application/json\r\n"
    return f"{head}\r\n".encode() + body


def at_rate(url: str, make: Callable[[int], bytes], *, rate: float, seconds: float) -> Load:
    """Send `rate` requests a second; `make` returns the request of each number."""
    count = round(rate * seconds)

    async def run() -> Load:
        idle: asyncio.Queue[Connection] = asyncio.Queue()
        connections = [Connection(url) for _ in range(CONNECTIONS)]
        for connection in connections:
            idle.put_nowait(connection)
        latencies: list[float] = []
        start = time.perf_counter()

        async def one(number: int) -> None:
            due = start + number / rate
            await asyncio.sleep(due - time.perf_counter())
            connection = await idle.get()
            await connection.ask(make(number))
            idle.put_nowait(connection)
            latencies.append(time.perf_counter() - due)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(one(number))
        for connection in connections:
            await connection.close()
        return Load(latencies, time.perf_counter() - start)

    return asyncio.run(run())


def as_fast_as_possible(url: str, make: Callable[[int], bytes], *, clients: int, seconds: float) -> Load:
    """Send requests from a number of clients, each as soon as its last one is answered."""

    async def run() -> Load:
        latencies: list[float] = []
        start = time.perf_counter()

        async def client(offset: int) -> None:
            connection, number = Connection(url), offset
            while (sent := time.perf_counter()) < start + seconds:
                await connection.ask(make(number))
                latencies.append(time.perf_counter() - sent)
                number += clients
            await connection.close()

        async with asyncio.TaskGroup() as group:
            for offset in range(clients):
                group.create_task(client(offset))
        return Load(latencies, time.perf_counter() - start)

    return asyncio.run(run())
