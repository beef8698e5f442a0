"""Limits on the size of requests and on the time in which they must arrive, as ASGI middleware."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from service.http.problems import problem_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# How much of a rejected body is still read, and for how long, so that the client can read the response.
DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_SECONDS = 30
# Of the bodies of all requests in progress together.
MOST_BYTES = 256 * 1024 * 1024
RETRY_AFTER = "5"  # seconds


class BodyLimit:
    """ASGI middleware that answers 413 to a body above `max_bytes`, 408 to one that takes longer than `max_seconds`.

    A declared length is checked immediately, a streamed body while it arrives. The application gets a request within
    the limits with its body already read. `unread` has paths to which a POST passes with its body unread, and the
    largest length that it may declare; the endpoint applies its limits to what arrives.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_seconds: float, unread: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.app = app
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self.unread = unread
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        unread = scope["method"] == "POST" and scope["path"] in self.unread
        most = self.unread[scope["path"]] if unread else self.max_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            await self._refuse(scope, receive, send, most, more=True)
            return
        if unread:
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            await self._serve(body, scope, receive, send)
        finally:
            self._held -= len(body)

    async def _serve(self, body: bytearray, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, then let the application serve the request."""
        more = True
        try:
            async with asyncio.timeout(self.max_seconds):
                while more and len(body) <= self.max_bytes and self._held <= MOST_BYTES:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    piece = message.get("body", b"")
                    body += piece
                    self._held += len(piece)
                    more = message.get("more_body", False)
        except TimeoutError:
            detail = f"The body did not arrive within {self.max_seconds:g} seconds, the limit of this service."
            await _closing(scope, HTTPStatus.REQUEST_TIMEOUT, detail)(scope, receive, send)
            return
        if self._held > MOST_BYTES:
            detail = "The service receives too many bodies at once; try again later."
            answer = _closing(scope, HTTPStatus.SERVICE_UNAVAILABLE, detail, {"retry-after": RETRY_AFTER})
            await answer(scope, receive, send)
            return
        if len(body) > self.max_bytes:
            await self._refuse(scope, receive, send, self.max_bytes, more=more)
            return
        await self.app(scope, replayed(bytes(body), receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, most: int, *, more: bool) -> None:
        detail = f"The body is larger than {most} bytes, the limit of this service."
        await answer_early(_closing(scope, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail), receive, send, more=more)


async def answer_early(answer: Response, receive: Receive, send: Send, *, more: bool) -> None:
    """Send a response before the body has arrived; if there is `more` of it, the rest is read and discarded.

    Closing a connection with unread input resets it: a client that is still sending would not get the response.
    """
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    drained = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while more and drained < DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _closing(scope: Scope, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem after which the connection is closed, since the rest of the body was not read."""
    return problem_response(status, detail, instance=scope["path"], headers={"connection": "close", **(headers or {})})


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body which was read already, and then what follows it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_read() -> Message:
        return pending.pop() if pending else await receive()

    return receive_read
