"""Many readers of live events, on one thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


class EventStreams:
    """A context manager that opens a stream for each of `paths` and counts their messages."""

    def __init__(self, url: str, paths: Sequence[str]) -> None:
        self._url, self._paths = url, paths
        self.messages = 0
        self._open = 0
        self._all_open, self._stop = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._all_open.wait(30):
            raise TimeoutError(f"only {self._open} of {len(self._paths)} streams are open after 30 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        readers = [asyncio.create_task(self._read(path)) for path in self._paths]
        await self._stop.wait()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def _read(self, path: str) -> None:
        parts = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        self._open += 1
        if self._open == len(self._paths):
            self._all_open.set()
        try:
            while chunk := await reader.read(65536):
                self.messages += chunk.count(b"data:")
        finally:
            writer.close()
