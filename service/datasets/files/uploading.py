"""Uploads: the body of a request is written to a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.errors import BadRequestError, RequestTimeoutError, TooLargeError, UnsupportedMediaTypeError
from service.http.limits import DRAIN_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHUNK_BYTES = 1024 * 1024
MEDIA_TYPE = "application/octet-stream"


def check_media_type(request: Request) -> None:
    """Raise UnsupportedMediaTypeError for any other type: pages of other sites can send those of forms."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != MEDIA_TYPE:
        message = f"The body must be {MEDIA_TYPE}, the file as it is, not {given or 'without a Content-Type'}."
        raise UnsupportedMediaTypeError(message)


async def receive_file(request: Request, path: Path, *, max_bytes: int, max_seconds: float) -> None:
    """Write the body to a new file while it arrives.

    Raises TooLargeError above `max_bytes`, RequestTimeoutError when nothing arrives for `max_seconds`, and
    BadRequestError for an empty or incomplete body.
    """
    declared = request.headers.get("content-length", "")
    size = 0
    with path.open("xb") as file:
        async for chunk in _chunks(request, max_seconds):
            size += len(chunk)
            if size <= max_bytes:
                await run_in_threadpool(file.write, chunk)
            elif size > max_bytes + DRAIN_BYTES or (declared.isdigit() and int(declared) > max_bytes + DRAIN_BYTES):
                break
    # The rest was read and discarded: a client that is still sending would not get the response.
    if size > max_bytes:
        raise TooLargeError(
            f"The file is larger than {max_bytes} bytes, the limit of this service for an upload.",
            headers={"Connection": "close"},
        )
    if not size:
        raise BadRequestError("The body is empty; it must be the file.")


async def _chunks(request: Request, max_seconds: float) -> AsyncIterator[bytes]:
    """The body in chunks of about a megabyte, large enough to be written in a thread."""
    pieces = aiter(request.stream())
    chunk = bytearray()
    try:
        while True:
            async with asyncio.timeout(max_seconds):
                piece = await anext(pieces, None)
            if piece is None:
                break
            chunk += piece
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    except TimeoutError:
        message = f"Nothing of the body arrived for {max_seconds:g} seconds, the limit of this service."
        raise RequestTimeoutError(message, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise BadRequestError("The body is incomplete.") from None
    yield bytes(chunk)
