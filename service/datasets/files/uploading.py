"""Uploads: the body of a request is written to a file."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.errors import (
    BadRequestError,
    RequestTimeoutError,
    TooLargeError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from service.http.limits import DRAIN_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

CHUNK_BYTES = 1024 * 1024
SLOWEST = 16 * 1024  # bytes per second
MEDIA_TYPE = "application/octet-stream"


def check_media_type(request: Request) -> None:
    """Raise UnsupportedMediaTypeError for any other type: pages of other sites can send those of forms."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != MEDIA_TYPE:
        message = f"The body must be {MEDIA_TYPE}, the file as it is, not {given or 'without a Content-Type'}."
        raise UnsupportedMediaTypeError(message)


class Uploads:
    """The files that this process receives at the same time, and the time in which each must arrive."""

    def __init__(self, most: int, max_seconds: float) -> None:
        self._free, self._most, self.max_seconds = most, most, max_seconds

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one upload. Raises UnavailableError if there is none."""
        if not self._free:
            message = f"The service receives {self._most} files already, its limit; try again later."
            raise UnavailableError(message, headers={"Connection": "close"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def receive_file(request: Request, path: Path, *, max_bytes: int, max_seconds: float) -> None:
    """Write the body to a new file while it arrives.

    Raises UnavailableError if too many files arrive already, TooLargeError above `max_bytes`, BadRequestError for an
    empty or incomplete body, and RequestTimeoutError when it does not arrive within the time of an upload, or when too
    little of it arrives within `max_seconds`.
    """
    size = 0
    uploads: Uploads = request.app.state.uploads
    with uploads.place(), path.open("xb") as file:
        async for chunk in _chunks(request, max_seconds, uploads.max_seconds):
            size += len(chunk)
            if size <= max_bytes:
                await run_in_threadpool(file.write, chunk)
            elif size > max_bytes + DRAIN_BYTES:
                break
    # The rest was read and discarded: a client that is still sending would not get the response.
    if size > max_bytes:
        raise TooLargeError(
            f"The file is larger than {max_bytes} bytes, the limit of this service for an upload.",
            headers={"Connection": "close"},
        )
    if not size:
        raise BadRequestError("The body is empty; it must be the file.")


async def _chunks(request: Request, max_seconds: float, max_total: float) -> AsyncIterator[bytes]:
    """The body in chunks of about a megabyte, large enough to be written in a thread."""
    pieces = aiter(request.stream())
    chunk = bytearray()
    end = monotonic() + max_total
    since, arrived = monotonic(), 0
    try:
        while True:
            seconds = monotonic() - since
            if seconds >= max_seconds and arrived >= SLOWEST * seconds:
                since, arrived = monotonic(), 0
            # Without enough bytes, the time of the next piece is over at once.
            async with asyncio.timeout(min(since + max_seconds, end) - monotonic()):
                piece = await anext(pieces, None)
            if piece is None:
                break
            chunk += piece
            arrived += len(piece)
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    except TimeoutError:
        message = (
            f"The file arrives too slowly: the limits of this service are {max_total:g} seconds for all of it, and "
            f"{SLOWEST:,} bytes per second on average over {max_seconds:g} seconds."
        )
        raise RequestTimeoutError(message, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise BadRequestError("The body is incomplete.") from None
    yield bytes(chunk)
