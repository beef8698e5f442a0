"""Request ids, metrics and access log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from service.telemetry.instruments import EVENT_STREAMS, REQUEST_DURATION, REQUESTS
from service.telemetry.logs import request_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "X-Request-ID"
# Ids that a client may choose: nothing that could be misread in a log or a header.
ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Methods that become labels; each other one that a client invents would be another series.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

logger = logging.getLogger(__name__)


class Observed:
    """ASGI middleware that times, counts and logs every request.

    The response has the request's id in X-Request-ID: the client's, if it is valid, or a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        identity = _identity(scope)
        request_id.set(identity)
        status, streams = 0, False

        async def send_observed(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                status, streams = message["status"], _is_event_stream(headers)
                if streams:
                    EVENT_STREAMS.inc()
                message = {**message, "headers": [*headers, (REQUEST_ID.lower().encode(), identity.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except Exception:
            # The framework's error handler, outside of all middleware, responds and logs it.
            status = status or HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            if streams:
                EVENT_STREAMS.dec()
            if status:  # otherwise the client has disconnected
                _observe(scope, status, time.perf_counter() - begun, streams=streams)


def _observe(scope: Scope, status: int, seconds: float, *, streams: bool) -> None:
    # The route's template: the path would make one series per job, and the query may hold private data.
    route = getattr(scope.get("route"), "path", "unmatched")
    method = scope["method"] if scope["method"] in METHODS else "other"
    REQUESTS.labels(method, route, int(status)).inc()
    if not streams:
        REQUEST_DURATION.labels(method, route, int(status)).observe(seconds)
    fields = {"method": method, "route": route, "status": int(status), "duration_ms": round(1000 * seconds, 3)}
    job_id = scope.get("path_params", {}).get("job_id")
    logger.info("%s %s: %d", method, route, status, extra={**fields, "job_id": job_id})


def _is_event_stream(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _identity(scope: Scope) -> str:
    own = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
    return own if ACCEPTED_ID.fullmatch(own) else f"req_{secrets.token_hex(12)}"
