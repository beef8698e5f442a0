"""The HTTP server: Uvicorn, with limits on what a client can hold before the application sees its request."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.http.problems import problem_response
from service.telemetry.instruments import REQUESTS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from service.http.connections import Connections

HEAD_BYTES = 32 * 1024  # of the request line and the headers together
HEADERS = 100
VERSIONS = {"1.0", "1.1"}
HEAD_SECONDS = 15.0  # in which they must arrive, counted from the connection or from the last response
# Many chunks of a body that are smaller than this on average cost more than their bytes, which other limits count.
CHUNKS, CHUNK_BYTES = 10_000, 64
PIPELINED = 8  # requests that wait for an earlier one of the same connection
# A client that reads less than this of a response in this time is disconnected.
READ_BYTES, READ_SECONDS = 64 * 1024, 30.0
# How much of the rest of a refused request is still read, and for how long, so that the client can read the response.
LINGER_BYTES, LINGER_SECONDS = 1024 * 1024, 2.0
# Input is parsed in pieces, so that limits are checked before the parser has copied much.
PIECE_BYTES = 16 * 1024
BACKLOG = 128  # connections that are accepted at a time, fewer than the reserved files
RETRY_AFTER = "5"  # seconds

log = logging.getLogger(__name__)


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose client must send its requests, and read the responses, within the limits of this module.

    Requests that the parser rejects, and those beyond the limits, are answered with problem details.
    """

    def __init__(self, *, open_connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._open = open_connections
        self._head = 0  # bytes of the head of the current request, and of its trailers
        self._unparsed = 0  # bytes that the parser holds or has ignored since it last reported something
        self._chunks, self._body = 0, 0  # parts of the body of the current request, and their bytes
        self._in_head = True
        self._fault: tuple[HTTPStatus, str] | None = None  # of the current request
        self._ignores_input = False  # the connection closes after the responses in progress
        self._ignored = 0  # bytes of such input
        self._refused_at: float | None = None
        self._running: RequestResponseCycle | None = None
        self._unread: tuple[float, int] | None = None  # since when the client has not read so many bytes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        # The application waits, and `_unread` is set, whenever something is left to send.
        transport.set_write_buffer_limits(high=0)
        if not self._open.add(self, transport.get_extra_info("socket")):
            detail = f"The service has too many open connections; try again in {RETRY_AFTER} s."
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": RETRY_AFTER})
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, also one that answers an earlier request than the last."""
        self._open.remove(self)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Parse input, until a limit is exceeded."""
        self._unset_keepalive_if_required()
        for begin in range(0, len(data), PIECE_BYTES):
            if self._ignores_input:
                self._ignore(len(data) - begin)
                return
            piece = data[begin : begin + PIECE_BYTES]
            self._unparsed += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._ignores_input = True  # no other protocol is served; what follows the request is not HTTP
                self.cycle.keep_alive = False
            except httptools.HttpParserInvalidMethodError:
                self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The request has an unknown method.")
            except httptools.HttpParserError:
                self._refuse(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")
            else:
                if self._unparsed > HEAD_BYTES:
                    self._note(*_too_large())
                if self._fault is not None:
                    self._refuse(*self._fault)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head = self._unparsed = self._chunks = self._body = 0
        self._in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; those after the body (trailers) are ignored."""
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._in_head and self._fault is None:
            super().on_header(name, value)
            if len(self.headers) > HEADERS:
                self._fault = _too_large()

    def on_headers_complete(self) -> None:
        """Start to serve the request."""
        self._unparsed = 0
        self._in_head = False
        if len(self.pipeline) >= PIPELINED:
            self._note(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests wait for a response.")
        if self.parser.get_http_version() not in VERSIONS:
            self._note(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The service supports HTTP/1.0 and HTTP/1.1.")
        if self._fault is None:
            self._open.serve(self)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        self._chunks += 1
        self._body += len(body)
        if self._chunks > CHUNKS and self._body < self._chunks * CHUNK_BYTES:
            self._note(HTTPStatus.BAD_REQUEST, "The body has too many small chunks.")
        if self._fault is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._unparsed = 0
        if self._fault is None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request, or wait for it."""
        super().on_response_complete()
        if self._running is None or self._running.response_complete:
            self._open.wait(self)

    def pause_writing(self) -> None:
        """Note that the client has not read everything."""
        super().pause_writing()
        self._unread = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Note that the client has read everything."""
        super().resume_writing()
        self._unread = None

    def sweep(self, now: float, waits_since: float | None) -> None:
        """Close the connection if its client has sent no request, or read nothing, for too long."""
        if self.transport.is_closing() and self._unread is None:
            self._unread = now, self.transport.get_write_buffer_size()
        if self._unread is not None and now - self._unread[0] >= READ_SECONDS:
            left = self.transport.get_write_buffer_size()
            if left > self._unread[1] - READ_BYTES:
                self.drop()
                return
            self._unread = now, left
        if waits_since is not None and now - waits_since >= HEAD_SECONDS and not self.transport.is_closing():
            if self._in_head and (self._head or self._unparsed):
                detail = f"The headers did not arrive within {HEAD_SECONDS:g} seconds."
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)
            self.transport.close()
        if self._refused_at is not None and now - self._refused_at >= LINGER_SECONDS:
            self.transport.close()

    @property
    def unread(self) -> tuple[float, int]:
        """Since when the client has not read what was sent, and how many bytes of it are left."""
        return (self._unread or (self.loop.time(), 0))[0], self.transport.get_write_buffer_size()

    def drop(self) -> None:
        """Close the connection immediately."""
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle

        async def until_stopped(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:  # only the server cancels requests: those that it does not wait for
                log.info("a request was cut off, since the service stops")
                if cycle.response_started:
                    cycle.disconnected = True
                    self.transport.abort()
                    return
                detail = "The service is stopping; try again."
                headers = {"Retry-After": RETRY_AFTER, "Connection": "close"}
                answer = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers)
                await answer(scope, receive, send)

        super()._start_asgi_task(cycle, cast("Any", until_stopped))

    def _ignore(self, size: int) -> None:
        self._ignored += size
        if self._refused_at is not None and self._ignored > LINGER_BYTES:
            self.transport.close()

    def _note(self, status: HTTPStatus, detail: str) -> None:
        """Note a fault of the current request; the first one counts."""
        if self._fault is None:
            self._fault = status, detail

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._head += size
        if self._head > HEAD_BYTES:
            self._note(*_too_large())

    def _refuse(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer a request that the application does not see, and close the connection."""
        self._ignores_input = True
        self._open.serve(self)
        served = self.cycle is not None and not self.cycle.response_complete
        if served and not self.cycle.more_body:
            self.cycle.keep_alive = False  # the fault is in a later request; this one gets its response
            return
        if not served or not (self.pipeline or self.cycle.response_started):
            REQUESTS.labels("other", "unmatched", int(status)).inc()
            log.info("a request was refused: %d", status, extra={"status": int(status)})
            answer = problem_response(status, detail, headers={**(headers or {}), "Connection": "close"})
            lines = [*self.server_state.default_headers, *answer.raw_headers]
            head = b"".join(b"%b: %b\r\n" % line for line in lines)
            self.transport.write(STATUS_LINE[status] + head + b"\r\n" + answer.body)
            if self.transport.can_write_eof():
                # Closing a connection with unread input resets it, and the client would not get the response.
                self.transport.write_eof()
                self._refused_at = self.loop.time()
                return
        self.transport.close()


def _too_large() -> tuple[HTTPStatus, str]:
    detail = f"The request line and the headers are larger than {HEAD_BYTES} bytes, or more than {HEADERS} headers."
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail


def make_server(app: ASGIApp, connections: Connections) -> uvicorn.Server:
    """An HTTP server of an application, with limits; run it with the sockets to listen on."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(LimitedProtocol, open_connections=connections)),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",  # the middleware does not check web sockets
            backlog=BACKLOG,
            timeout_graceful_shutdown=5,
        )
    )
